"""A journal and its copy on another machine: the copy has every commit first, and goes on where the journal ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.errors import InputError, StoreError
from monitor.alerts.history import history
from monitor.alerts.journal import Journal
from monitor.alerts.schema import Alert
from monitor.alerts.storage import FILE
from tests.monitor.test_alerts import draft, one_life

NOW = datetime(2026, 11, 27, tzinfo=UTC)


class Pair:
    """A journal that hands what it commits to a copy."""

    def __init__(self, folder: Path) -> None:
        self.first = Journal(folder / "first", before_commit=self.hand_over)
        self.first.append([draft(one_life()[0])])
        (folder / "copy").mkdir()
        (folder / "copy" / FILE).write_bytes(self.first.copy())
        self.copy = Journal(folder / "copy")
        self.breaks = False

    def hand_over(self, alerts: Sequence[Alert]) -> None:
        if hasattr(self, "copy"):
            if self.breaks:
                raise InputError("the other machine is gone")
            self.copy.receive(alerts)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.first.close()
    made.copy.close()


def rows(journal: Journal) -> list[tuple[int, str]]:
    return [(row.seq, row.event) for row in journal.unsent(None, 99)]


def test_a_copy_has_every_commit_with_its_number_and_goes_on_under_the_same_name(pair: Pair, tmp_path: Path) -> None:
    for _ in range(3):
        pair.first.append([draft(situation) for situation in one_life()])

    assert pair.copy.id == pair.first.id
    assert rows(pair.copy) == rows(pair.first)
    (start,) = pair.copy.append([draft(one_life()[0])])
    (other,) = pair.first.end_left_open(NOW, {"nowhere"}) or (None,)
    assert other is None
    assert (start.data.journal, start.data.seq) == (pair.first.id, 8)
    assert start.data.codes.etsi.sequence_number == 5
    assert len(list(history(tmp_path / "copy"))) == 8


def test_what_the_copy_can_not_take_is_not_committed(pair: Pair) -> None:
    before = rows(pair.first)
    pair.breaks = True

    with pytest.raises(InputError, match="the other machine is gone"):
        pair.first.append([draft(one_life()[0])])

    assert rows(pair.first) == before == rows(pair.copy)


def test_a_caller_that_lost_the_answer_gets_it_again_and_nothing_is_told_twice(pair: Pair) -> None:
    life = [draft(situation) for situation in one_life()]
    told = pair.first.append(life)

    assert pair.copy.append(life[:1])[0].data.situation.version >= told[0].data.situation.version
    assert pair.copy.append(life[1:]) == told[1:]
    assert pair.copy.newest() == pair.first.newest() == 3


def test_a_copy_takes_only_what_follows(pair: Pair, tmp_path: Path) -> None:
    stranger = Journal(tmp_path / "stranger")
    (alert,) = stranger.append([draft(one_life()[0])])
    stranger.close()
    with pytest.raises(StoreError, match="is not event 2 of"):
        pair.copy.receive([alert])
    (second,) = pair.first.append([draft(one_life()[0])])
    with pytest.raises(StoreError, match=r"event 2 of journal .* is not event 3"):
        pair.copy.receive([second])

    assert rows(pair.copy) == rows(pair.first)


def test_what_the_broker_has_is_not_sent_again_by_the_copy(pair: Pair) -> None:
    pair.first.append([draft(situation) for _ in range(2) for situation in one_life()])
    assert pair.first.delivered() == 0
    for seq in (1, 2, 4):
        pair.first.mark_acked(pair.first.id, seq)

    pair.copy.mark_delivered(pair.first.delivered())

    assert pair.first.delivered() == 2
    assert [seq for seq, _ in rows(pair.copy)] == [3, 4, 5]
    for seq in (3, 5):
        pair.first.mark_acked(pair.first.id, seq)
    assert pair.first.delivered() == 5


def test_a_part_of_what_was_left_open_is_ended_where_one_watcher_of_several_was_lost(pair: Pair) -> None:
    pair.first.append([draft(one_life()[0])])
    zone = one_life()[0].zone.id

    assert pair.first.end_left_open(NOW, {"elsewhere"}) == []
    ended = pair.first.end_left_open(NOW, {zone})

    assert [alert.data.situation.end_reason for alert in ended] == ["restart", "restart"]
    assert rows(pair.copy) == rows(pair.first)


def test_a_copy_begins_with_what_was_not_delivered_and_the_newest_that_were(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.alerts.journal.COPIED", 4)
    pair.first.append([draft(situation) for _ in range(10) for situation in one_life()])
    for seq in range(2, 22):
        pair.first.mark_acked(pair.first.id, seq)

    (tmp_path / "later").mkdir()
    (tmp_path / "later" / FILE).write_bytes(pair.first.copy())
    later = Journal(tmp_path / "later")

    assert [alert.data.seq for alert in history(tmp_path / "later")] == [1, 18, 19, 20, 21]
    assert rows(later) == rows(pair.first)
    assert (later.problem, later.id, later.newest()) == ("", pair.first.id, 21)
    (start, *_) = later.append([draft(one_life()[0])])
    assert start.data.seq == 22
    later.close()
