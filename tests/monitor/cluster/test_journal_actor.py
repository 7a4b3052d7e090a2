"""The journal's leader, as watchers and the coordinator hear it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.errors import StoreError
from monitor.alerts.schema import ZoneState
from monitor.cluster import journal_actor
from monitor.cluster.journal_actor import JournalActor, Sending
from monitor.cluster.remote import Claim, ReplacedError
from monitor.config import load_config
from tests.conftest import Mosquitto, wait_until, write_config
from tests.monitor.cluster.test_voices import said
from tests.monitor.console.test_sites import level

CLAIM = Claim("north", 3, frozenset({"ns"}))


@pytest.fixture
def leader(mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JournalActor]:
    monkeypatch.setattr(journal_actor, "TICK_S", 60.0)  # there is no coordinator to be asked
    config = load_config(write_config(tmp_path / "c.toml", {"north": "a.mp4"}, mosquitto.port))
    actor = JournalActor(config, tmp_path / "journal", {"ns": "north"}, None)
    actor.lead(1, None)
    yield actor
    actor.stop()


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


def test_a_leader_answers_while_a_commit_waits_for_its_copy(leader: JournalActor) -> None:
    answers: list[Sending] = []
    with leader._keeper._lock, leader._keeper.journal._lock:  # as an append holds them
        asking = threading.Thread(target=lambda: answers.append(leader.ping()))
        asking.start()
        asking.join(5)

    assert [answer.unsent for answer in answers] == [0]


def test_a_leader_whose_journal_stands_still_is_held_for_lost(leader: JournalActor) -> None:
    leader._ticked_s -= journal_actor.STUCK_S + 1

    with pytest.raises(StoreError, match="the journal has not moved for 21 s"):
        leader.ping()
