"""The verbs of the classes: what the site was taught, its versions, and files to carry to other sites."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.errors import ConfigError, InputError
from monitor.context import ConfigOption, Context, JsonOption, StateOption, names_of
from monitor.output import print_line

CROP_DIGITS = 12  # of a crop's SHA-256: enough to name it by

classes_app = typer.Typer(
    help="What the site was taught, and its versions.", no_args_is_help=True, rich_markup_mode=None
)


@classes_app.command("list")
def classes_list(as_json: JsonOption = False, config: ConfigOption = None, state: StateOption = None) -> None:
    """List the versions, the active one marked."""
    context = Context(config, state)
    with context.store(context.classifier()) as store:
        versions = store.versions()
    if as_json:
        print_line(json.dumps([vars(record) | {"classes": list(record.classes)} for record in versions]))
        return
    for record in versions:
        mark, names = "*" if record.active else " ", ", ".join(record.classes) or "-"
        print_line(f"{mark} {record.version:6} {record.sha256[:12]}  {record.created}  {record.reason:24} {names}")


@classes_app.command("show")
def classes_show(
    names: Annotated[list[str] | None, typer.Argument(help="Classes of the active version; default all.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Show what is kept of each class: its attributes, its frames, how sure it is of its own."""
    from adapters.teaching import describe

    context = Context(config, state)
    classifier = context.classifier()
    with context.store(classifier) as store:
        told = describe(store, classifier, names)
    if as_json:
        print_line(json.dumps(told))
        return
    for one in told:
        scientific = f", {one['scientific_name']}" if one["scientific_name"] else ""
        found = "one frame only" if one["leave_one_out"] is None else f"{100 * one['leave_one_out']:.0f} % found again"
        coded = f"{one['size']}, {one['origin']}{', a herd' if one['herd'] else ''}{scientific}"
        print_line(f"{one['class']}: {coded}; {len(one['shots'])} frames, {found}")
        for shot in one["shots"]:
            crop = shot["crop"][:CROP_DIGITS] if shot["crop"] else "no crop".ljust(CROP_DIGITS)
            print_line(f"    {crop}  {shot['created']}  {shot['source']}{_whence(shot)}")


def _whence(shot: dict[str, Any]) -> str:
    """Return in words what is known of a frame beside its source."""
    box = None if shot["box"] is None else "box " + ",".join(f"{value:g}" for value in shot["box"])
    operator = None if shot["operator"] is None else f"by {shot['operator']}"
    known = [part for part in (box, shot["captured"], operator) if part]
    return f"  ({', '.join(known)})" if known else ""


@classes_app.command("remove", epilog="Example: wildlane classes remove moose 3fa1c09b77d2")
def classes_remove(
    name: str,
    crop: Annotated[str, typer.Argument(help="As `classes show` prints it, or how its SHA-256 begins.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Take a wrongly taught frame out of a class, as a new version; older versions keep it."""
    from adapters.golden import GoldenSet
    from adapters.teaching import remove

    context = Context(config, state)
    classifier = context.classifier()
    with context.store(classifier) as store, closing(GoldenSet(context.state_dir)) as golden:
        removed = remove(store, classifier, name, crop, checked_on=golden)
    context.note("took a frame out", f"{name} {crop[:CROP_DIGITS]}, {removed.version}")
    if as_json:
        told = {"class": name, "version": removed.version}
        print_line(json.dumps(told | ({"held_back": removed.held_back} if removed.held_back else {})))
    elif removed.held_back:
        print_line(f"{removed.version} is held back, without that frame: {removed.held_back}")
        print_line(f"    `wildlane classes rollback {removed.version}` makes it live all the same")
    else:
        print_line(f"{removed.version} is live, {name} without that frame")


@classes_app.command("forget")
def classes_forget(name: str, config: ConfigOption = None, state: StateOption = None) -> None:
    """Take a class out of every version, and erase its pictures: it can't be brought back."""
    from adapters.golden import GoldenSet
    from adapters.teaching import forget

    context = Context(config, state)
    with context.store(context.classifier()) as store, closing(GoldenSet(context.state_dir)) as golden:
        version = forget(store, golden, name)
    context.note("forgot", f"{name}, {version}")
    print_line(f"{version} is live, without {name}; older versions are without it too, and its pictures are erased")


@classes_app.command("rollback")
def classes_rollback(
    version: Annotated[str | None, typer.Argument(help="Such as cs-3; default the one before.")] = None,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Make an older version the active one again."""
    context = Context(config, state)
    with context.store(context.classifier()) as store:
        live = store.rollback(version)
    context.note("made live", live)
    print_line(f"{live} is live")


@classes_app.command("export", epilog="Example: wildlane classes export site.classes --classes moose,deer")
def classes_export(
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    classes: Annotated[str | None, typer.Option(help="Only these: A,B,...")] = None,
    key: Annotated[Path | None, typer.Option(help="Ed25519 private key, PEM, to sign with.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Write classes of the active version, with their crops, to a file that another site can import."""
    from adapters.class_file import write_classes

    context = Context(config, state)
    classifier = context.classifier()
    with context.store(classifier) as store:
        kept = store.kept(classifier, names_of(classes))
        negatives = store.kept_negatives(classifier, [attributes.name for attributes in kept])
    if not kept:
        raise ConfigError("nothing is taught, nothing was written")
    write_classes(path, kept, negatives, classifier.encoder_hash, key=key)
    told = {attributes.name: len(shots) for attributes, shots in kept.items()}
    if as_json:
        print_line(json.dumps({"file": str(path), "classes": told, "signed": key is not None}))
        return
    frames = ", ".join(f"{name} ({count})" for name, count in told.items())
    print_line(f"{path}: {frames}{', signed' if key else ''}")


@classes_app.command("import", epilog="Example: wildlane classes import site.classes --key road-agency.pub")
def classes_import(
    path: Annotated[Path, typer.Argument(help="A file of `wildlane classes export`.")],
    key: Annotated[Path | None, typer.Option(help="Ed25519 public key, PEM: take only what its owner signed.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Teach what a file brings, as one new version; frames that are known already are left out."""
    from adapters.class_file import read_classes
    from adapters.golden import GoldenSet
    from adapters.teaching import take_in

    context = Context(config, state)
    classifier = context.classifier()
    carried = read_classes(path, classifier, key=key)
    with context.store(classifier) as store, closing(GoldenSet(context.state_dir)) as golden:
        taken = take_in(store, classifier, carried, f"imported {path.name}", checked_on=golden)
    if taken.version is None:
        why = "; ".join(f"{name} {why}" for name, why in taken.left_out.items())
        raise InputError(f"{path}: nothing to take in: {why}")
    context.note("imported", f"{', '.join(taken.frames)}, {taken.version}")
    if as_json:
        told = {"version": taken.version, "classes": taken.frames, "left_out": taken.left_out}
        print_line(json.dumps(told | ({"held_back": taken.held_back} if taken.held_back else {})))
        return
    frames = ", ".join(f"{name} ({count})" for name, count in taken.frames.items())
    if taken.held_back:
        print_line(f"{taken.version} is held back, with {frames}: {taken.held_back}")
        print_line(f"    `wildlane classes rollback {taken.version}` makes it live all the same")
    else:
        print_line(f"{taken.version} is live, with {frames}")
    for name, why in taken.left_out.items():
        print_line(f"    left out {name}: {why}")
