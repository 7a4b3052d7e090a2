"""Where the tables and values of a TOML text stand, for those who change some of it and leave the rest as it is."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import Any


def tables_of(text: str) -> list[tuple[list[str], int]]:
    """Return the tables of a TOML text in order: each one's path, and the index of the line that its header is on."""
    lines, found = text.splitlines(keepends=True), []
    for index, line in enumerate(lines):
        if not line.lstrip().startswith("["):
            continue
        try:
            tomllib.loads("".join(lines[:index]))  # else the line is inside of a value
            header: Any = tomllib.loads(line)
        except tomllib.TOMLDecodeError:
            continue
        path = []
        while header:
            ((key, inner),) = header.items()
            path.append(key)
            header = inner[0] if isinstance(inner, list) else inner
        found.append((path, index))
    return found


def is_whole(lines: Sequence[str]) -> bool:
    """Tell whether lines are TOML by themselves; the first of a value of several lines are not."""
    try:
        tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError:
        return False
    return True
