"""Two keepers of one journal: which of them may number events, and that nothing is lost or told twice between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.errors import StoreError
from monitor.alerts.history import history
from monitor.alerts.schema import Alert
from monitor.alerts.verify import verify
from monitor.cluster.keeper import FencedError, Keeper, MissingError, UnreachableError
from tests.faults.disk import fill, mounted
from tests.monitor.test_alerts import draft, one_life


class Line:
    """The way from a leader to its copy, which may be cut."""

    def __init__(self, copy: Keeper) -> None:
        self.copy, self.cut, self.answers = copy, False, True

    def begin(self, term: int, content: bytes) -> None:
        self.copy.begin(term, content)

    def receive(self, term: int, alerts: Sequence[str], delivered: int) -> None:
        if self.cut:
            raise UnreachableError("no answer")
        self.copy.receive(term, alerts, delivered)
        if not self.answers:
            raise UnreachableError("no answer")


class Pair:
    """Keepers on two nodes; the first leads in term 1, the second is its copy."""

    def __init__(self, folder: Path) -> None:
        self.one, self.two = Keeper(folder / "one"), Keeper(folder / "two")
        self.line, self.alone_allowed = Line(self.two), False
        self.one.lead(1, lambda term: self.alone_allowed)
        self.one.follow_up(self.line)

    def commit(self, keeper: Keeper, lives: int = 1) -> list[Alert]:
        return [alert for _ in range(lives) for alert in keeper.append([draft(version) for version in one_life()])]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.one.close()
    made.two.close()


def test_a_copy_that_is_promoted_goes_on_with_the_same_journal_and_the_former_leader_numbers_nothing(
    pair: Pair, tmp_path: Path
) -> None:
    told = pair.commit(pair.one, 3)
    pair.two.lead(2, lambda term: True, journal=pair.two.journal.id)
    told += pair.commit(pair.two)
    with pytest.raises(FencedError, match="term 1 is over"):
        pair.commit(pair.one)
    with pytest.raises(FencedError, match="another keeper leads"):
        pair.commit(pair.one)
    told += pair.commit(pair.two)

    assert [alert.data.seq for alert in told] == list(range(1, 11))
    assert {alert.data.journal for alert in told} == {pair.one.journal.id}
    assert [alert.json_text() for alert in history(tmp_path / "two")] == [alert.json_text() for alert in told]
    assert [alert.data.seq for alert in history(tmp_path / "one")] == list(range(1, 7))
    assert all(verdict.complete for verdict in verify(history(tmp_path / "two")))


def test_a_leader_that_is_cut_off_stops_unless_it_is_let_go_on(pair: Pair) -> None:
    pair.commit(pair.one)
    pair.line.cut = True
    with pytest.raises(FencedError, match="does not let us go on alone"):
        pair.commit(pair.one)
    assert not pair.one.leads
    assert pair.one.journal.newest() == 2

    pair.line.cut, pair.alone_allowed = False, True
    pair.one.lead(3, lambda term: pair.alone_allowed, journal=pair.one.journal.id)
    pair.one.follow_up(pair.line)
    pair.line.cut = True
    (start, end) = pair.commit(pair.one)

    assert (start.data.seq, end.data.seq, pair.one.has_copy) == (3, 4, False)
    pair.line.cut = False
    pair.one.follow_up(pair.line)
    assert (pair.one.has_copy, pair.two.journal.newest()) == (True, 4)


def test_what_the_copy_took_while_its_answer_was_lost_is_told_once(pair: Pair) -> None:
    pair.commit(pair.one)
    lost = [draft(version) for version in one_life()]
    pair.line.answers = False
    with pytest.raises(FencedError):
        pair.one.append(lost)
    pair.two.lead(2, lambda term: True, journal=pair.two.journal.id)
    again = pair.two.append(lost)  # the watcher asks the new leader

    assert pair.one.journal.newest() == 2
    assert [alert.data.seq for alert in history_of(pair.two)] == [1, 2, 3, 4]
    assert again[-1].data.seq == 4
    assert all(verdict.complete for verdict in verify(history_of(pair.two)))


def history_of(keeper: Keeper) -> list[Alert]:
    return [Alert.model_validate_json(row.event) for row in keeper.journal.unsent(None, 99)]


def test_a_keeper_that_starts_again_believes_no_older_term(pair: Pair, tmp_path: Path) -> None:
    pair.two.lead(5, lambda term: True, journal=pair.two.journal.id)
    pair.two.close()
    again = Keeper(tmp_path / "two")

    assert again.term == 5
    with pytest.raises(FencedError, match="term 1 is over; 5 began"):
        again.receive(1, [], 0)
    with pytest.raises(FencedError):
        again.begin(4, b"")
    with pytest.raises(StoreError, match="holds no journal yet"):
        Keeper(tmp_path / "three").receive(1, [draft(one_life()[0]).numbered(1, "j", 1).json_text()], 0)
    again.close()


def test_a_leader_whose_disk_is_full_steps_down_and_the_copy_goes_on(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "2m") as small:
        pair = Pair(small)
        pair.two.close()
        pair.two = pair.line.copy = Keeper(tmp_path / "two")
        pair.one.follow_up(pair.line)
        pair.commit(pair.one)
        fill(small)
        with pytest.raises(FencedError, match="the copy must lead"):
            pair.commit(pair.one, 200)
        known = pair.two.journal.newest()
        pair.two.lead(2, lambda term: True, journal=pair.two.journal.id)
        pair.commit(pair.two)
        pair.one.close()

    assert known >= 2
    assert [alert.data.seq for alert in history(tmp_path / "two")] == list(range(1, known + 3))
    pair.two.close()


def test_what_the_broker_has_is_not_sent_again_after_a_promotion(pair: Pair) -> None:
    pair.commit(pair.one, 2)
    for seq in (1, 2, 3):
        pair.one.journal.mark_acked(pair.one.journal.id, seq)
    pair.one.tell_delivered()

    pair.two.lead(2, lambda term: True, journal=pair.two.journal.id)

    assert [row.seq for row in pair.two.journal.unsent(None, 99)] == [4]


@pytest.mark.parametrize("lost", ["the leader", "the copy"])
def test_whichever_end_is_lost_with_its_disk_nothing_is_missing(
    lost: str, pair: Pair, tmp_path: Path, make_copy: Callable[[], Keeper]
) -> None:
    pair.alone_allowed = True
    pair.commit(pair.one, 2)
    if lost == "the leader":
        leader = pair.two
        leader.lead(2, lambda term: True)
    else:
        pair.line.cut, leader = True, pair.one
        pair.commit(leader)
    leader.follow_up(Line(third := make_copy()))
    pair.commit(leader, 2)

    seqs = [alert.data.seq for alert in history_of(third)]
    assert seqs == list(range(1, leader.journal.newest() + 1))
    assert all(verdict.complete for verdict in verify(history_of(third)))


@pytest.fixture
def make_copy(tmp_path: Path) -> Iterator[Callable[[], Keeper]]:
    made: list[Keeper] = []

    def make() -> Keeper:
        made.append(Keeper(tmp_path / f"new-{len(made)}"))
        return made[-1]

    yield make
    for keeper in made:
        keeper.close()


def test_an_empty_disk_or_another_journal_does_not_lead_in_place_of_the_one_that_is_wanted(
    pair: Pair, tmp_path: Path, make_copy: Callable[[], Keeper]
) -> None:
    pair.commit(pair.one)

    with pytest.raises(MissingError, match=f"holds no journal; expected {pair.one.journal.id}"):
        make_copy().lead(2, lambda term: True, journal=pair.one.journal.id)
    other = make_copy()
    other.lead(1, lambda term: True)
    with pytest.raises(MissingError, match=f"holds journal {other.journal.id}; expected {pair.one.journal.id}"):
        other.lead(2, lambda term: True, journal=pair.one.journal.id)


def test_a_disk_that_can_not_be_written_is_an_error_of_the_store(pair: Pair, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "1m") as small:
        keeper = Keeper(small / "journal")
        fill(small)
        with pytest.raises(StoreError, match="can't be written"):
            keeper.begin(2, pair.one.journal.copy())
        keeper.close()


def test_what_is_old_and_delivered_is_forgotten_at_both_ends_and_the_copy_goes_on(pair: Pair) -> None:
    pair.commit(pair.one, 3)
    for seq in range(1, 5):
        pair.one.journal.mark_acked(pair.one.journal.id, seq)
    pair.one.tell_delivered()

    for keeper in (pair.one, pair.two):
        keeper.forget_before(datetime.now(UTC) + timedelta(days=1))
    pair.commit(pair.one)

    assert [row.seq for row in pair.two.journal.unsent(None, 99)] == [5, 6, 7, 8]
