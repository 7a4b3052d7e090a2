"""An update keeps what the earlier program left, queued alerts and taught classes, and says what it can't."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import DEMO_CLIP, ROOT, Mosquitto, Program, wait_until, wildlane, write_config

STATES = ROOT / "tests/states"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return shutil.copytree(STATES / "2026-11-24", tmp_path / "state")


def test_alerts_that_an_earlier_program_left_go_out_first_and_as_they_were(
    mosquitto: Mosquitto, state: Path, tmp_path: Path, run_program: Callable[[Path, Path], Program]
) -> None:
    left = [json.loads(line) for line in (state / "alerts.jsonl").read_text().splitlines()]
    config = write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port)
    config.write_text(config.read_text().replace('site = "test"', 'site = "km41"'))
    listener = mosquitto.listen("wildlane/v1/km41/#")

    run_program(config, state)
    wait_until(lambda: len(listener.got("/event/")) > len(left), seconds=60, what="an event of its own")
    listener.stop()
    got = [json.loads(payload) for payload in listener.got("/event/")]

    assert got[: len(left)] == left
    assert [event["data"]["seq"] for event in got] == list(range(1, len(got) + 1))
    assert any("frames without pictures are left out" in payload for payload in listener.got("status"))


def test_classes_that_an_earlier_program_taught_are_known_and_their_versions_are_there(
    state: Path, tmp_path: Path, demo_stills: list[Path]
) -> None:
    listed = wildlane("classes", "list", "--json", state=state)
    seen = wildlane("classify", demo_stills[0], "--json", state=state)
    again = wildlane("classes", "list", "--json", state=state)

    (active,) = [version for version in json.loads(listed.stdout) if version["active"]]
    assert active["classes"] == ["cattle", "caribou"]
    assert "pictures of kangaroo are not kept" in listed.stderr  # by no new encoder: it is no starter class any more
    assert json.loads(seen.stdout)["class"] == "caribou"
    assert again.stdout == listed.stdout
