"""The verbs of operation: keep what a site was taught, and bring it back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.context import ConfigOption, Context, JsonOption, StateOption
from monitor.output import print_line

if TYPE_CHECKING:
    from monitor.backup import Told


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


def _print(told: Told, did: str, *, as_json: bool) -> None:
    if as_json:
        print_line(json.dumps(asdict(told)))
        return
    print_line(f"{told.file}: {did} {', '.join(told.databases)} and {told.crops} crops, {told.size_bytes / 1e6:.1f} MB")
