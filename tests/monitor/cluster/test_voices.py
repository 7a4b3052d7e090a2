"""One health for many watchers, and what is not known where one of them is silent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.alerts.journal import Journal
from monitor.cluster.remote import Level
from monitor.cluster.voices import SILENT_S, Voices
from monitor.config import CameraConfig, Config
from tests.monitor.console.test_sites import health, level

GROUPS = {"ns": "north", "ew": "south", "we": "west"}
SITE = Config(site="a", cameras={name: CameraConfig(source="a.mp4") for name in ("north", "south", "west")})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path)
    yield opened
    opened.close()


def said(message: object) -> Level:
    """A watcher's own word, of a message with the site's topic."""
    return Level(message.topic.partition("/")[2], message.payload, 30, 1, is_mirror=False)


def test_cameras_of_all_watchers_are_one_health_with_the_journals_numbers(journal: Journal) -> None:
    voices = Voices(SITE, GROUPS)
    assert voices.health(journal) is None
    assert voices.hear("north", [said(health("a", north="ok")), said(level("a", "ns", "active"))], 1.0)
    assert not voices.hear("north", [], 2.0)
    assert voices.hear("south", [said(health("a", south="degraded"))], 2.0)
    assert voices.health(journal) is None, "the third may yet speak"
    voices.newly_silent(SILENT_S + 0.1)
    whole = voices.health(journal)

    states = {name: camera.state for name, camera in whole.cameras.items()}
    assert states == {"north": "ok", "south": "degraded", "west": "blind"}, "nobody has spoken for the last one"
    assert (whole.journal, whole.newest, whole.unsent) == (journal.id, 0, 0)


def test_where_a_watcher_is_silent_its_zones_are_not_known_and_its_cameras_are_lost(journal: Journal) -> None:
    voices = Voices(SITE, GROUPS)
    voices.expect(SILENT_S)
    voices.hear("west", [said(health("a", west="ok"))], SILENT_S)
    voices.hear("north", [said(health("a", north="ok")), said(level("a", "ns", "active"))], 0.0)
    voices.hear("south", [said(health("a", south="ok")), said(level("a", "ew", "clear"))], SILENT_S)
    assert voices.newly_silent(SILENT_S) == []
    (unknown,) = voices.newly_silent(SILENT_S + 0.1)
    assert voices.newly_silent(SILENT_S + 0.2) == []  # it is said once

    assert (unknown.zone, unknown.level, unknown.situations) == ("ns", "unknown", ())
    assert json.loads(unknown.model_dump_json(by_alias=True))["validUntil"]
    cameras = voices.health(journal).cameras
    assert (cameras["north"].state, cameras["north"].reason, cameras["south"].state) == ("blind", "lost", "ok")

    assert voices.hear("north", [], 9.0)  # it is back
    assert voices.health(journal).cameras["north"].state == "ok"


def test_zones_of_a_watcher_that_never_spoke_to_this_leader_are_not_known_either() -> None:
    voices = Voices(SITE, GROUPS)
    voices.expect(100.0)
    voices.hear("north", [], 101.0)

    assert voices.newly_silent(100.0 + SILENT_S) == []
    assert [(state.zone, state.site, state.level) for state in voices.newly_silent(100.1 + SILENT_S)] == [
        ("ew", "a", "unknown"),
        ("we", "a", "unknown"),
    ]
