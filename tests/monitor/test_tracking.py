from __future__ import annotations

import pytest

from adapters.classifier import Classification
from monitor.tracking import LOST_AFTER_S, Evidence, Tracker
from monitor.values import Box


def look(p_animal: float, *, legible: bool = True, **weights: float) -> Classification:
    rest = {"none": 1 - sum(weights.values())}
    return Classification(
        weights={**weights, **rest}, p_class=dict(weights), p_animal=p_animal, similarity_m=0.5, legible=legible
    )


def moved(box: Box, x: float, y: float = 0) -> Box:
    return Box(box.x1 + x, box.y1 + y, box.x2 + x, box.y2 + y)


START = Box(100, 100, 140, 130)


def test_a_thing_that_walks_keeps_its_track() -> None:
    tracker = Tracker()
    for step in range(20):
        tracker.advance([moved(START, 12 * step)], step / 5)

    assert [track.number for track in tracker.tracks] == [1]
    assert tracker.tracks[0].velocity[0] == pytest.approx(60, rel=0.05)


def test_two_things_that_cross_keep_their_tracks() -> None:
    tracker = Tracker()
    for step in range(21):
        tracker.advance([moved(START, 20 * step), moved(START, 400 - 20 * step, 60)], step / 5)

    first, second = sorted(tracker.tracks, key=lambda track: track.number)
    assert len(tracker.tracks) == 2
    assert first.box.x1 > 400
    assert second.box.x1 < 200


def test_a_track_survives_a_car_passing_in_front() -> None:
    tracker = Tracker()
    for step in range(10):
        tracker.advance([moved(START, 8 * step)], step / 5)
    for step in range(16, 20):  # unseen for 1.4 s
        tracker.advance([moved(START, 8 * step)], step / 5)

    assert [track.number for track in tracker.tracks] == [1]


def test_a_track_that_is_gone_is_lost() -> None:
    tracker = Tracker()
    tracker.advance([START], 0)
    tracker.advance([], LOST_AFTER_S + 0.1)

    assert tracker.tracks == []


def test_something_far_away_or_much_larger_is_another_track() -> None:
    tracker = Tracker()
    tracker.advance([START], 0)
    tracker.advance([moved(START, 300), Box(200, 150, 600, 400)], 0.2)

    assert len(tracker.tracks) == 3


def test_evidence_is_a_mean_in_which_small_crops_count_less() -> None:
    evidence = Evidence()
    evidence.add(look(0.9, dog=0.8), side_px=64, now_s=0)
    evidence.add(look(0.1, dog=0.0), side_px=16, now_s=0)

    assert evidence.p_animal > 0.5
    assert evidence.weights["dog"] == pytest.approx(0.8 * (0.9 / 1.15))
    assert sum(evidence.weights.values()) == pytest.approx(1)


def test_one_overwhelming_look_does_not_outvote_many() -> None:
    evidence = Evidence()
    for _ in range(9):
        evidence.add(look(0.1), side_px=64, now_s=0)
    evidence.add(look(1.0), side_px=64, now_s=0)

    assert evidence.p_animal < 0.5


def test_what_was_seen_long_ago_counts_little() -> None:
    evidence = Evidence()
    for _ in range(10):
        evidence.add(look(0.05), side_px=64, now_s=0)
    for number in range(3):
        evidence.add(look(0.95), side_px=64, now_s=10 + number / 5)

    assert evidence.p_animal > 0.9


def test_a_track_that_suddenly_becomes_much_larger_is_judged_anew() -> None:
    tracker = Tracker()
    tracker.advance([START], 0)
    tracker.tracks[0].evidence.add(look(0.05), side_px=40, now_s=0)
    tracker.advance([Box(90, 80, 220, 200)], 0.2)

    assert len(tracker.tracks) == 1
    assert tracker.tracks[0].evidence.looks == 0
    assert tracker.tracks[0].first_seen_s == 0.2


def test_illegible_crops_say_nothing() -> None:
    evidence = Evidence()
    evidence.add(look(1.0, legible=False), side_px=64, now_s=0)

    assert evidence.looks == 0
    assert evidence.p_animal == 0


def test_a_class_taught_while_a_track_lives_enters_its_weights() -> None:
    evidence = Evidence()
    evidence.add(look(0.9, dog=0.5), side_px=64, now_s=0)
    for _ in range(20):
        evidence.add(look(0.9, dog=0.1, fox=0.8), side_px=64, now_s=0)

    assert evidence.weights["fox"] > 0.6
    assert sum(evidence.weights.values()) == pytest.approx(1, abs=1e-3)


def test_what_was_surely_none_and_doubles_is_looked_at_as_something_new() -> None:
    for p_animal, looks_left in ((0.01, 0), (0.9, 3)):
        tracker = Tracker()
        for step in range(3):
            tracker.advance([moved(START, 8 * step)], step / 5)
            tracker.tracks[0].evidence.add(look(p_animal), 64, step / 5)
        joined = Box(START.x1 + 20, START.y1, START.x2 + 60, START.y2 + 12)  # an animal has joined it
        tracker.advance([joined], 0.6)

        assert [track.number for track in tracker.tracks] == [1]
        assert tracker.tracks[0].evidence.looks == looks_left
