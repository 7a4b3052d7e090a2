"""A site in trouble says so: what an outside program sees on the status topic, from the real program."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.classifier import Classifier
from adapters.crops import LabelledCrop
from adapters.golden import FILE as GOLDEN
from adapters.golden import GoldenSet
from monitor.alerts.schema import SiteStatus
from monitor.alerts.storage import FILE
from monitor.assembly import open_classes
from tests.conftest import DEMO_CLIP, Listener, Mosquitto, Program, wait_until, write_config
from tests.faults.test_broker_answers import NarrowMosquitto


@pytest.fixture
def narrow(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[NarrowMosquitto]:
    """Takes a status, but neither events nor what the site tells of itself."""
    with NarrowMosquitto.running(tmp_path, 600) as broker:
        yield broker


def problems(listener: Listener) -> list[str]:
    """What it said each time it was degraded."""
    said = [SiteStatus.model_validate_json(payload) for payload in listener.got("/status")]
    return [status.problem or "" for status in said if status.status == "degraded"]


def test_a_site_whose_journal_was_damaged_is_degraded_and_says_why(
    mosquitto: Mosquitto, run_program: Callable[[Path, Path], Program], tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE).write_bytes(b"no journal " * 1_000)
    listener = mosquitto.listen()
    run_program(write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port), tmp_path / "state")

    wait_until(lambda: problems(listener), seconds=30, what="it is degraded")
    assert "the journal was damaged" in problems(listener)[0]
    listener.stop()


def test_a_site_whose_broker_refuses_events_and_levels_is_degraded_and_says_why(
    narrow: NarrowMosquitto, run_program: Callable[[Path, Path], Program], tmp_path: Path
) -> None:
    listener = narrow.listen()
    program = run_program(write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, narrow.port), tmp_path / "state")

    wait_until(lambda: any("events are set aside" in said for said in problems(listener)), seconds=60, what="events")
    said = next(said for said in problems(listener) if "events are set aside" in said)
    told = re.search(r"(\d+) events are set aside", said)  # more than one by then, where the machine is busy
    assert told is not None
    assert 1 <= int(told[1]) <= program.log().count("set aside. After the remedy: wildlane alerts replay")
    assert "the last one: larger than the 600 bytes that the broker takes" in said
    assert "the broker refuses wildlane/v1/test/" in said
    assert "After the remedy: wildlane alerts replay 1 1" in program.log()
    listener.stop()


def test_a_site_whose_new_encoder_names_the_checked_frames_worse_is_degraded_and_says_why(
    mosquitto: Mosquitto,
    run_program: Callable[[Path, Path], Program],
    tmp_path: Path,
    classifier: Classifier,
    demo_animals: dict[str, NDArray[np.uint8]],
) -> None:
    state = tmp_path / "state"
    with closing(GoldenSet(state)) as golden, closing(open_classes(classifier, state)) as store:
        golden.add("cattle", [("road 1", LabelledCrop(demo_animals["bear"]))], classifier)
        golden.trial_of_encoder(classifier, store.load(classifier).memory)
    with closing(sqlite3.connect(state / GOLDEN)) as db, db:
        db.execute("UPDATE verdict SET named = 'cattle', encoder = 'sha256:former'")  # which knew it
    listener = mosquitto.listen()

    run_program(write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port), state)

    wait_until(lambda: problems(listener), seconds=30, what="it is degraded")
    assert "the encoder is new: of 1 checked frames 0 are named right, 1 before (road 1 as" in problems(listener)[0]
    listener.stop()
