"""Cameras written into config.toml and taken out of it, or drawn over, the rest of its text left as it is.

A file that the program would refuse is not written.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from adapters.errors import ConfigError
from monitor.config import CameraConfig, Config, ZoneConfig, parse_config, read_config
from monitor.strict import Shapes
from monitor.toml_text import is_whole, tables_of

SCHEMES = ("rtsp", "rtsps", "http", "https")  # of network cameras; FFmpeg knows others, down to file: and concat:
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
MOST_CHARACTERS = 1000
SHAPES = re.compile(r"\s*(masks_px|zones)\s*=")  # keys of a camera's table
PASSING = "/run"  # where a service manager puts copies


def check_camera(name: str, url: str, known: Container[str]) -> None:
    """Raise ConfigError, without the URL, unless another camera may have that name and be at that URL."""
    if not NAME.fullmatch(name):
        raise ConfigError("the camera's name: expected a-z, 0-9 and '-', such as crossing-north")
    try:
        parts = urlsplit(url)
        there = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        there = False
    legible = url.isascii() and url.isprintable() and " " not in url and len(url) <= MOST_CHARACTERS
    if not there or not legible or parts.scheme not in SCHEMES:
        raise ConfigError(f"the address: expected a URL of a camera, {', '.join(f'{one}://' for one in SCHEMES)}")
    if name in known:
        raise ConfigError(f"there is a camera '{name}' already")


def add_camera(path: Path, name: str, url: str) -> None:
    """Write a camera at the end of the file.

    Raises:
        ConfigError: there is one of that name, the file would be refused, is a passing copy, or can't be written.
    """
    text = read_config(path)
    config = parse_config(text, path)
    check_camera(name, url, config.cameras)
    cameras = {**config.cameras, name: CameraConfig(source=url)}
    end = "" if text.endswith("\n") or not text else "\n"
    _replace(path, f"{text}{end}\n[cameras.{name}]\nsource = {json.dumps(url)}\n", config, cameras)


def remove_camera(path: Path, name: str) -> None:
    """Take a camera out of the file, with its zones; comments that stand apart after it stay.

    Raises:
        ConfigError: there is no such camera or no other, something refers to its zones, or the file can't be written.
    """
    text = read_config(path)
    config = parse_config(text, path)
    if name not in config.cameras:
        raise ConfigError(f"there is no camera '{name}'")
    if len(config.cameras) == 1:
        raise ConfigError(f"'{name}' is the only camera; add another one first")
    lines = text.splitlines(keepends=True)
    kept: list[str] = []
    bounds = [*tables_of(text), ([], len(lines))]
    kept += lines[: bounds[0][1]]
    for (table, begin), (_, end) in pairwise(bounds):
        gone = table[:2] == ["cameras", name]
        kept += _after_table(lines[begin:end]) if gone else lines[begin:end]
    cameras = {other: camera for other, camera in config.cameras.items() if other != name}
    _replace(path, "".join(kept), config, cameras)


def draw(path: Path, name: str, masks_px: Shapes, zones: Sequence[ZoneConfig]) -> None:
    """Write the zones and masks of a camera in the place of those that it has.

    Raises:
        ConfigError: there is no such camera, the file would be refused, is a passing copy, or can't be written.
    """
    text = read_config(path)
    config = parse_config(text, path)
    if name not in config.cameras:
        raise ConfigError(f"there is no camera '{name}'")
    lines = text.splitlines(keepends=True)
    bounds = [*tables_of(text), ([], len(lines))]
    kept = lines[: bounds[0][1]]
    for (table, begin), (_, end) in pairwise(bounds):
        block = lines[begin:end]
        if table == ["cameras", name]:
            kept += _drawn_over(block, masks_px, zones)
        else:
            kept += _after_table(block) if table == ["cameras", name, "zones"] else block
    drawn = config.cameras[name].model_copy(update={"masks_px": masks_px, "zones": list(zones)})
    _replace(path, "".join(kept), config, {**config.cameras, name: drawn})


def _drawn_over(table: list[str], masks_px: Shapes, zones: Sequence[ZoneConfig]) -> list[str]:
    """Return a camera's table with other shapes."""
    rest: list[str] = []
    index = 0
    while index < len(table):
        end = index + 1
        if SHAPES.match(table[index]):
            while not is_whole(table[index:end]):
                end += 1
        else:
            rest.append(table[index])
        index = end
    apart = _after_table(rest)
    own = rest[: len(rest) - len(apart)]
    if not own[-1].endswith("\n"):
        own[-1] += "\n"
    masks = [f"masks_px = {_corners(masks_px)}\n"] if masks_px else []
    told = [
        f'  {{ id = {json.dumps(zone.id)}, kind = "{zone.kind}", polygon_px = {_corners(zone.polygon_px)} }},\n'
        for zone in zones
    ]
    return [*own, *masks, *(["zones = [\n", *told, "]\n"] if zones else []), *apart]


def _corners(points: object) -> str:
    return json.dumps(points)  # TOML writes numbers and arrays as JSON does


def _after_table(lines: list[str]) -> list[str]:
    """Return the blank lines and comments at the end of a table that stand apart from it."""
    last = max(index for index, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#"))
    apart = next((index for index in range(last + 1, len(lines)) if not lines[index].strip()), len(lines))
    return lines[apart:]


def _replace(path: Path, text: str, before: Config, cameras: Mapping[str, CameraConfig]) -> None:
    """Write the file whole or not at all, where it says what it said before but for the cameras."""
    after = parse_config(text, path)
    if after != before.model_copy(update={"cameras": dict(cameras)}):
        raise ConfigError(f"{path.name}: its cameras are written in a way that only a person can change")
    target = path.resolve()
    if target.is_relative_to(PASSING):
        raise ConfigError(f"{path}: is a copy that the next start replaces; change its original")
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        was = target.stat()
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, was.st_mode & 0o777)  # it may hold passwords
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            with suppress(PermissionError):
                os.chown(draft, was.st_uid, was.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigError(
            f"{path.name}: can't be written ({error.strerror}); change it by hand, or let the program write there"
        ) from None
