"""The journal's two ends, as the coordinator sees them: who leads in which term, and whose disk has everything.

What is noted on the coordinator's disk comes before what it allows: a run after this one, or a leader after a lost one,
begins with a disk that has every event, or, where there is none left, with a new journal.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict

from adapters.errors import WildlaneError
from monitor.cluster.calls import call
from monitor.cluster.journal_actor import JournalActor
from monitor.cluster.keeper import MissingError
from monitor.cluster.nodes import Node, Nodes, Placed, Role, least_busy, place
from monitor.cluster.told import Heard
from monitor.config import Config
from monitor.notes import read_note, write_note

log = logging.getLogger(__name__)

FORMER_S = 60.0  # for which the disks of an earlier run's journal are waited for
AFTER_LOSS_S = 5.0  # the same, after a leader was lost in this run and no node with such a disk is alive
LEAD_S, COPY_S = 8.0, 8.0  # for a journal to be opened, and to reach its copy
NOTE, FOLDER = "cluster.json", "journals"


class Whole(BaseModel):
    """The note.

    Attributes:
        term: the newest that was given out.
        disks: those that have every event of the journal.
        journal: its id.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    term: int = 0
    disks: tuple[str, ...] = ()
    journal: str = ""


def newer_than_any() -> int:
    """Return a term that none before it reached, where the note of them is lost: no second had more than one."""
    return int(time.time())


