"""The verbs of a fleet: a centre's folder of releases, a roll-out that tries them on one site, a site that follows."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, get_args

import typer

from adapters.errors import ConfigError
from monitor.context import ConfigOption, Context, JsonOption, StateOption, names_of
from monitor.fleet.names import Kind
from monitor.output import print_line, say

fleet_app = typer.Typer(
    help="Class sets and models for many sites: signed releases, tried on one site first.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

FolderArgument = Annotated[Path, typer.Argument(help="The folder of releases, which a web server serves over HTTPS.")]
KeyOption = Annotated[Path, typer.Option(help="Ed25519 private key of the releases, PEM.")]


@fleet_app.command("create", epilog="Example: wildlane fleet create releases --root-key root.pem --key releases.pem")
def fleet_create(
    folder: FolderArgument,
    root_key: Annotated[Path, typer.Option(help="Ed25519 private key, PEM, that stays in a safe.")],
    key: KeyOption,
) -> None:
    """Make a folder of releases; a key is made by `openssl genpkey -algorithm ed25519 -out key.pem`."""
    from monitor.fleet.releases import Releases

    Releases.create(folder, root_key, key)
    print_line(f"{folder}: no release yet; give each site {folder / 'metadata/1.root.json'} as its root_file")


@fleet_app.command("add", epilog="Example: wildlane fleet add releases 2026-11-27 site.classes --key releases.pem")
def fleet_add(
    folder: FolderArgument,
    release: Annotated[str, typer.Argument(help="Its name: a-z, 0-9, '.' and '-'.")],
    brought: Annotated[Path, typer.Argument(help="A file of `wildlane classes export`, or the folder of a model.")],
    key: KeyOption,
) -> None:
    """Add a file of classes, or a model, as a release, which no site has yet."""
    from monitor.fleet.releases import Releases

    kind = Releases(folder, key).add(release, brought)
    print_line(f"{release} ({kind}): added; `wildlane fleet roll-out` gives it to sites")


@fleet_app.command("assign", epilog="Example: wildlane fleet assign releases none --sites km41 --key releases.pem")
def fleet_assign(
    folder: FolderArgument,
    release: Annotated[str, typer.Argument(help="A release, or `none`: back to what a site had before any.")],
    sites: Annotated[str, typer.Option(help="A,B,...")],
    key: KeyOption,
    kind: Annotated[Kind, typer.Option(help="With `none`: what to go back with.")] = "classes",
) -> None:
    """Give sites a release at once, an earlier one too; they take it at their next look."""
    from monitor.fleet.releases import Releases

    names, releases = _sites(sites), Releases(folder, key)
    if release == "none":
        releases.assign(kind, dict.fromkeys(names))
    else:
        releases.assign(releases.kind_of(release), dict.fromkeys(names, release))
    print_line(f"{release}: {', '.join(names)}")


@fleet_app.command("renew", epilog="Example: wildlane fleet renew releases --key releases.pem")
def fleet_renew(folder: FolderArgument, key: KeyOption) -> None:
    """Sign anew what holds for ninety days; after that no site believes it any more."""
    from monitor.fleet.releases import RELEASE_DAYS, Releases

    Releases(folder, key).renew()
    print_line(f"{folder}: signed for {RELEASE_DAYS} days from now")


@fleet_app.command("roll-out")
def fleet_roll_out(
    folder: FolderArgument,
    release: str,
    key: KeyOption,
    first: Annotated[str, typer.Option(help="Sites that try it: A,B,...")],
    rest: Annotated[str, typer.Option(help="Sites that follow, and are compared with meanwhile: A,B,...")] = "",
    take_s: Annotated[float, typer.Option(min=1, help="Seconds for a site to put it in force.")] = 1800.0,
    watch_s: Annotated[float, typer.Option(min=0, help="Seconds to watch the first sites.")] = 86_400.0,
    most_dismissed: Annotated[int, typer.Option(min=0, help="Situations that people may dismiss there meanwhile.")] = 0,
    config: ConfigOption = None,
) -> None:
    """Give a release to the first sites, watch them beside the others, and go on or back; exit status 4 where back.

    Back it goes where a first site does not take it, holds it back, is no longer online, where people dismiss its
    situations, or where it alerts more than three times as often as the others. [broker] of the configuration is the
    centre's.
    """
    from monitor.alerts.subscriber import Subscriber
    from monitor.assembly import address_of
    from monitor.fleet.releases import Releases
    from monitor.fleet.rollout import TOPICS, Board, Plan, roll_out

    context, releases = Context(config, None), Releases(folder, key)
    plan = Plan(
        release=release,
        kind=releases.kind_of(release),
        first=_sites(first),
        rest=_sites(rest, least=0),
        take_s=take_s,
        watch_s=watch_s,
        most_dismissed=most_dismissed,
    )
    subscriber = Subscriber(address_of(context.config, context.config.broker.port), "wildlane/v1", TOPICS)
    with closing(subscriber):
        if not roll_out(releases, Board(subscriber), plan, print_line):
            raise typer.Exit(4)


@fleet_app.command("show")
def fleet_show(folder: FolderArgument, key: KeyOption, as_json: JsonOption = False) -> None:
    """Show the releases, and which site is to have which."""
    from monitor.fleet.releases import Releases

    releases = Releases(folder, key)
    assigned = {kind: releases.assignments(kind) for kind in get_args(Kind)}
    if as_json:
        print_line(json.dumps({"releases": releases.kinds, "sites": assigned}))
        return
    for name, kind in releases.kinds.items():
        sites = ", ".join(site for site, release in assigned[kind].items() if release == name)
        print_line(f"{name} ({kind}): {sites or 'no site'}")


@fleet_app.command("screen", epilog="Example: wildlane fleet screen --config centre.toml --state centre")
def fleet_screen(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Of the page; [console] port where it is given.")] = 8090,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Serve a page of all sites that the broker lets us hear: status, animals, cameras, class sets.

    [broker] of the configuration is the centre's, [console] says where the page is; accounts are in the state folder.
    """
    import signal
    import threading
    from contextlib import ExitStack

    from monitor.alerts.subscriber import Subscriber
    from monitor.assembly import address_of
    from monitor.console.accounts import Accounts
    from monitor.console.server import ConsoleServer
    from monitor.console.sites import TOPICS, Listening, SitesBoard, make_screen

    context, stop, board = Context(config, state), threading.Event(), SitesBoard()
    broker, console = context.config.broker, context.config.console
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as parts:
        subscriber = Subscriber(address_of(context.config, broker.port), "wildlane/v1", TOPICS)
        parts.callback(Listening(subscriber, board).close)
        accounts = parts.enter_context(closing(Accounts(context.state_dir)))
        app = make_screen(context.config.site, board, accounts, https=console.https)
        server = ConsoleServer(console.host, port if console.port is None else console.port, app)
        parts.callback(server.stop)
        say(f"sites: http://{console.host}:{server.port}")
        if accounts.token_path is not None:
            say(f"nobody has an account; the first one needs the token in {accounts.token_path}")
        stop.wait()


@fleet_app.command("take")
def fleet_take(config: ConfigOption = None, state: StateOption = None) -> None:
    """Take what the centre has assigned to this site now; a running daemon does so every hour by itself."""
    from monitor.assembly import follower_of

    context = Context(config, state)
    follower = follower_of(context.config, context.classifier(), context.state_dir)
    if follower is None:
        raise ConfigError(f"{context.path}: [fleet] has no url; expected where the centre's releases are")
    print_line(follower.look().model_dump_json(by_alias=True))


def _sites(names: str, *, least: int = 1) -> tuple[str, ...]:
    found = tuple(names_of(names) or ())
    if len(found) < least:
        raise ConfigError("no site is named; expected names separated by commas")
    return found
