"""The journal's leader, as watchers and the coordinator hear it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from adapters.errors import StoreError
from monitor.alerts.schema import Alert, ZoneState
from monitor.cluster import journal_actor
from monitor.cluster.journal_actor import JournalActor, Sending
from monitor.cluster.keeper import FencedError, UnreachableError
from monitor.cluster.remote import Claim, ReplacedError
from monitor.cluster.told import Heard
from monitor.config import load_config
from tests.conftest import Mosquitto, wait_until, write_config
from tests.monitor.cluster.test_voices import said
from tests.monitor.console.test_sites import level
from tests.monitor.test_alerts import draft, one_life

CLAIM = Claim("north", 3, frozenset({"ns"}))


@pytest.fixture
def leader(mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JournalActor]:
    monkeypatch.setattr(journal_actor, "TICK_S", 60.0)  # there is no coordinator to be asked
    monkeypatch.setattr(journal_actor, "call", lambda coordinator, method, group: 2)  # the youngest it knows of
    config = load_config(write_config(tmp_path / "c.toml", {"north": "a.mp4"}, mosquitto.port))
    actor = JournalActor(config, tmp_path / "journal", {"ns": "north"}, None)
    actor.lead(1, None, Heard())
    yield actor
    actor.stop(Heard())


def test_of_two_exchanges_the_later_one_counts_in_whatever_order_they_come(
    leader: JournalActor, mosquitto: Mosquitto
) -> None:
    listener = mosquitto.listen("wildlane/v1/test/state/#")
    for turn, word in ((1, "clear"), (3, "active"), (2, "clear")):
        leader.exchange(CLAIM, turn, [said(level("test", "ns", word))], ())
    wait_until(lambda: listener.got("/state/ns"), seconds=10, what="a level")
    leader.exchange(CLAIM._replace(number=4), 1, [said(level("test", "ew", "clear"))], ())  # a younger watcher's first
    wait_until(lambda: listener.got("/state/ew"), seconds=10, what="another level")
    listener.stop()

    assert ZoneState.model_validate_json(listener.got("/state/ns")[-1]).level == "active"
    with pytest.raises(ReplacedError):
        leader.exchange(CLAIM, 4, [], ())


def test_a_leader_that_is_new_does_not_hear_a_watcher_that_was_replaced_before_it_led(leader: JournalActor) -> None:
    with pytest.raises(ReplacedError, match="watcher 1 of north was replaced by 2"):
        leader.append(CLAIM._replace(number=1), [])

    assert leader.append(CLAIM, []) == []


def test_the_coordinator_hears_what_was_committed_since_it_heard_last(leader: JournalActor) -> None:
    first, *others = one_life()
    leader.append(CLAIM, [draft(first)])
    alerts, newest = leader.ping(Heard())[-2:]
    leader.append(CLAIM, [draft(version) for version in others])

    assert [Alert.model_validate_json(alert).data.seq for alert in alerts] == [1]
    assert [Alert.model_validate_json(alert).data.seq for alert in leader.ping(newest).alerts] == [2]


class DeadCopy:
    """A copy that never begins."""

    def __init__(self, actor: object) -> None:
        pass

    def begin(self, term: int, content: bytes) -> None:
        raise UnreachableError("no answer")


class GoodCopy(DeadCopy):
    def begin(self, term: int, content: bytes) -> None:
        pass

    def receive(self, term: int, alerts: Sequence[str], delivered: int) -> None:
        pass


def test_a_copy_that_does_not_begin_or_comes_late_takes_the_place_of_none(
    leader: JournalActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_actor, "RemoteCopy", GoodCopy)
    leader.follow_up(None, 2)
    monkeypatch.setattr(journal_actor, "RemoteCopy", DeadCopy)

    with pytest.raises(UnreachableError):
        leader.follow_up(None, 3)
    assert (leader.ping(Heard()).has_copy, leader._copy_number) == (True, 2)
    with pytest.raises(FencedError, match="copy 2 has begun after copy 1"):
        leader.follow_up(None, 1)


def test_a_leader_whose_disk_can_not_be_read_any_more_steps_down(leader: JournalActor) -> None:
    leader._keeper.journal._fall_back(StoreError("the disk is gone"), None)

    leader._stay_leader(1)

    assert not leader._keeper.leads


def test_a_leader_answers_while_a_commit_waits_for_its_copy(leader: JournalActor) -> None:
    answers: list[Sending] = []
    with leader._keeper._lock, leader._keeper.journal._lock:  # as an append holds them
        asking = threading.Thread(target=lambda: answers.append(leader.ping(Heard())))
        asking.start()
        asking.join(5)

    assert [answer.unsent for answer in answers] == [0]


def test_a_leader_whose_journal_stands_still_is_held_for_lost(leader: JournalActor) -> None:
    leader._ticked_s -= journal_actor.STUCK_S + 1

    with pytest.raises(StoreError, match="the journal has not moved for 21 s"):
        leader.ping(Heard())
