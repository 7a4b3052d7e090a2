"""The journal's tables: their format and its forerunners, and what shows that a row is not as it was committed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from adapters.database import closed_if_unusable
from adapters.errors import DamagedError, StoreError
from monitor.alerts.schema import Alert, utc_text
from monitor.alerts.storage import FILE, SCHEMA_VERSION, HighWaterMark, connect

log = logging.getLogger(__name__)

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
# `pruned`: up to this number the retention is over; below it only what was not delivered is still there
SINCE_FORMAT_3 = """
ALTER TABLE journal ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE situation ADD COLUMN digest TEXT NOT NULL DEFAULT '';
UPDATE journal SET pruned = CASE WHEN seq > (SELECT coalesce(max(seq), 0) FROM outbox) THEN seq
  ELSE coalesce((SELECT max(seq) - 1 FROM outbox AS o
    WHERE NOT EXISTS (SELECT 1 FROM outbox WHERE seq = o.seq - 1)), 0) END;
UPDATE situation SET digest = digest(id, zone, etsi_sequence, open, newest);
UPDATE outbox SET digest = digest(seq, situation, zone, event, created);
"""
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # the alphabet of ULIDs


class SituationRow(NamedTuple):
    """A situation as of its newest version; `is_open` is 0 or 1, `newest` the event as it was published."""

    id: str
    zone: str
    etsi_sequence: int
    is_open: int
    newest: str


def opened(path: Path | str, mark: HighWaterMark | None) -> tuple[sqlite3.Connection, int]:
    """Open a journal, checked, and return it with the number of situations in it that can't be read.

    Raises:
        StoreError: a newer program wrote it.
        DamagedError, sqlite3.Error, TypeError, ValueError: it is not whole, or the disk can't be used.
    """
    db = connect(path)
    with closed_if_unusable(db):
        _check(db, mark)
        return db, _mend_situations(db)


def _check(db: sqlite3.Connection, mark: HighWaterMark | None) -> None:
    """Make the tables where there are none, and check that nothing is broken or gone."""
    name, marked, written_by = mark.read() if mark is not None else ("", 0, 0)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION >= written_by > 0:
        raise DamagedError(f"format {version} in the file, {written_by} beside it")
    if version > SCHEMA_VERSION:
        raise StoreError(f"{FILE}: format {version} is newer than this program's {SCHEMA_VERSION}; update Wildlane")
    # Not quick_check, which does not hold the rows against the index of what is unsent: a flipped bit hides a row so.
    # With 100,000 rows of 550 MB it takes 0.6 s instead of 0.5, and the whole check 2.2 s.
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise DamagedError(verdict)
    if version < SCHEMA_VERSION:
        _make_tables(db, version)
    journal, seq = _check_numbers(db)
    for *row, committed in db.execute("SELECT seq, situation, zone, event, created, digest FROM outbox"):
        if digest(*row) != committed:
            raise DamagedError(f"event {row[0]} is not what was committed")
    if name and (name != journal or marked > seq):
        raise DamagedError(f"{marked} events were committed, {seq} are there")


def _check_numbers(db: sqlite3.Connection) -> tuple[str, int]:
    """Return the journal's id and its newest number; every number beyond what the retention took must be there."""
    row = db.execute("SELECT id, seq, pruned FROM journal").fetchone()
    if row is None:
        raise DamagedError("its own number is gone")
    name, seq, pruned = str(row[0]), int(row[1]), int(row[2])
    newest, count = db.execute("SELECT coalesce(max(seq), 0), count(*) FROM outbox WHERE seq > ?", (pruned,)).fetchone()
    if max(newest, pruned) != seq or count != seq - pruned:
        raise DamagedError(f"of the events {pruned + 1} to {seq} {count} are there")
    return name, seq


def _make_tables(db: sqlite3.Connection, version: int) -> None:
    db.create_function("digest", -1, digest, deterministic=True)
    db.execute("BEGIN IMMEDIATE")
    if version == 0:
        _run(db, SCHEMA)
        db.execute("INSERT INTO journal VALUES (?, ?, 0, 0)", (_ulid(), utc_text(datetime.now(UTC))))
    if version < 2:
        _run(db, SINCE_FORMAT_2)
    elif db.execute("SELECT 1 FROM outbox WHERE digest IS NOT digest(seq || ' ' || event)").fetchone():
        raise DamagedError("an event is not what was committed")  # else a new digest would hide it
    _run(db, SINCE_FORMAT_3)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")


def _run(db: sqlite3.Connection, script: str) -> None:
    """Execute statements within the transaction that is open; `executescript` would end it."""
    for statement in script.strip().split(";\n"):
        db.execute(statement.rstrip(";"))


