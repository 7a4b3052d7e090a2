"""The verbs of operation: keep what a site was taught and bring it back; run as a service of systemd."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.context import DEFAULT_RATE_HZ, ConfigOption, Context, JsonOption, StateOption
from monitor.output import log_to_stderr, print_line, progress_of, say

if TYPE_CHECKING:
    from monitor.backup import Told

SiteOption = Annotated[Path, typer.Option(help="A folder for each camera, with its recordings and their truth files.")]

service_app = typer.Typer(help="Run as a service of systemd: install, status, uninstall.", no_args_is_help=True)
RootOption = Annotated[Path, typer.Option("--root", help="Where the system's files are; another one for an image.")]


def backup(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Write classes, checked frames, site knowledge, accounts and configuration to a file; the program may run on."""
    from monitor.backup import backup as write

    context = Context(config, state)
    _print(write(context.state_dir, context.path, out), "kept", as_json=as_json)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `wildlane backup`.")],
    force: Annotated[bool, typer.Option(help="Put it in the place of what the state folder holds.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Bring back what a backup holds; the program must not run. The journal is left as it is."""
    from monitor.backup import restore as read

    context = Context(config, state)
    _print(read(file, context.state_dir, force=force), "restored", as_json=as_json)


def accept(
    site: SiteOption,
    out: Annotated[Path, typer.Option(help="The sheet to write.")] = Path("acceptance.html"),
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Judge a site's own recordings, camera by camera, and write the sheet that a road agency signs.

    A folder that is named like a configured camera is read with that camera's rate, masks, zones and budgets.
    """
    from monitor.accept import accept as judge_site
    from monitor.accept import recordings_of
    from monitor.assembly import source_as
    from monitor.config import CameraConfig
    from monitor.report import judged, write_report

    context = Context(config, state)
    log_to_stderr(context.config.log_format)
    recordings = recordings_of(site)
    settings = {name: context.config.cameras.get(name, CameraConfig(source=name)) for name in recordings}
    albums = judge_site(
        recordings,
        context.pipelines(None),
        lambda camera, clip: source_as(camera, settings[camera], str(clip)),
        progress_of,
    )
    cameras = [judged(name, own) for name, own in albums.items()]
    everything = [album for own in albums.values() for album in own]
    write_report(out, everything, title=f"Site acceptance: {context.config.site}", cameras=cameras)
    whole = judged("all", everything)
    if as_json:
        told = {"site": context.config.site, "cameras": [one.answer() for one in cameras], "all": whole.answer()}
        print_line(json.dumps(told | {"sheet": str(out)}))
        return
    for one in [*cameras, whole]:
        seconds = "" if one.median_s is None else f", {one.median_s:.1f} s to the alert (median)"
        print_line(
            f"{one.name}: {one.found.hits} of {one.found.of} animals found, {one.rate.count if one.rate else 0} false "
            f"in {one.hours:.2f} hours{seconds}"
        )
    say(f"written: {out}")


def calibrate(
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP...", help="Recordings on which no animal is seen.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Learn what a site without animals looks like, and that what was taken for one there is none.

    Whoever gives a recording with an animal teaches that it is none: `wildlane classes rollback` takes that back.
    """
    from contextlib import closing

    from adapters.golden import GoldenSet
    from adapters.site_knowledge import Background
    from monitor.calibrate import Site
    from monitor.calibrate import calibrate as learn_from

    context = Context(config, state)
    log_to_stderr(context.config.log_format)
    classifier = context.classifier()
    with (
        context.store(classifier) as store,
        closing(GoldenSet(context.state_dir)) as golden,
        closing(Background(classifier, context.state_dir)) as background,
    ):
        build = partial(context.pipelines_of, classifier)
        told = learn_from(clips, Site(classifier, store, golden, background, build), DEFAULT_RATE_HZ, say)
    if as_json:
        print_line(json.dumps(told.answer()))
        return
    print_line(
        f"{60 * told.hours:.1f} minutes without animals: {told.kinds} kinds of background learned; false alarms "
        f"{len(told.before)} before, {len(told.after)} now"
    )
    for alarm in told.before:
        print_line(f"  {alarm.name} was taken for {alarm.label} ({alarm.probability:.2f})")
    if told.version:
        state_of = f"not live: {told.held_back}" if told.held_back else "live"
        print_line(f"{told.said} of them are known to be no animal now: {told.version}, {state_of}")


def _print(told: Told, did: str, *, as_json: bool) -> None:
    if as_json:
        print_line(json.dumps(asdict(told)))
        return
    print_line(f"{told.file}: {did} {', '.join(told.databases)} and {told.crops} crops, {told.size_bytes / 1e6:.1f} MB")


@service_app.command("install", epilog="Example: sudo /opt/wildlane/bin/wildlane service install --config site.toml")
def service_install(config: ConfigOption = None, root: RootOption = Path("/"), as_json: JsonOption = False) -> None:
    """Put the unit and, where there is none, the configuration in place, and start; run again after an update."""
    from monitor.service import install

    _print_steps(install(config, root), as_json=as_json)


@service_app.command("status", epilog="Example: wildlane service status --json")
def service_status(as_json: JsonOption = False) -> None:
    """Tell how the service is; exit status 1 where it does not run."""
    from monitor.service import status

    state = status()
    if as_json:
        print_line(json.dumps(asdict(state)))
    else:
        print_line(f"{state.active} ({state.sub}), result {state.result}, {state.restarts} restarts; {state.text}")
    if state.active != "active":
        raise typer.Exit(1)


@service_app.command("uninstall", epilog="Example: sudo wildlane service uninstall")
def service_uninstall(root: RootOption = Path("/"), as_json: JsonOption = False) -> None:
    """Stop, and take the unit away; configuration and state stay."""
    from monitor.service import uninstall

    _print_steps(uninstall(root), as_json=as_json)


def _print_steps(steps: list[str], *, as_json: bool) -> None:
    if as_json:
        print_line(json.dumps({"did": steps}))
        return
    for step in steps:
        print_line(step)
