"""The journal: every situation version is on disk before anything is published, and stays until its retention is over.

WAL with `synchronous = FULL`: a commit that returned survives a power cut.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.database import transaction
from adapters.errors import ConfigError, DamagedError, StoreError
from monitor.alerts import storage, tables
from monitor.alerts.compose import Draft
from monitor.alerts.restart import ended_by_restart
from monitor.alerts.schema import Alert, utc_text
from monitor.alerts.storage import FILE, MARK, HighWaterMark
from monitor.alerts.tables import SituationRow

log = logging.getLogger(__name__)

COPIED = 10_000  # delivered events that a copy begins with, 55 MB: those of a week would take too long
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
    number is never given twice. While the disk can't be written the journal lives in memory, under an id of its own,
    with the situations that were open: alerts go out all the same. Both are told in `problem`.

    Attributes:
        id: of the journal in use.
        problem: what an operator must know of it; empty while all is well.
        in_memory: it goes on in memory now.
    """

    def __init__(
        self,
        state_dir: Path,
        now: Callable[[], float] = time.monotonic,
        *,
        make_room: Callable[[], bool] = lambda: False,
        before_commit: Callable[[Sequence[Alert]], None] = lambda alerts: None,
    ) -> None:
        """Open or make the journal; in memory, where the folder can't be written.

        Args:
            state_dir: its folder.
            now: a clock, seconds.
            make_room: called where the disk can't be written; tells whether it is worth another try.
            before_commit: given the alerts that are about to be committed; what it raises undoes the commit.

        Raises:
            StoreError: the folder is in use, or its journal was written by a newer program.
        """
        self._state_dir, self._path, self._now = state_dir, state_dir / FILE, now
        self._make_room, self._before_commit = make_room, before_commit
        self._mark = HighWaterMark(state_dir / MARK)
        self._lock = threading.RLock()
        self._owner = -1
        self.in_memory = False
        self._retry_at_s = 0.0
        self._open: dict[str, SituationRow] = {}  # as committed: a disk that dies can't be asked
        self._etsi_sequence = 0
        self._damage = ""  # what was found wrong with the file when it was opened
        self._disk: sqlite3.Connection | None = None  # while in memory: the file, once it could be opened
        self._continued = False  # memory goes on with the file's DENM numbers
        try:
            self._db = self._take_file_or_make_room()
        except (OSError, sqlite3.Error) as error:
            self._fall_back(StoreError(f"{self._path}: can't be opened as a journal ({error})"), None)
            return
        self.problem, (self.id,) = self._damage, self._db.execute("SELECT id FROM journal").fetchone()
        self._open = {row.id: row for row in tables.situations(self._db, "open")}
        self._etsi_sequence = self._last_etsi_sequence()

    def _take_file_or_make_room(self) -> sqlite3.Connection:
        try:
            return self._take_file()
        except (OSError, sqlite3.Error):
            if self._make_room():
                return self._take_file()
            raise

    def _take_file(self) -> sqlite3.Connection:
        """Take the folder for this process and return the file in it, checked.

        Raises:
            OSError, sqlite3.Error: the disk can't be written or read.
            StoreError: the folder is in use, or its journal was written by a newer program.
        """
        self._state_dir.mkdir(parents=True, exist_ok=True)
        self._owner = storage.own(self._state_dir)
        try:
            db = self._open_file()
            journal, seq = db.execute("SELECT id, seq FROM journal").fetchone()
        except BaseException:
            os.close(self._owner)
            self._owner = -1
            raise
        self._mark.write(journal, seq)
        return db

    def _open_file(self) -> sqlite3.Connection:
        """Return the file; where it is not whole, set it aside and begin anew."""
        try:
            db, lost = tables.opened(self._path, self._mark)
        except (sqlite3.DatabaseError, DamagedError, TypeError, ValueError) as error:  # broken bytes have wrong types
            if isinstance(error, sqlite3.OperationalError) and not storage.is_damage(error):
                raise
            aside = storage.set_aside(self._path)
            self._damage = f"the journal was damaged ({error}): kept as {aside.name}, a new one begins"
            log.error("%s", self._damage)  # noqa: TRY400  # one line: the cause is in it
            db, lost = tables.opened(self._path, None)
        if lost:
            self._damage = f"{lost} situations in the journal can't be read: those still open get no end"
            log.error("%s", self._damage)
        return db

    def _fall_back(self, error: StoreError, disk: sqlite3.Connection | None) -> None:
        """Go on in memory: an alert that can't be recorded must still be told, and what is open must still end."""
        self.problem = f"the journal can't be used, alerts are not recorded: {error}"
        log.error("%s", self.problem)
        self._disk, self._continued = disk, disk is not None
        self._db, _ = tables.opened(":memory:", None)
        (self.id,) = self._db.execute("SELECT id FROM journal").fetchone()
        for row in self._open.values():
            tables.put_situation(self._db, row)
        self._db.execute("UPDATE journal SET etsi_sequence = ?", (self._etsi_sequence,))
        self.in_memory, self._retry_at_s = True, self._now() + RETURN_EVERY_S

    def recover(self, now: datetime) -> list[Alert]:
        """Go back to the disk, once it can be written and all that was told from memory is with the broker.

        To be called again and again: on a quiet road nothing is appended, and the rows on the disk wait.

        Returns:
            The ends of what an earlier run left open in a file that could not be opened until now.
        """
        with self._lock:
            if not self.in_memory or self._now() < self._retry_at_s or self.counts()[0]:
                return []
            self._retry_at_s = self._now() + RETURN_EVERY_S
            memory, memory_id, known = self._db, self.id, tables.situations(self._db)
            try:
                self._disk = self._disk or self._take_file()
                self._db, self.in_memory = self._disk, False
                ended = self._commit(lambda: self._carry_over(known, now))
            except (OSError, sqlite3.Error, StoreError) as error:
                self._db, self.id, self.in_memory = memory, memory_id, True
                log.info("the journal can't be used yet: %s", error)
                return []
            memory.close()
            self._disk, self.problem = None, self._damage
            log.warning("the journal can be used again: alerts are recorded")
            return ended

    def _carry_over(self, known: Sequence[SituationRow], now: datetime) -> list[Alert]:
        """Write down how the situations stand that memory knows; end those of the file that it does not."""
        # In any case something is written: a disk that can only be read is no place to return to.
        goes_on = "UPDATE journal SET etsi_sequence = iif(?, ?, etsi_sequence) RETURNING id"
        (self.id,) = self._db.execute(goes_on, (self._continued, self._etsi_sequence)).fetchone()
        names = {row.id for row in known}
        left = [row for row in tables.situations(self._db, "open") if row.id not in names]
        for row in known:
            tables.put_situation(self._db, row)
        return self._end(left, now)

    def append(self, drafts: Sequence[Draft]) -> list[Alert]:
        """Commit situation versions and their messages together; return the alerts as they will be published.

        A version that is there already, from a caller that lost the answer, is returned as it was committed. Where the
        disk can't be written they are kept in memory, and `problem` says so.
        """
        with self._lock:
            return self._commit_somewhere(lambda: [self._append(draft) for draft in drafts])

    def end_left_open(self, now: datetime, zones: Collection[str] | None = None) -> list[Alert]:
        """End the situations that a killed run left open, with the reason `restart`; call it once, at the start.

        Those of some zones alone, where what watched them was one of several. One that can't be read is closed without
        an end, and `problem` says so. Where the disk can't be written the ends are told from memory.
        """
        with self._lock:
            return self._commit_somewhere(lambda: self._end(self._left_open(zones), now))

    def _left_open(self, zones: Collection[str] | None) -> list[SituationRow]:
        return [row for row in tables.situations(self._db, "open") if zones is None or row.zone in zones]

    def receive(self, alerts: Sequence[Alert]) -> None:
        """Commit what the journal that this is a copy of commits; numbers and all.

        Raises:
            StoreError: they are another journal's, or do not follow what is here.
        """
        with self._lock:
            self._commit(lambda: [self._received(alert) for alert in alerts])

    def _received(self, alert: Alert) -> Alert:
        (newest, etsi) = self._db.execute("SELECT seq, etsi_sequence FROM journal").fetchone()
        seq = newest + 1
        if (alert.data.journal, alert.data.seq) != (self.id, seq):
            raise StoreError(f"event {alert.data.seq} of journal {alert.data.journal} is not event {seq} of {self.id}")
        if alert.data.situation.phase == "start":
            etsi = alert.data.codes.etsi.sequence_number
        self._db.execute("UPDATE journal SET seq = ?, etsi_sequence = ?", (seq, etsi))
        return self._store(alert)

    def delivered(self) -> int:
        """Return up to which number no event waits for the broker."""
        waiting = "SELECT min(seq) - 1 FROM outbox WHERE acked_at IS NULL AND parked IS NULL"
        ((upto,),) = self._rows(f"SELECT coalesce(({waiting}), seq) FROM journal")  # noqa: S608  # ours
        return int(upto)

    def mark_delivered(self, upto: int) -> None:
        """Note that the broker has what the journal that this is a copy of says it has."""
        with self._transaction():
            self._db.execute(
                "UPDATE outbox SET acked_at = ? WHERE seq <= ? AND acked_at IS NULL AND parked IS NULL",
                (utc_text(datetime.now(UTC)), upto),
            )

    def copy(self) -> bytes:
        """Return a file for a copy to begin with: all that was not delivered, and the newest that were."""
        with self._lock:
            return tables.recent(self._db, COPIED)

    def _commit_somewhere(self, make: Callable[[], list[Alert]]) -> list[Alert]:
        """Commit to the disk, or, where it can't be written, to memory."""
        try:
            return self._commit(make)
        except StoreError as error:
            if self.in_memory:
                raise
            return self._commit_after(error, make)

    def _commit_after(self, error: StoreError, make: Callable[[], list[Alert]]) -> list[Alert]:
        """Commit once more where room could be made, else to memory."""
        try:
            if self._make_room():
                return self._commit(make)
        except StoreError as still:
            error = still
        self._fall_back(error, self._db)
        return self._commit(make)

    def _commit(self, make: Callable[[], list[Alert]]) -> list[Alert]:
        with self._transaction():
            (before,) = self._db.execute("SELECT seq FROM journal").fetchone()
            alerts = make()
            if fresh := [alert for alert in alerts if alert.data.seq > before]:
                self._before_commit(fresh)
            etsi = self._last_etsi_sequence()
        self._etsi_sequence = etsi
        self._open |= {alert.data.situation.id: tables.row_of(alert) for alert in alerts}
        self._open = {name: row for name, row in self._open.items() if row.is_open}
        if alerts and not self.in_memory:
            self._mark.write(self.id, alerts[-1].data.seq)
        return alerts

    def _append(self, draft: Draft) -> Alert:
        situation = draft.situation
        query = "SELECT etsi_sequence, newest FROM situation WHERE id = ?"
        row = self._db.execute(query, (situation.id,)).fetchone()
        if row and json.loads(row[1])["data"]["situation"]["version"] >= situation.version:
            return Alert.model_validate_json(row[1])
        etsi = row[0] if row else self._next_etsi_sequence()
        return self._store(draft.numbered(self._next_seq(), self.id, etsi))

    def _store(self, alert: Alert) -> Alert:
        tables.put_situation(self._db, tables.row_of(alert))
        tables.put_event(self._db, alert)
        return alert

    def _end(self, rows: Sequence[SituationRow], now: datetime) -> list[Alert]:
        ended = []
        for row in rows:
            (newest,) = self._db.execute("SELECT seq FROM journal").fetchone()
            try:
                alert = ended_by_restart(row.newest, self.id, newest + 1, now)
            except ValueError as error:  # its number is not taken yet: there is no gap
                tables.put_situation(self._db, row._replace(is_open=0))
                self._open.pop(row.id, None)
                self.problem = self._damage = f"situation {row.id} was left open and can't be read: it gets no end"
                log.error("%s (%s)", self.problem, str(error).replace("\n", " "))  # noqa: TRY400  # one line
                continue
            self._next_seq()
            ended.append(self._store(alert))
        return ended

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

    def zone_of(self, situation: str) -> str | None:
        """Return the zone of a situation; None where it is not known."""
        return next((zone for (zone,) in self._rows("SELECT zone FROM situation WHERE id = ?", situation)), None)

    def after(self, seq: int) -> list[tuple[int, str]]:
        """Return numbers and JSON of the events beyond a number that are still here, in order."""
        return [(row[0], row[1]) for row in self._rows("SELECT seq, event FROM outbox WHERE seq > ? ORDER BY seq", seq)]

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
            over = "DELETE FROM outbox WHERE acked_at IS NOT NULL AND created < ? RETURNING seq"
            gone = [seq for (seq,) in self._db.execute(over, (utc_text(moment),))]
            self._db.execute("UPDATE journal SET pruned = max(pruned, ?)", (max(gone, default=0),))
            self._db.execute("DELETE FROM situation WHERE NOT open AND id NOT IN (SELECT situation FROM outbox)")
            return len(gone)

    def close(self) -> None:
        """Close the file and give the folder up."""
        with self._lock:
            self._db.close()
            if self._disk is not None:
                self._disk.close()
            self._mark.close()
            if self._owner >= 0:
                os.close(self._owner)

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read; where the disk can't be read any more, the journal goes on in memory, as where it can't be written."""
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                if self.in_memory:
                    raise
                self._fall_back(StoreError(f"{self._path}: {error}"), self._db)
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

    def _last_etsi_sequence(self) -> int:
        return int(self._db.execute("SELECT etsi_sequence FROM journal").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, transaction(self._db, str(self._path)):
            yield
