"""A journal on one node and its copy on another, and which of the two may number events.

The coordinator gives out terms, each to one keeper alone. A keeper leads in its term: it commits, hands every commit to
its copy before it is final, and publishes. A copy that has heard of a newer term refuses an older one's commits, so
that a leader that was cut off and replaced can number nothing any more; without its copy's word it commits nothing,
unless the coordinator, who knows of all terms, lets it go on alone. A leader whose own disk fails steps down.

References:
    D. Ongaro, J. Ousterhout, "In search of an understandable consensus algorithm", USENIX ATC 2014, sec. 5.1 (terms);
    M. Kleppmann, "How to do distributed locking", 2016 (fencing tokens).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from adapters.errors import StoreError, WildlaneError
from adapters.files import write_whole
from monitor.alerts.compose import Draft
from monitor.alerts.journal import Journal
from monitor.alerts.schema import Alert
from monitor.alerts.storage import FILE, MARK, set_aside

log = logging.getLogger(__name__)

TERM = "term"


class FencedError(WildlaneError):
    """Another keeper leads now."""


class UnreachableError(WildlaneError):
    """Who was asked does not answer."""


class MissingError(StoreError):
    """The journal that is to be led is not here."""


class Copy(Protocol):
    """The copy of a journal, wherever it is."""

    def begin(self, term: int, content: bytes) -> None:
        """Begin with the whole journal."""

    def receive(self, term: int, alerts: Sequence[str], delivered: int) -> None:
        """Take commits, and up to which number the broker has everything.

        Raises:
            FencedError: the copy has heard of a newer term.
            UnreachableError: it does not answer.
        """


class Keeper:
    """One end of the pair, in a folder of its own: a leader, a copy, or neither yet."""

    def __init__(self, state_dir: Path) -> None:
        """Open what is there.

        Raises:
            StoreError: the folder can't be used.
        """
        self._state_dir, self._lock = state_dir, threading.RLock()
        self._copy: Copy | None = None
        self._allowed_alone: Callable[[int], bool] = lambda term: False
        self._told_delivered, self._name = 0, ""
        self.leads = False
        self.term = self._read_term()
        self._journal: Journal | None = None

    @property
    def journal(self) -> Journal:
        """The journal.

        Raises:
            StoreError: it is none yet.
        """
        if self._journal is None:
            raise StoreError(f"{self._state_dir}: holds no journal yet")
        return self._journal

    @property
    def has_copy(self) -> bool:
        """Whether what it commits is on another node too."""
        return self._copy is not None

    def begin(self, term: int, content: bytes) -> None:
        """Become the copy of a journal.

        Raises:
            FencedError: it has heard of a newer term.
            StoreError: the folder can't be written.
        """
        with self._lock:
            self._enter(term)
            self.leads = False
            if self._journal is not None:
                self._journal.close()
            with self._writing():
                for part in (FILE, f"{FILE}-wal", f"{FILE}-shm", MARK):
                    (self._state_dir / part).unlink(missing_ok=True)
                write_whole(self._state_dir / FILE, content)
            self._journal = self._opened()

    def receive(self, term: int, alerts: Sequence[str], delivered: int) -> None:
        """Commit what the leader is about to commit.

        Raises:
            FencedError: it has heard of a newer term.
            StoreError: the alerts do not follow what is here, or can't be kept.
        """
        with self._lock:
            self._enter(term)
            if alerts:
                self.journal.receive([Alert.model_validate_json(alert) for alert in alerts])
            if delivered > self._told_delivered:
                self.journal.mark_delivered(delivered)
                self._told_delivered = delivered

    def lead(self, term: int, allowed_alone: Callable[[int], bool], *, journal: str | None = None) -> Journal:
        """Number events from now on, under a new term and without a copy yet; return the journal.

        Args:
            term: newer than any before.
            allowed_alone: asked with the term where the copy is lost: whether to go on without one.
            journal: the id of the one to go on with; None for a new one, before which one that is there is set aside,
                for it has not all that was numbered.

        Raises:
            FencedError: it has heard of a newer term.
            MissingError: that journal is not here.
            StoreError: the folder can't be written.
        """
        with self._lock:
            self._enter(term)
            self._allowed_alone = allowed_alone
            self._take_up(journal)
            self._name = self.journal.id
            self.leads, self._copy = True, None
            return self.journal

    def _take_up(self, journal: str | None) -> None:
        file = self._state_dir / FILE
        if self._journal is None and journal is None and file.exists():
            with self._writing():
                set_aside(file)
                (self._state_dir / MARK).unlink(missing_ok=True)
        if self._journal is None and journal is not None and not file.exists():
            raise MissingError(f"{self._state_dir}: holds no journal; expected {journal}")
        if self._journal is None:
            self._journal = self._opened()
        if self._journal.in_memory:  # there may be more on the disk than can be had now
            problem = self._journal.problem
            self._journal.close()
            self._journal = None
            raise StoreError(problem)
        if journal not in (None, self._journal.id):  # another one; or it was damaged, and a new one was begun
            raise MissingError(f"{self._state_dir}: holds journal {self._journal.id}; expected {journal}")

    def step_down(self) -> None:
        """Lead no more: another one does, or may."""
        with self._lock:
            self.leads = False

    def forget_before(self, moment: datetime) -> None:
        """Erase what was delivered before; see `Journal.forget_before`."""
        with self._lock:
            if self._journal is not None:
                self._journal.forget_before(moment)

    def follow_up(self, copy: Copy) -> None:
        """Go on with another copy, which gets the journal as it is now, and every commit.

        Where it can't begin, the one before it stays, and with it what needs the coordinator's word once that is lost.
        """
        with self._lock:
            copy.begin(self.term, self.journal.copy())
            self._copy = copy

    def append(self, drafts: Sequence[Draft]) -> list[Alert]:
        """Commit situation versions here and at the copy; see `Journal.append`.

        Raises:
            FencedError: another keeper leads now; nothing was committed.
        """
        with self._lock:
            self._must_lead()
            return self.journal.append(drafts)

    def end_left_open(self, zones: Collection[str] | None) -> list[Alert]:
        """End what a lost watcher left open in its zones; see `Journal.end_left_open`."""
        with self._lock:
            self._must_lead()
            return self.journal.end_left_open(datetime.now(UTC), zones)

    def tell_delivered(self) -> None:
        """Let the copy know what the broker has, so that it would not send it again; to be called now and then."""
        with self._lock:
            if self.leads and self._copy is not None:
                self._hand_over([])

    def close(self) -> None:
        """Give the folder up."""
        with self._lock:
            self.leads = False
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    def _must_lead(self) -> None:
        if not self.leads:
            raise FencedError(f"{self._state_dir}: another keeper leads since term {self.term}")

    def _hand_over(self, alerts: Sequence[Alert]) -> None:
        """Have the copy take alerts first. Called within the transaction that commits them here.

        Raises:
            FencedError: another keeper leads now, or may; nothing must be committed.
        """
        if alerts and self.leads and alerts[0].data.journal != self._name:  # it has begun to live in memory
            self.leads = False
            raise FencedError(f"{self._state_dir}: the disk can't be written; the copy must lead")
        if self._copy is None:
            return
        try:
            self._copy.receive(self.term, [alert.json_text() for alert in alerts], self.journal.delivered())
        except FencedError:
            self.leads = False
            raise
        except (UnreachableError, StoreError) as error:
            if not self._allowed_alone(self.term):
                self.leads = False
                raise FencedError(
                    f"the copy is lost ({error}), and the coordinator does not let us go on alone"
                ) from None
            log.warning("the copy is lost (%s): going on without one", error)
            self._copy = None

    def _opened(self) -> Journal:
        return Journal(self._state_dir, before_commit=self._hand_over)

    def _enter(self, term: int) -> None:
        """Hear of a term, and keep it: a keeper that starts again must not believe an older one."""
        if term < self.term:
            raise FencedError(f"term {term} is over; {self.term} began")
        if term > self.term:
            with self._writing():
                write_whole(self._state_dir / TERM, f"{term}\n".encode())
            self.term = term

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._state_dir.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise StoreError(f"{self._state_dir}: can't be written ({error.strerror or error})") from None

    def _read_term(self) -> int:
        try:
            return int((self._state_dir / TERM).read_text())
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            raise StoreError(f"{self._state_dir / TERM}: can't be read ({error})") from None