def digest(*values: object) -> str:
    """Return what shows that a row is as it was committed; SQLite checks its pages' order, not their content."""
    return hashlib.sha256("\0".join(map(str, values)).encode(errors="replace")).hexdigest()


def row_of(alert: Alert) -> SituationRow:
    """Return how an alert leaves its situation."""
    data, situation = alert.data, alert.data.situation
    etsi, is_open = data.codes.etsi.sequence_number, int(situation.phase != "end")
    return SituationRow(situation.id, data.where.zone.id, etsi, is_open, alert.json_text())


def put_situation(db: sqlite3.Connection, row: SituationRow) -> None:
    """Write a situation over its older version, if any."""
    db.execute(
        "INSERT INTO situation VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET zone = excluded.zone, "
        "etsi_sequence = excluded.etsi_sequence, open = excluded.open, newest = excluded.newest, "
        "digest = excluded.digest",
        (*row, digest(*row)),
    )


def put_event(db: sqlite3.Connection, alert: Alert) -> None:
    """Write a message that is to go out."""
    data, created = alert.data, utc_text(datetime.now(UTC))
    row = (data.seq, data.situation.id, data.where.zone.id, alert.json_text(), created)
    db.execute(
        "INSERT INTO outbox (seq, situation, zone, event, created, digest) VALUES (?, ?, ?, ?, ?, ?)",
        (*row, digest(*row)),
    )


def situations(db: sqlite3.Connection, where: str = "true") -> list[SituationRow]:
    """Return the situations for which a condition holds, oldest first."""
    query = f"SELECT id, zone, etsi_sequence, open, newest FROM situation WHERE {where} ORDER BY id"  # noqa: S608  # ours
    return [SituationRow(*row) for row in db.execute(query)]


def recent(db: sqlite3.Connection, kept: int) -> bytes:
    """Return a journal's file with what was not delivered, and the newest events whatever became of them.

    Args:
        db: the journal.
        kept: how many of the newest.
    """
    ((over,),) = db.execute("SELECT max(pruned, seq - ?) FROM journal", (kept,))
    rows = f"seq > {over:d} OR acked_at IS NULL"
    parts = {"outbox": rows, "situation": f"open OR id IN (SELECT situation FROM outbox WHERE {rows})"}  # noqa: S608
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as part:
        ((version,),) = db.execute("PRAGMA user_version")
        part.execute(f"PRAGMA user_version = {version:d}")
        for kind, table, made in db.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        ).fetchall():
            part.execute(made)
            if kind == "table":
                wanted = db.execute(f"SELECT * FROM {table} WHERE {parts.get(table, 'true')}")  # noqa: S608  # ours
                marks = ", ".join("?" * len(wanted.description))
                part.executemany(f"INSERT INTO {table} VALUES ({marks})", wanted)  # noqa: S608  # ours
        part.execute("UPDATE journal SET pruned = ?", (over,))
        return part.serialize()


def _mend_situations(db: sqlite3.Connection) -> int:
    """Write the situations that are not as they were committed anew, from their newest event.

    Returns:
        How many could not be mended, since their events are gone; they are erased.
    """
    rows = db.execute("SELECT id, zone, etsi_sequence, open, newest, digest FROM situation")
    bad = [row[0] for *row, committed in rows if digest(*row) != committed]
    if not bad:
        return 0
    db.execute("BEGIN IMMEDIATE")
    mended = sum(_mend(db, name) for name in bad)
    db.execute("COMMIT")
    log.warning("%d situations in the journal were not what was committed, %d are mended", len(bad), mended)
    return len(bad) - mended


def _mend(db: sqlite3.Connection, name: str) -> bool:
    newest = "SELECT zone, event FROM outbox WHERE situation = ? ORDER BY seq DESC LIMIT 1"
    found = db.execute(newest, (name,)).fetchone()
    if found is None:
        db.execute("DELETE FROM situation WHERE id IS ?", (name,))
        return False
    zone, event = found
    data = json.loads(event)["data"]  # not as an Alert: it may be an older program's
    etsi, is_open = data["codes"]["etsi"]["sequenceNumber"], int(data["situation"]["phase"] != "end")
    put_situation(db, SituationRow(name, zone, etsi, is_open, event))
    return True


def _ulid() -> str:
    """Return 48 bits of time in ms and 80 random bits in Crockford's base 32, as https://github.com/ulid/spec."""
    value = int(datetime.now(UTC).timestamp() * 1000) << 80 | int.from_bytes(os.urandom(10))
    return "".join(CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))
