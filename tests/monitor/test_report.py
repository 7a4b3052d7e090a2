from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from adapters.errors import InputError
from monitor.pipeline import Outcome
from monitor.replay import Episode, Replayed
from monitor.report import Album, Rate, Share, strata, visits, write_report
from monitor.truth import Truth
from monitor.values import Box, Frame


def truth(**more: object) -> Truth:
    event = {"class": "deer", "start_s": 1.0, "end_s": 4.0, "visible_s": 1.5}
    events = [
        event | {"id": "near", "boxes": [[30, 100, 100, 60, 90], [60, 100, 100, 60, 90]]},
        event | {"id": "far", "start_s": 6.0, "visible_s": 6.0, "end_s": 8.0, "boxes": [[200, 10, 10, 12, 15]]},
    ]
    return Truth.model_validate({"clip": "a.mp4", "fps": 30.0, "size": [320, 240], "events": events, **more})


def episode(start_s: float, box: Box, label: str = "deer") -> Episode:
    return Episode(label, start_s, start_s + 2, "a", "a", box, 0.9, 0.95)


@pytest.fixture
def album() -> Album:
    """An animal found, one missed, and a false alarm, in 10 s."""
    album = Album(truth(light="day", synthetic=True))
    image = np.random.default_rng(1).integers(0, 255, (240, 320, 3), np.uint8)
    for index in (0, 60, 200):
        frame = Frame(
            camera="a", index=index, time_s=index / 30, captured_s=0.0, image=image, slot=0, moving=(), fault=None
        )
        album.watch(frame, Outcome([], []))
    album.replayed = Replayed(Path("a.mp4"), fps=30.0, size=(320, 240), frames=300, analysed=50)
    found, false = episode(2.0, Box(110, 110, 150, 180)), episode(5.0, Box(200, 200, 220, 220), "unknown-animal")
    album.replayed.episodes = {"1": found, "2": false}
    album.at_start = ["data:image/jpeg;base64,Zm91bmQ=", "data:image/jpeg;base64,ZmFsc2U="]
    return album


def test_each_visit_is_found_or_missed_by_its_height_and_light(album: Album) -> None:
    near, far = visits([album])

    assert (near.seconds, near.named, near.height) == (0.5, True, "80 px and more")
    assert (far.seconds, far.height) == (None, "0 to 20 px")
    assert [(what, which, s.hits, s.of) for what, which, s in strata([near, far])] == [
        ("height", "80 px and more", 1, 1),
        ("height", "0 to 20 px", 0, 1),
        ("light", "day", 1, 2),
        ("origin", "synthetic", 1, 2),
    ]


def test_the_page_needs_nothing_from_elsewhere_and_shows_misses_and_false_alarms(album: Album, tmp_path: Path) -> None:
    page = write_report(tmp_path / "deep/report.html", [album]).read_text()

    assert "1 of 2" in page
    assert "in 0.003 camera-hours" in page
    missed, false = page.split('<h2 class="bad">')[1:]
    assert album.of_event["far"] in missed
    assert "ZmFsc2U=" in false
    assert "Zm91bmQ=" not in page
    assert set(re.findall(r'(?:src|href)="([a-z]*:?)', page)) == {"data:"}
    assert "http" not in page.replace("http-equiv", "")


def test_without_truth_nothing_is_judged(album: Album, tmp_path: Path) -> None:
    album.truth = None
    page = write_report(tmp_path / "report.html", [album]).read_text()

    assert "no clip has a truth file" in page
    assert "False situations</h2>" not in page


def test_a_name_in_a_truth_file_is_no_markup(tmp_path: Path, album: Album) -> None:
    assert album.truth is not None
    event = album.truth.events[0].model_copy(update={"id": "<script>alert(1)</script>"})
    album.truth = album.truth.model_copy(update={"events": [event]})

    assert "<script>" not in write_report(tmp_path / "r.html", [album]).read_text()


@pytest.mark.parametrize(
    ("share", "low", "high"), [(Share(0, 10), 0, 0.3085), (Share(10, 10), 0.6915, 1), (Share(5, 10), 0.1871, 0.8129)]
)
def test_intervals_of_a_share_are_exact(share: Share, low: float, high: float) -> None:
    assert (share.low, share.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_no_rate_below_three_in_the_exposure_is_claimed() -> None:
    none, two = Rate(0, 2.0), Rate(2, 2.0)

    assert none.low == 0
    assert none.high >= 3 / 2
    assert (two.low, two.high) == (pytest.approx(0.2422 / 2, abs=1e-3), pytest.approx(7.2247 / 2, abs=1e-3))


def test_a_report_that_can_not_be_written_is_named(album: Album, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        write_report(tmp_path / "file/report.html", [album])
