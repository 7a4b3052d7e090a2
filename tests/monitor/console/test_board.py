from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from monitor.cameras.health import Health
from monitor.console.board import KEEP_S, Board
from monitor.values import Frame
from tests.monitor.test_policy import sighting


def frame(time_s: float, *, camera: str = "road", side: int = 900) -> Frame:
    image = np.random.default_rng(int(time_s * 10)).integers(0, 255, (side // 2, side, 3), np.uint8)
    return Frame(
        camera=camera, index=round(time_s * 5), time_s=time_s, captured_s=1000 + time_s, image=image, slot=0, moving=()
    )


def test_half_a_minute_of_a_camera_is_kept_twice_a_second_in_its_own_size() -> None:
    board = Board()
    for index in range(200):
        board.frame(frame(index / 5), (), index / 5)
    kept = board.kept("road")

    assert 45 <= len(kept) <= 61
    assert kept[-1].at - kept[0].at <= KEEP_S
    assert {cv2.imdecode(np.frombuffer(one.jpeg, np.uint8), 1).shape for one in kept[:2]} == {(450, 900, 3)}
    assert board.kept("yard") == []


def test_large_pictures_are_kept_for_less_long_rather_than_fill_the_memory(monkeypatch) -> None:
    monkeypatch.setattr("monitor.console.board.MOST_BYTES", 1_000_000)
    board = Board()
    for index in range(100):
        board.frame(frame(index / 2), (), index / 2)

    assert 0 < sum(len(one.jpeg) for one in board.kept("road")) <= 1_000_000


def test_live_pictures_are_made_while_somebody_looks_and_small() -> None:
    board = Board()
    board.frame(frame(100), (), 100)
    assert board.live("road", 100.1).number == 500, "the kept one, until there is a live one"
    board.frame(frame(100.2), (), 100.2)
    live = board.live("road", 100.3)

    assert live.number == 501
    assert cv2.imdecode(np.frombuffer(live.jpeg, np.uint8), 1).shape == (320, 640, 3)
    assert live.size == (900, 450)
    board.frame(frame(200), (), 200)
    board.frame(frame(200.2), (), 200.2)
    assert board.live("road", 200.3).number in (501, 1000), "nobody had looked for a while"


def test_of_a_camera_that_is_blind_nothing_older_than_half_a_minute_is_shown() -> None:
    board = Board()
    for second in range(10):
        board.live("road", second)
        board.frame(frame(second), (), second)
    blind = {"road": Health("blind", "lost", 10.0)}

    board.site(blind, (), KEEP_S + 4.5)
    assert [one.number for one in board.kept("road")] == [25, 30, 35, 40, 45]
    assert board.live("road", KEEP_S + 4.5).number == 45
    board.site(blind, (), KEEP_S + 9.5)
    assert (board.kept("road"), board.live("road", KEEP_S + 9.5)) == ([], None)


def test_a_camera_that_is_no_longer_configured_leaves_with_all_its_pictures() -> None:
    board, ok = Board(), Health("ok", None, 0.0)
    board.site({"road": ok, "yard": ok}, (), 1.0)
    torn = replace(sighting(1.0, p_animal=0.95), camera="road", weights={"dog": 0.4, "wolf": 0.4, "none": 0.2})
    board.frame(frame(1.0), (torn,), 1.0)
    assert len(board.worth_labelling()) == 1
    board.site({"yard": ok}, (), 2.0)

    assert (board.live("road", 2.0), board.kept("road"), board.worth_labelling()) == (None, [], [])
    assert set(board.availability()) == {"yard"}


def test_the_site_is_as_the_loop_left_it() -> None:
    board, healths = Board(), {"road": Health("ok", None, 3.0)}
    board.site(healths, (), 1.0)
    healths.clear()

    assert board.healths() == {"road": Health("ok", None, 3.0)}
    assert board.situations() == ()
    assert board.live("road", 0.0) is None


def test_availability_is_the_share_of_the_time_that_a_camera_was_not_blind() -> None:
    board = Board()
    for second in range(1, 12):
        board.site({"road": Health("blind" if second > 6 else "ok", None, 0.0)}, (), float(second))

    assert board.availability() == {"road": 0.5}
