"""The journal's file: how it is opened, how damage shows, and what becomes of it then."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from adapters.errors import StoreError
from monitor.alerts.schema import utc_text

log = logging.getLogger(__name__)

FILE, LOCK, MARK = "journal.sqlite3", "journal.lock", "journal.mark"
SCHEMA_VERSION = 2
SCHEMA = """
CREATE TABLE journal (id TEXT NOT NULL, created TEXT NOT NULL, seq INTEGER NOT NULL, etsi_sequence INTEGER NOT NULL);
CREATE TABLE situation (id TEXT PRIMARY KEY, zone TEXT NOT NULL, etsi_sequence INTEGER NOT NULL, open INTEGER NOT NULL,
  newest TEXT NOT NULL);
CREATE TABLE outbox (seq INTEGER PRIMARY KEY, situation TEXT NOT NULL, zone TEXT NOT NULL, event TEXT NOT NULL,
  created TEXT NOT NULL, acked_at TEXT, parked TEXT);
CREATE INDEX outbox_unsent ON outbox (seq) WHERE acked_at IS NULL AND parked IS NULL;
"""
SINCE_FORMAT_2 = """
CREATE TABLE consumer (name TEXT PRIMARY KEY, upto INTEGER NOT NULL, at TEXT NOT NULL);
ALTER TABLE outbox ADD COLUMN digest TEXT;
"""
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # the alphabet of ULIDs


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


class DamagedError(Exception):
    """The file is not what was committed."""


def connect(path: Path | str) -> sqlite3.Connection:
    """Open a database whose commits survive a power cut."""
    db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    return db


def checked(db: sqlite3.Connection, mark: HighWaterMark | None) -> str:
    """Make the tables where there are none, check that nothing is broken or gone, and return the journal's id.

    Raises:
        StoreError: a newer program wrote it.
        DamagedError: it is not whole.
    """
    name, marked, written_by = mark.read() if mark is not None else ("", 0, 0)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION >= written_by > 0:
        raise DamagedError(f"format {version} in the file, {written_by} beside it")
    if version > SCHEMA_VERSION:
        raise StoreError(f"{FILE}: format {version} is newer than this program's {SCHEMA_VERSION}; update Wildlane")
    if version < SCHEMA_VERSION:
        _make_tables(db, version)
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DamagedError(verdict)
    row = db.execute("SELECT id, seq FROM journal").fetchone()
    (newest,) = db.execute("SELECT coalesce(max(seq), 0) FROM outbox").fetchone()
    if row is None or newest > row[1]:
        raise DamagedError("its own number is gone")
    for seq, event, committed in db.execute("SELECT seq, event, digest FROM outbox"):
        if digest(seq, event) != committed:
            raise DamagedError(f"event {seq} is not what was committed")
    if name and (name != row[0] or marked > row[1]):
        raise DamagedError(f"{marked} events were committed, {row[1]} are there")
    return str(row[0])


def _make_tables(db: sqlite3.Connection, version: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    if version == 0:
        for statement in SCHEMA.strip().split(";\n"):
            db.execute(statement.rstrip(";"))
        db.execute("INSERT INTO journal VALUES (?, ?, 0, 0)", (_ulid(), utc_text(datetime.now(UTC))))
    for statement in SINCE_FORMAT_2.strip().split(";\n"):
        db.execute(statement.rstrip(";"))
    rows = db.execute("SELECT seq, event FROM outbox").fetchall()
    db.executemany("UPDATE outbox SET digest = ? WHERE seq = ?", [(digest(*row), row[0]) for row in rows])
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")


def digest(seq: int, event: object) -> str:
    """Return what shows that a row is as it was committed; SQLite checks its pages' order, not their content."""
    return hashlib.sha256(f"{seq} {event}".encode(errors="replace")).hexdigest()


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
    """Return a lock on the folder that goes with the process: two writers would number two histories alike."""
    descriptor = os.open(state_dir / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreError(f"{state_dir}: in use by another running wildlane; give each its own state folder") from None
    return descriptor


def _ulid() -> str:
    """Return 48 bits of time in ms and 80 random bits in Crockford's base 32, as https://github.com/ulid/spec."""
    value = int(datetime.now(UTC).timestamp() * 1000) << 80 | int.from_bytes(os.urandom(10))
    return "".join(CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))