class Pair:
    """The two ends of a site's journal.

    Attributes:
        leader, copy: who they are; None while there is none.
        term: the newest that was given out.
        heard: up to which alert the coordinator has heard.
    """

    def __init__(self, config: Config, state_dir: Path, groups: Mapping[str, str], nodes: Nodes) -> None:
        """Read what an earlier run noted.

        Args:
            config: of the site.
            state_dir: the note is there on this node, and journals in a folder of each keeper's node.
            groups: zone -> the group that watches it, of all zones of the site.
            nodes: what may be used.
        """
        self._config, self._state_dir, self._groups, self._nodes = config, state_dir, groups, nodes
        former = read_note(state_dir / NOTE, Whole)
        self.term, self._whole, self._journal = former.term or newer_than_any(), set(former.disks), former.journal
        self.leader: Placed | None = None
        self.copy: Placed | None = None
        self._next: Placed | None = None  # a keeper that starts, and is then made what is needed
        self._terms = threading.Lock()  # never held while somebody is called: who is called may ask for it
        self._behind = 0  # keepers up to this number are no copies: the leader went on without them
        self._number = 0
        self._lost_s, self._led = time.monotonic(), False  # since when nobody leads; whether anybody did
        self._tried_s: dict[str, float] = {}  # disks that were to lead since, and when
        self.heard = Heard()

    def allows_alone(self, term: int, copy: int) -> bool:
        """Tell a leader that lost its copy whether it may go on without: where nobody was made leader since."""
        with self._terms:
            leader = self.leader
            if term != self.term or leader is None:
                return False
            self._note({leader.disk})
            self._behind = max(self._behind, copy)
            return True

    def everybody(self) -> dict[Role, Placed]:
        """Return the keepers by what they are."""
        keepers = {Role("leader"): self.leader, Role("copy"): self.copy, Role("keeper"): self._next}
        return {role: placed for role, placed in keepers.items() if placed is not None}

    def drop(self, role: Role) -> None:
        """Forget a keeper that is lost."""
        if role.kind == "leader":
            self.leader, self._lost_s = None, time.monotonic()
        elif role.kind == "copy":
            self.copy = None
        else:
            self._next = None

    def tend(self, nodes: Sequence[Node], others: Iterable[Placed]) -> None:
        """See to it that there are a leader and a copy, on two nodes; nobody is waited for here.

        Args:
            nodes: that may be used.
            others: actors that are placed already.

        Raises:
            StoreError: the note can't be written; what needs it is tried again in the next round.
        """
        if self.leader is None:
            self._promote()
            self._drop_what_lacks_something()
        self._leave_drained()
        if self.copy is not None and self.copy.number <= self._behind:
            ray.kill(self.copy.actor)
            self._nodes.suspect(self.copy.node)  # it was left behind; where the node is drained, that says no more
            self.copy = None
        keeper = self._next
        if keeper is not None and keeper.has_answered and (self.leader is None or self.copy is None):
            if self.leader is None:
                self._begin(keeper)
            else:
                self._let_follow(self.leader, keeper)
        elif keeper is None and (self.leader is None or self.copy is None):
            self._start_next(nodes, others)
        self._note_who_has_everything()

    def _start_next(self, nodes: Sequence[Node], others: Iterable[Placed]) -> None:
        able = [node for node in nodes if node.has(self._config.cluster.journal_nodes)] or list(nodes)
        if self.leader is None:
            able = self._with_everything() if self._whole else able
        else:
            taken = self.leader.disk
            able = [node for node in able if node.disk != taken]
        if able:
            node = least_busy(able, others)
            self._tried_s[node.disk] = time.monotonic()
            me: Any = ray.get_runtime_context().current_actor
            folder = self._state_dir / FOLDER / node.disk
            self._next = place(JournalActor, node, self._config, folder, self._groups, me)
            self._number += 1
            self._next.number, self._next.disk = self._number, node.disk

    def _with_everything(self) -> list[Node]:
        """Return the nodes whose disks have all that was numbered, suspected and drained ones too.

        One after another is tried. After a while they are given up, and a new journal begins.
        """
        found = [node for node in self._nodes.alive() if node.disk in self._whole]
        patience_s = AFTER_LOSS_S if self._led and not found else FORMER_S
        all_tried = all(node.disk in self._tried_s for node in found)
        if all_tried and time.monotonic() - self._lost_s > patience_s:
            log.error("the journal is lost with %s: a new one begins", ", ".join(sorted(self._whole)))
            self._note(set())
            return []
        first = min((self._tried_s.get(node.disk, 0.0) for node in found), default=0.0)
        return [node for node in found if self._tried_s.get(node.disk, 0.0) == first]

    def _drop_what_lacks_something(self) -> None:
        """Give up a keeper that was to be a copy, where nobody leads now: what is on its disk may be old."""
        keeper = self._next
        if keeper is not None and self.leader is None and self._whole and keeper.disk not in self._whole:
            ray.kill(keeper.actor)
            self._next = None

    def _leave_drained(self) -> None:
        """Take the ends off drained nodes: the copy at once, the leader once there is a copy elsewhere."""
        if self.copy is None:
            return
        if self.copy.node in self._nodes.drained:
            self._behind = max(self._behind, self.copy.number)
        elif self.leader is not None and self.leader.node in self._nodes.drained:
            self._promote()

    def _promote(self) -> None:
        """Let the copy lead, where it has everything; a leader that is still there ends."""
        with self._terms:  # or the leader might be let go on without the copy just now
            copy, whole = self.copy, self._whole
            if copy is None or copy.number <= self._behind:
                return
            self._begin_term({copy.disk})
            self.copy = None
            if self.leader is not None:
                ray.kill(self.leader.actor)
                self.drop(Role("leader"))
        self._let_lead(copy, self._journal, whole)

    def _begin(self, keeper: Placed) -> None:
        """Let a keeper lead that was none: with what its disk has, or with a new journal."""
        with self._terms:
            whole = self._whole
            self._begin_term({keeper.disk} & whole)
        self._next = None
        self._let_lead(keeper, self._journal if whole else None, whole)

    def _let_lead(self, keeper: Placed, journal: str | None, whole: set[str]) -> None:
        """Let a keeper lead, alone at first: with the journal of that id, or with a new one.

        Args:
            keeper: it.
            journal: see `Keeper.lead`.
            whole: the disks that have everything, and still have where it does not lead: nothing was numbered then.
        """
        keeper.question = None  # asked of it before it led
        try:
            self._journal = call(keeper.actor, "lead", self.term, journal, self.heard, timeout_s=LEAD_S)
        except WildlaneError as error:
            log.error("the journal can't be led on node %s: %s", keeper.node[:8], error)  # noqa: TRY400  # one line
            self._nodes.suspect(keeper.node)
            ray.kill(keeper.actor)
            with self._terms:
                self._note(whole - {keeper.disk} if isinstance(error, MissingError) else whole)
            return
        with self._terms:
            self.leader, self._led = keeper, True
            self._tried_s.clear()
        log.info("the journal %s is led on node %s in term %d", self._journal, keeper.node[:8], self.term)

    def _let_follow(self, leader: Placed, keeper: Placed) -> None:
        """Make a keeper the copy of the leader's journal."""
        self._next = None
        try:
            call(leader.actor, "follow_up", keeper.actor, keeper.number, timeout_s=COPY_S)
        except WildlaneError as error:
            log.warning("there is no copy of the journal yet: %s", error)
            self._nodes.suspect(keeper.node)  # another one may do better
            ray.kill(keeper.actor)
            return
        self.copy = keeper
        log.info("its copy is on node %s", keeper.node[:8])

    def _note_who_has_everything(self) -> None:
        """Note the disks of both ends; of a new journal's not before: what lies there is set aside when it is led."""
        with self._terms:
            if self.leader is None:
                return
            disks = {self.leader.disk}
            if self.copy is not None and self.copy.number > self._behind:
                disks.add(self.copy.disk)
            if disks != self._whole:
                self._note(disks)

    def _begin_term(self, disks: set[str]) -> None:
        """Note a new term, and the disk that is to lead in it; where that can't be noted, it has not begun."""
        self._note(disks, term=self.term + 1)

    def _note(self, disks: set[str], *, term: int | None = None) -> None:
        """Note which disks have every event, before anything is numbered that others lack.

        Raises:
            StoreError: it can't be noted, and nothing has changed.
        """
        term = self.term if term is None else term
        write_note(self._state_dir / NOTE, Whole(term=term, disks=tuple(sorted(disks)), journal=self._journal))
        self.term, self._whole = term, disks
