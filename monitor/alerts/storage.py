"""The journal's file: how it is opened, how damage shows, and what becomes of it then."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from adapters.database import closed_if_unusable
from adapters.errors import StoreError

log = logging.getLogger(__name__)

FILE, LOCK, MARK = "journal.sqlite3", "journal.lock", "journal.mark"
SCHEMA_VERSION = 3  # of the tables, see tables.py


class HighWaterMark:
    """The number of the newest commit, in a file beside the journal.

    SQLite drops the end of a write-ahead log that was cut without a word; numbers would then be given twice. What is
    written here after each commit shows that commits are gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1

    def read(self) -> tuple[str, int, int]:
        """Return the journal's id, its number and its format; ("", 0, 0) where nothing can be read."""
        try:
            name, seq, version = self._path.read_text(encoding="ascii").split()
            return name, int(seq), int(version)
        except (OSError, ValueError):
            return "", 0, 0

    def write(self, journal: str, seq: int, version: int = SCHEMA_VERSION) -> None:
        """Note a number, on disk when this returns; a failure is no reason to lose the alert."""
        try:
            if self._file < 0:
                self._file = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
            os.pwrite(self._file, f"{journal} {seq:016d} {version:04d}\n".encode("ascii"), 0)
            os.fdatasync(self._file)
        except OSError as error:
            log.warning("%s: can't be written (%s)", self._path, error.strerror)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)


def connect(path: Path | str) -> sqlite3.Connection:
    """Open a database whose commits survive a power cut."""
    db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
    db.text_factory = _text
    with closed_if_unusable(db):
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
    return db


def _text(content: bytes) -> str:
    """Return text of the file; broken bytes are no error here: the row's digest shows them."""
    return content.decode(errors="replace")


def is_damage(error: sqlite3.OperationalError) -> bool:
    """Tell a broken file from a disk that is full, slow or read-only."""
    damage = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
    return (getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF) in damage  # text that is none has no code


def set_aside(path: Path) -> Path:
    """Rename a journal and what belongs to it, for whoever wants to know what was in it."""
    aside = path.with_name(f"journal.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.sqlite3")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def own(state_dir: Path) -> int:
    """Return a lock on the folder that goes with the process: two writers would number two histories alike.

    Raises:
        StoreError: another process has it.
        OSError: the folder can't be written.
    """
    descriptor = os.open(state_dir / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreError(f"{state_dir}: in use by another running wildlane; give each its own state folder") from None
    return descriptor
