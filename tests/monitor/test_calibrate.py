"""A site's recordings without animals, through the verb: the demonstration clip stands in, its animals vouched away."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import DEMO_CLIP, wildlane


def test_what_alarms_on_a_recording_without_animals_is_known_to_be_none_and_can_be_taken_back(tmp_path: Path) -> None:
    ended = wildlane("calibrate", DEMO_CLIP, "--json", state=tmp_path)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)

    assert len(told["before"]) == told["said"] == 3
    assert told["after"] == told["refused"] == []
    assert told["version"] == "cs-3"
    assert {alarm["clip"] for alarm in told["before"]} == {DEMO_CLIP.name}

    assert wildlane("classes", "rollback", state=tmp_path).returncode == 0
    again = json.loads(wildlane("replay", DEMO_CLIP, "--json", state=tmp_path).stdout)
    assert len(again["situations"]) == 3


def test_a_recording_that_cannot_be_read_teaches_nothing(tmp_path: Path) -> None:
    clip = tmp_path / "none.mp4"
    clip.write_bytes(b"no film")
    ended = wildlane("calibrate", clip, state=tmp_path / "state")

    assert ended.returncode == 5
    assert "none.mp4" in ended.stderr
    versions = wildlane("classes", "list", "--json", state=tmp_path / "state").stdout
    assert "no animal" not in versions
