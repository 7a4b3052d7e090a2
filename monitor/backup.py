"""What a site was taught, its accounts and its configuration as one file, and back.

The journal stays out: one that goes back in time would give numbers twice. Its alerts are the control centre's.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adapters import class_set, class_tables, golden, site_knowledge
from adapters.class_file import NO_ARCHIVE
from adapters.errors import InputError, StoreError
from monitor import VERSION
from monitor.alerts.storage import own
from monitor.console import accounts

MANIFEST, CONFIG = "manifest.json", "config.toml"
FORMAT = 1
DATABASES = (class_tables.FILE, golden.FILE, site_knowledge.FILE, accounts.FILE)
FOLDERS = (class_set.CROPS, golden.CROPS)
CROP = re.compile(rf"({'|'.join(FOLDERS)})/[0-9a-f]{{64}}\.png")
MOST_BYTES = 4_000_000_000  # of all parts, uncompressed
MOST_PARTS = 100_000
CHUNK = 1 << 20


@dataclass(frozen=True)
class Told:
    """What was written or read: names of databases, how many crops, bytes."""

    file: str
    databases: tuple[str, ...]
    crops: int
    size_bytes: int


def backup(state_dir: Path, config: Path | None, out: Path) -> Told:
    """Write a backup, whole or not at all; the program may run meanwhile.

    Raises:
        StoreError: there is nothing to keep, or a database can't be read.
        InputError: the file can't be written.
    """
    databases = tuple(name for name in DATABASES if (state_dir / name).exists())
    if not databases:
        raise StoreError(f"{state_dir}: nothing to keep is there; name the state folder with --state")
    draft = out.with_name(f"{out.name}.part")
    try:
        with tempfile.TemporaryDirectory(dir=out.parent) as folder, _private_zip(draft) as file:
            parts = [*_copies(state_dir, databases, Path(folder)), *_crops(state_dir)]
            if config is not None and config.exists():
                parts.append((CONFIG, config))
            manifest = {name: _sha256(path) for name, path in parts}
            for name, path in parts:
                file.write(path, name)
            created = datetime.now(UTC).isoformat(timespec="seconds")
            told = {"format": FORMAT, "created": created, "software": VERSION, "parts": manifest}
            file.writestr(MANIFEST, json.dumps(told, indent=1))
        draft.replace(out)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(f"{out}: the backup can't be written ({error.strerror})") from None
    crops = sum(CROP.fullmatch(name) is not None for name in manifest)
    return Told(str(out), databases, crops, out.stat().st_size)


def _private_zip(path: Path) -> zipfile.ZipFile:
    """Return an archive for its owner's eyes alone: it holds accounts, and passwords of cameras."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    return zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)


def _copies(state_dir: Path, databases: tuple[str, ...], folder: Path) -> Iterator[tuple[str, Path]]:
    """Copy each database as it is at one moment, by SQLite's own backup."""
    for name in databases:
        try:
            with (
                closing(sqlite3.connect(f"{(state_dir / name).resolve().as_uri()}?mode=ro", uri=True)) as source,
                closing(sqlite3.connect(folder / name)) as copy,
            ):
                source.backup(copy)
            problem = _damage(folder / name)
        except sqlite3.Error as error:
            problem = str(error)
        if problem:
            raise StoreError(f"{state_dir / name}: can't be read ({problem})")
        yield name, folder / name


def _crops(state_dir: Path) -> Iterator[tuple[str, Path]]:
    for name in FOLDERS:
        for path in sorted((state_dir / name).glob("*.png")):
            yield f"{name}/{path.name}", path


def restore(file: Path, state_dir: Path, *, force: bool = False) -> Told:
    """Put a backup in the place of what a state folder holds; `force` where it holds something.

    Every part is checked before anything is touched. The configuration is left beside as `restored-config.toml`.

    Raises:
        InputError: the file is missing, damaged, altered, or no backup.
        StoreError: a program uses the folder, or it holds something.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    lock = own(state_dir)
    try:
        there = [name for name in DATABASES if (state_dir / name).exists()]
        if there and not force:
            raise StoreError(f"{state_dir} holds {', '.join(there)}; --force puts the backup in their place")
        with tempfile.TemporaryDirectory(dir=state_dir, prefix="restore-") as folder:
            names = _unpack(file, Path(folder))
            _put_in_place(Path(folder), state_dir, names)
    except OSError as error:
        raise StoreError(f"{state_dir}: the backup can't be put in place ({error.strerror}); run it again") from None
    finally:
        os.close(lock)
    databases = tuple(name for name in names if name in DATABASES)
    return Told(str(file), databases, sum(CROP.fullmatch(name) is not None for name in names), file.stat().st_size)


def _unpack(file: Path, folder: Path) -> list[str]:
    """Write the checked parts of a backup below a folder, and return their names."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > MOST_PARTS or sum(member.file_size for member in members) > MOST_BYTES:
                raise InputError(f"{file}: more than {MOST_PARTS} parts or {MOST_BYTES / 1e9:.0f} GB; not read")
            manifest = json.loads(archive.read(MANIFEST))
            if manifest["format"] != FORMAT:
                raise InputError(f"{file}: format {manifest['format']}, this program reads {FORMAT}; update Wildlane")
            expected: dict[str, str] = manifest["parts"]
            names = [member.filename for member in members if member.filename != MANIFEST]
            strange = [name for name in names if name not in (*DATABASES, CONFIG) and not CROP.fullmatch(name)]
            if strange or sorted(names) != sorted(expected):
                raise InputError(f"{file}: was altered: its parts are not those that its manifest names")
            for name in names:
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                with archive.open(name) as source, path.open("wb") as copy:
                    while piece := source.read(CHUNK):
                        copy.write(piece)
                if _sha256(path) != expected[name]:
                    raise InputError(f"{file}: was altered: {name} is not what its manifest names")
                if name in DATABASES and (problem := _damage(path)):
                    raise InputError(f"{file}: {name} is damaged ({problem})")
    except FileNotFoundError:
        raise InputError(f"{file}: no such backup") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # what a place in the file that is none raises; all else is the disk's fault
            raise
        raise InputError(f"{file}: not a backup ({error.strerror})") from None
    except (*NO_ARCHIVE, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file}: not a backup ({error})") from None
    return names


def _damage(path: Path) -> str:
    """Return what is wrong with a database; nothing where it is whole."""
    try:
        with closing(sqlite3.connect(path)) as db:
            (verdict,) = db.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as error:
        verdict = str(error)
    return "" if verdict == "ok" else str(verdict)


def _put_in_place(folder: Path, state_dir: Path, names: list[str]) -> None:
    """Crops first, then the databases that name them; what the state folder held of these goes."""
    for name in sorted(names, key=lambda name: name in DATABASES):
        target = state_dir / (f"restored-{CONFIG}" if name == CONFIG else name)
        target.parent.mkdir(exist_ok=True)
        for rest in ("-wal", "-shm"):  # of the database before: they would be taken for the new one's
            target.with_name(target.name + rest).unlink(missing_ok=True)
        (folder / name).chmod(0o600)
        (folder / name).replace(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
