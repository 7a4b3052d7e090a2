"""The journal: every situation version is on disk before anything is published, and stays until its retention is over.

The only module of the monitor that knows SQLite. WAL with `synchronous = FULL`: a commit that returned survives a
power cut.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.database import transaction
from adapters.errors import ConfigError, StoreError
from monitor.alerts import storage
from monitor.alerts.compose import Draft
from monitor.alerts.schema import EVENT_TYPES, Alert, utc_text
from monitor.alerts.storage import FILE, MARK, DamagedError, HighWaterMark
from monitor.policy import Phase

log = logging.getLogger(__name__)

MOST_REPLAYED = 10_000  # rows that one command may ask for
RETURN_EVERY_S = 30.0  # how often a disk that could not be written is tried again


@dataclass(frozen=True)
class Outgoing:
    """A row of the outbox of the journal that is named."""

    journal: str
    seq: int
    zone: str
    event: str


class Journal:
    """Situations and their messages, of one state folder. Safe to use from several threads.

    A file that is damaged, or that lost commits it once had, is set aside and a new journal begins, under a new id: a
    number is never given twice. While the disk can't be written the journal lives in memory, under an id of its own:
    alerts go out all the same. Both are told in `problem`.

    Attributes:
        id: of the journal in use.
        problem: what an operator must know of it; empty while all is well.
    """

    def __init__(self, state_dir: Path, now: Callable[[], float] = time.monotonic) -> None:
        """Open or make the journal.

        Raises:
            StoreError: the folder can't be written, is in use, or its journal was written by a newer program.
        """
        self._path, self._now = state_dir / FILE, now
        self._mark = HighWaterMark(state_dir / MARK)
        self._lock = threading.RLock()
        self._in_memory = False
        self._retry_at_s = 0.0
        self.problem = ""
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            self._owner = storage.own(state_dir)
            self._open()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self._path}: can't be opened as a journal ({error})") from None

    def _open(self) -> None:
        """Use the file; where it is not whole, set it aside and begin anew."""
        db = None
        try:
            db = storage.connect(self._path)
            self.id = storage.checked(db, self._mark)
            self._db = db
        except (sqlite3.DatabaseError, DamagedError, TypeError, ValueError) as error:  # broken bytes have wrong types
            if isinstance(error, sqlite3.OperationalError) and not storage.is_damage(error):
                raise
            if db is not None:
                db.close()
            aside = storage.set_aside(self._path)
            self.problem = f"the journal was damaged ({error}): kept as {aside.name}, a new one begins"
            log.error("%s", self.problem)  # noqa: TRY400  # one line: the cause is in it
            self._db = storage.connect(self._path)
            self.id = storage.checked(self._db, None)
        self._mark.write(self.id, self._seq())

    def _seq(self) -> int:
        (seq,) = self._db.execute("SELECT seq FROM journal").fetchone()
        return int(seq)

    def _fall_back(self, error: StoreError) -> None:
        """Go on in memory: an alert that can't be recorded must still be told."""
        self.problem = f"the journal can't be used, alerts are not recorded: {error}"
        log.error("%s", self.problem)
        self._disk, self._db = self._db, storage.connect(":memory:")
        self.id = storage.checked(self._db, None)
        self._in_memory, self._retry_at_s = True, self._now() + RETURN_EVERY_S

    def _return_to_disk(self) -> None:
        """Try the disk again, once all that was told from memory is with the broker."""
        if self._now() < self._retry_at_s or self.counts()[0]:
            return
        self._retry_at_s = self._now() + RETURN_EVERY_S
        ended = self._db.execute("SELECT id FROM situation WHERE NOT open").fetchall()
        try:
            self._disk.execute("BEGIN IMMEDIATE")
            self._disk.executemany("UPDATE situation SET open = 0 WHERE id = ?", ended)
            self._disk.execute("UPDATE journal SET seq = seq")
            self._disk.execute("COMMIT")
        except sqlite3.Error:
            if self._disk.in_transaction:
                self._disk.execute("ROLLBACK")
            return
        self._db.close()
        self._db, self._in_memory = self._disk, False
        (self.id,) = self._db.execute("SELECT id FROM journal").fetchone()
        self.problem = ""
        log.warning("the journal can be used again: alerts are recorded")

    def append(self, drafts: Sequence[Draft]) -> list[Alert]:
        """Commit situation versions and their messages together; return the alerts as they will be published.

        Where the disk can't be written they are kept in memory, and `problem` says so.
        """
        with self._lock:
            if self._in_memory:
                self._return_to_disk()
            try:
                with self._transaction():
                    alerts = [self._append(draft) for draft in drafts]
                if not self._in_memory:
                    self._mark.write(self.id, alerts[-1].data.seq)
            except StoreError as error:
                if self._in_memory:
                    raise
                self._fall_back(error)
                with self._transaction():
                    alerts = [self._append(draft) for draft in drafts]
            return alerts

    def _append(self, draft: Draft) -> Alert:
        situation = draft.situation
        row = self._db.execute("SELECT etsi_sequence FROM situation WHERE id = ?", (situation.id,)).fetchone()
        etsi = row[0] if row else self._next_etsi_sequence()
        alert = draft.numbered(self._next_seq(), self.id, etsi)
        self._store(alert, etsi, is_open=situation.phase is not Phase.END)
        return alert

    def _store(self, alert: Alert, etsi: int, *, is_open: bool) -> None:
        situation, zone, event = alert.data.situation, alert.data.where.zone.id, alert.json_text()
        self._db.execute(
            "INSERT INTO situation VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET open = excluded.open, newest = excluded.newest",
            (situation.id, zone, etsi, is_open, event),
        )
        self._db.execute(
            "INSERT INTO outbox (seq, situation, zone, event, created, digest) VALUES (?, ?, ?, ?, ?, ?)",
            (
                alert.data.seq,
                situation.id,
                zone,
                event,
                utc_text(datetime.now(UTC)),
                storage.digest(alert.data.seq, event),
            ),
        )

    def end_left_open(self, now: datetime) -> list[Alert]:
        """End the situations that a killed run left open, with the reason `restart`; call it once, at the start.

        Where the disk can't be written they stay open in the file until a run that can.
        """
        try:
            with self._transaction():
                rows = self._db.execute("SELECT newest, etsi_sequence FROM situation WHERE open ORDER BY id").fetchall()
                return [self._end_restarted(json.loads(newest), etsi, now) for newest, etsi in rows]
        except StoreError as error:
            self._fall_back(error)
            return []

    def _end_restarted(self, event: dict[str, Any], etsi: int, now: datetime) -> Alert:
        data, situation = event["data"], event["data"]["situation"]
        moment, seq = max(utc_text(now), situation["observed"]), self._next_seq()
        situation |= {
            "version": situation["version"] + 1,
            "phase": "end",
            "ended": moment,
            "endReason": "restart",
            "validUntil": moment,
        }
        data |= {"seq": seq, "because": ["the program was restarted and does not see it any more"]}
        data["provenance"]["decided"] = moment
        event |= {
            "id": f"{situation['id']}.{situation['version']}",
            "type": EVENT_TYPES["end"],
            "time": moment,
            "sequence": f"{seq:016d}",
        }
        alert = Alert.model_validate_json(json.dumps(event))
        self._store(alert, etsi, is_open=False)
        return alert

    def unsent(self, after: Outgoing | None, limit: int) -> list[Outgoing]:
        """Return the oldest rows that no broker has taken, beyond one that was sent.

        A row of another journal is no bound: numbers begin anew in each.
        """
        with self._lock:
            after_seq = after.seq if after is not None and after.journal == self.id else 0
            rows = self._rows(
                "SELECT seq, zone, event FROM outbox WHERE acked_at IS NULL AND parked IS NULL AND seq > ? "
                "ORDER BY seq LIMIT ?",
                after_seq,
                limit,
            )
            return [Outgoing(self.id, *row) for row in rows]

    def mark_acked(self, journal: str, seq: int) -> bool:
        """Note that the broker took a row. It is kept: a broker's receipt is not durability.

        Returns:
            False where another journal is in use by now; nothing was changed.
        """
        return self._settle(journal, "UPDATE outbox SET acked_at = ? WHERE seq = ?", utc_text(datetime.now(UTC)), seq)

    def park(self, journal: str, seq: int, reason: str) -> bool:
        """Set aside a row that the broker will never take, so that it does not block the others.

        Returns:
            False where another journal is in use by now; nothing was changed.
        """
        return self._settle(journal, "UPDATE outbox SET parked = ? WHERE seq = ?", reason, seq)

    def _settle(self, journal: str, query: str, *values: object) -> bool:
        with self._lock:  # the journal in use may change at any time: numbers begin anew in each
            if journal != self.id:
                return False
            with self._transaction():
                self._db.execute(query, values)
            return True

    def replay(self, first: int, last: int) -> int:
        """Let the rows of a range, both ends included, go out again in order; return how many are still there.

        Raises:
            ConfigError: the range holds more than `MOST_REPLAYED` numbers.
        """
        if last - first >= MOST_REPLAYED:
            raise ConfigError(f"{last - first + 1} events asked for; at most {MOST_REPLAYED} at once")
        with self._transaction():
            again = self._db.execute(
                "UPDATE outbox SET acked_at = NULL, parked = NULL WHERE seq BETWEEN ? AND ?", (first, last)
            )
            return again.rowcount

    def consumer_has(self, consumer: str, upto: int) -> None:
        """Note that a consumer has everything up to a number; an older receipt that comes late changes nothing."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO consumer VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
                "SET upto = excluded.upto, at = excluded.at WHERE excluded.upto > upto",
                (consumer, upto, utc_text(datetime.now(UTC))),
            )

    def consumers(self) -> dict[str, int]:
        """Return up to which number each consumer has everything."""
        return dict(self._rows("SELECT name, upto FROM consumer ORDER BY name"))

    def is_open(self, situation: str) -> bool:
        """Tell whether a situation has started and not ended."""
        return bool(self._rows("SELECT 1 FROM situation WHERE id = ? AND open", situation))

    def newest(self) -> int:
        """Return the number of the newest event, 0 before the first."""
        ((seq,),) = self._rows("SELECT seq FROM journal")
        return int(seq)

    def counts(self) -> tuple[int, int]:
        """Return how many rows are unsent, and how many are parked."""
        ((unsent, parked),) = self._rows(
            "SELECT count(*) FILTER (WHERE acked_at IS NULL AND parked IS NULL), "
            "count(*) FILTER (WHERE parked IS NOT NULL) FROM outbox"
        )
        return int(unsent), int(parked)

    def forget_before(self, moment: datetime) -> int:
        """Erase acknowledged rows that are older than the retention; return how many."""
        with self._transaction():
            done = self._db.execute(
                "DELETE FROM outbox WHERE acked_at IS NOT NULL AND created < ?", (utc_text(moment),)
            )
            self._db.execute("DELETE FROM situation WHERE NOT open AND id NOT IN (SELECT situation FROM outbox)")
            return done.rowcount

    def close(self) -> None:
        """Close the file and give the folder up."""
        with self._lock:
            self._db.close()
            if self._in_memory:
                self._disk.close()
            self._mark.close()
            os.close(self._owner)

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read; where the disk can't be read any more, the journal goes on in memory, as where it can't be written."""
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                if self._in_memory:
                    raise
                self._fall_back(StoreError(f"{self._path}: {error}"))
                return self._db.execute(query, values).fetchall()

    def _next_seq(self) -> int:
        """Return the next number of this journal: gap-free, since it is taken and used in one transaction."""
        (newest,) = self._db.execute("UPDATE journal SET seq = seq + 1 RETURNING seq").fetchone()
        return int(newest)

    def _next_etsi_sequence(self) -> int:
        """Return the next 16-bit number of a DENM; it wraps, as ETSI EN 302 637-3 has it."""
        (newest,) = self._db.execute(
            "UPDATE journal SET etsi_sequence = (etsi_sequence + 1) % 65536 RETURNING etsi_sequence"
        ).fetchone()
        return int(newest)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, transaction(self._db, str(self._path)):
            yield


def history(state_dir: Path) -> Iterator[Alert]:
    """Yield every event that a journal still holds, in order, without disturbing a program that writes it.

    Raises:
        StoreError: there is no journal, or it can't be read.
    """
    path = state_dir / FILE
    if not path.exists():
        raise StoreError(f"{path}: no journal; name the state folder with --state")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
            for (event,) in db.execute("SELECT event FROM outbox ORDER BY seq"):
                yield Alert.model_validate_json(event)
    except (sqlite3.Error, ValueError) as error:
        raise StoreError(f"{path}: can't be read as a journal ({error})") from None
