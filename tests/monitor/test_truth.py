"""Visits that an operator notes, and the truth files that they end in."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.errors import InputError
from monitor.truth import Look, note_visit, read_truth, truth_of

SIZE, FPS = (640, 360), 25.0
FIRST, BETWEEN, LAST = (Look(frame, frame / FPS, (10.0 * frame, 5.0, 40.0, 30.0)) for frame in (50, 75, 100))


def test_visits_are_added_one_after_another_and_read_back(tmp_path: Path) -> None:
    clip = tmp_path / "morning.mp4"

    assert note_visit(clip, FPS, SIZE, "moose", [LAST, FIRST, BETWEEN]) == 1
    assert note_visit(clip, FPS, SIZE, "moose", [BETWEEN, LAST]) == 2
    assert note_visit(clip, FPS, SIZE, "fox", [FIRST, LAST]) == 3
    truth = read_truth(truth_of(clip))

    assert (truth.clip, truth.fps, truth.size) == ("morning.mp4", FPS, SIZE)
    assert [(event.id, event.label, event.start_s, event.visible_s, event.end_s) for event in truth.events] == [
        ("moose-1", "moose", 2.0, 2.0, 4.0),
        ("moose-2", "moose", 3.0, 3.0, 4.0),
        ("fox-1", "fox", 2.0, 2.0, 4.0),
    ]
    assert [box[0] for box in truth.events[0].boxes] == [50, 75, 100]
    assert not list(tmp_path.glob("*.part"))


def test_a_recording_may_show_no_animal_unless_one_is_noted(tmp_path: Path) -> None:
    clip = tmp_path / "night.mp4"

    assert note_visit(clip, FPS, SIZE, "", []) == 0
    assert read_truth(truth_of(clip)).events == []
    assert note_visit(clip, FPS, SIZE, "fox", [FIRST, LAST]) == 1
    with pytest.raises(InputError, match="has 1 visits"):
        note_visit(clip, FPS, SIZE, "", [])


def test_what_is_no_visit_changes_nothing(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"

    with pytest.raises(InputError, match="and on the last"):
        note_visit(clip, FPS, SIZE, "fox", [FIRST, FIRST])
    with pytest.raises(InputError, match="no visit: "):
        note_visit(clip, FPS, SIZE, "fox", [FIRST, Look(100, 4.0, (0.0, 0.0, 0.0, 5.0))])
    assert not truth_of(clip).exists()
    truth_of(clip).write_text("no JSON")
    with pytest.raises(InputError, match="not a truth file"):
        note_visit(clip, FPS, SIZE, "fox", [FIRST, LAST])
    assert truth_of(clip).read_text() == "no JSON"
