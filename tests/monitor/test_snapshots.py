from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from monitor.policy import Policy, Situation
from monitor.snapshots import Snapshots
from monitor.values import Frame
from tests.monitor.test_alerts import SETTINGS, sighting, whole_view


def frame(camera: str = "north") -> Frame:
    image = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)
    return Frame(camera=camera, index=1, time_s=1.0, captured_s=1.0, image=image, slot=0, moving=())


@pytest.fixture
def started() -> Situation:
    (situation,) = Policy(SETTINGS, {"north": (whole_view("north"),)}).decide([sighting(1.0)], 1.0)
    return situation


def test_an_alert_names_the_picture_that_was_kept(tmp_path: Path, started: Situation) -> None:
    snapshots = Snapshots(tmp_path, 7, "https://site.example")
    snapshots.take(started, frame())

    evidence, kept = snapshots.evidence(started), snapshots.read(started.id)
    assert evidence is not None
    assert kept is not None
    assert evidence.sha256 == hashlib.sha256(kept).hexdigest()
    assert evidence.href == f"https://site.example/situations/{started.id}/picture"
    assert evidence.redacted
    assert timedelta(days=6.9) < evidence.delete_after - datetime.now(UTC) <= timedelta(days=7)


def test_around_the_animal_there_is_a_mosaic_alone(tmp_path: Path, started: Situation) -> None:
    snapshots = Snapshots(tmp_path, 7, None)
    snapshots.take(started, frame())  # all noise: every pixel differs from the next

    picture = cv2.imdecode(np.frombuffer(snapshots.read(started.id) or b"", np.uint8), cv2.IMREAD_COLOR)
    steps = np.abs(np.diff(picture.astype(int), axis=1)).mean(axis=2)
    middle, edge = picture.shape[0] // 2, 2
    assert np.median(steps[middle]) > 20
    assert np.median(steps[edge]) < 5


def test_only_the_frame_that_shows_it_and_only_a_better_look_is_taken(tmp_path: Path, started: Situation) -> None:
    snapshots = Snapshots(tmp_path, 7, None)
    snapshots.take(started, frame("south"))
    snapshots.take(replace(started, decided_s=9.0), frame())
    snapshots.take(replace(started, rehearsal=True), frame())
    assert snapshots.read(started.id) is None

    snapshots.take(started, frame())
    first = snapshots.evidence(started)
    worse = replace(started, newest=replace(started.newest, p_animal=0.5))
    snapshots.take(worse, replace(frame(), image=np.zeros((480, 640, 3), np.uint8)))
    assert snapshots.evidence(started) == first


def test_pictures_are_erased_when_their_days_are_over(tmp_path: Path, started: Situation) -> None:
    snapshots = Snapshots(tmp_path, 2, None)
    snapshots.take(started, frame())
    path = next((tmp_path / "snapshots").iterdir())
    assert snapshots.forget_old(datetime.now(UTC)) == 0

    old = (datetime.now(UTC) - timedelta(days=2.1)).timestamp()
    os.utime(path, (old, old))
    assert snapshots.forget_old(datetime.now(UTC)) == 1
    assert snapshots.read(started.id) is None


def test_a_name_that_is_no_situation_finds_nothing(tmp_path: Path, started: Situation) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"x")
    assert Snapshots(tmp_path, 7, None).read("../secret") is None


def test_a_full_disk_costs_the_picture_and_is_said_once(
    tmp_path: Path, started: Situation, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "snapshots").write_text("a file where the folder should be")
    snapshots = Snapshots(tmp_path, 7, None)

    snapshots.take(started, frame())
    snapshots.take(started, frame())

    assert snapshots.evidence(started) is None
    assert [record.message.split(":")[0] for record in caplog.records] == ["snapshots can't be kept"]
