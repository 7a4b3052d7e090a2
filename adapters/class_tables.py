"""The tables that class sets are kept in: how they are made, and how a file of an older format becomes one of this."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from adapters.database import closed_if_unusable, transaction
from adapters.errors import StoreError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

FILE = "classes.sqlite3"
SCHEMA = """
CREATE TABLE version (id INTEGER PRIMARY KEY, created TEXT NOT NULL, parent INTEGER, reason TEXT NOT NULL);
CREATE TABLE active (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL REFERENCES version);
CREATE TABLE class (version INTEGER NOT NULL REFERENCES version, name TEXT NOT NULL, attributes TEXT NOT NULL,
  PRIMARY KEY (version, name));
CREATE TABLE shot (id INTEGER PRIMARY KEY, encoder TEXT NOT NULL, tokens INTEGER NOT NULL, tok BLOB NOT NULL,
  glob BLOB NOT NULL, crop_sha256 TEXT, origin TEXT NOT NULL, created TEXT NOT NULL);
CREATE TABLE taught (version INTEGER NOT NULL, name TEXT NOT NULL, shot INTEGER NOT NULL REFERENCES shot,
  PRIMARY KEY (version, name, shot), FOREIGN KEY (version, name) REFERENCES class (version, name));
"""
# what a shot is not: a class, or any animal at all where the name is `none`
NEGATIVES = """
CREATE TABLE negative (version INTEGER NOT NULL REFERENCES version, name TEXT NOT NULL,
  shot INTEGER NOT NULL REFERENCES shot, PRIMARY KEY (version, name, shot));
"""
# where a shot came from, and the hash of it and of all that a version holds (`class_rows.seal`)
PROVENANCE = """
ALTER TABLE shot ADD COLUMN camera TEXT;
ALTER TABLE shot ADD COLUMN frame INTEGER;
ALTER TABLE shot ADD COLUMN file TEXT;
ALTER TABLE shot ADD COLUMN box TEXT;
ALTER TABLE shot ADD COLUMN captured TEXT;
ALTER TABLE shot ADD COLUMN operator TEXT;
ALTER TABLE shot ADD COLUMN sha256 TEXT;
ALTER TABLE version ADD COLUMN sha256 TEXT;
"""
STEPS = (SCHEMA, NEGATIVES, PROVENANCE)  # from each format to the next
SCHEMA_VERSION = len(STEPS)


def open_tables(state_dir: Path, *, in_memory: bool = False) -> sqlite3.Connection:
    """Open the file of a state folder, or a copy of it; one that is new has one version, in which nothing is taught.

    Raises:
        StoreError: it is of a newer format.
        sqlite3.Error: it is no such file.
    """
    if not in_memory:
        state_dir.mkdir(parents=True, exist_ok=True)
    file = ":memory:" if in_memory else state_dir / FILE
    db = sqlite3.connect(file, isolation_level=None, timeout=10, check_same_thread=False)
    with closed_if_unusable(db):
        _prepare(db, state_dir, copied=in_memory)
    return db


def _prepare(db: sqlite3.Connection, state_dir: Path, *, copied: bool) -> None:
    if copied and (state_dir / FILE).exists():
        # immutable: nothing is written beside it, neither lock nor log
        source = sqlite3.connect(f"{(state_dir / FILE).resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        with closing(source):
            source.backup(db)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA secure_delete = ON")  # what is forgotten leaves no bytes behind in the file
    found = _format(db)
    if found > SCHEMA_VERSION:
        raise StoreError(f"{FILE}: format {found} is newer than this program's {SCHEMA_VERSION}; update Wildlane")
    if found < SCHEMA_VERSION:
        with transaction(db, FILE):
            _bring_up(db)


def _bring_up(db: sqlite3.Connection) -> None:
    found = _format(db)  # another process may have been first
    for step in STEPS[found:]:
        for statement in step.strip().split(";\n"):
            db.execute(statement.rstrip(";"))
    if found == 0:
        db.execute("INSERT INTO version (created, parent, reason) VALUES (?, NULL, 'nothing taught yet')", (now(),))
        db.execute("INSERT INTO active VALUES (1, 1)")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _format(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def told_if_damaged(method: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn what reading a damaged file raises into one StoreError that says what to do."""

    @functools.wraps(method)
    def told(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        try:
            return method(*arguments, **named)
        except (sqlite3.Error, ValueError, TypeError, KeyError, OverflowError) as error:
            raise StoreError(
                f"{FILE}: damaged ({error}); restore it from a backup, or move it away to begin anew"
            ) from None

    return told


def now() -> str:
    """Return the time as the tables keep it, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
