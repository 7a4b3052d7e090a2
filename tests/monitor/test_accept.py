"""A site's acceptance sheet, through the verb: two cameras, one with animals and one without."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import DEMO_CLIP, DEMO_TRUTH, wildlane

NOTHING = '{"clip": "square.mp4", "fps": 30, "size": [160, 120], "events": []}'


@pytest.fixture
def site(tmp_path: Path, small_clip: Path) -> Path:
    for camera, clip in {"north": DEMO_CLIP, "south": small_clip}.items():
        (tmp_path / "site" / camera).mkdir(parents=True)
        shutil.copy(clip, tmp_path / "site" / camera / f"morning{clip.suffix}")
    shutil.copy(DEMO_TRUTH, tmp_path / "site/north/morning.json")
    (tmp_path / "site/south/morning.json").write_text(NOTHING)
    (tmp_path / "site/notes").mkdir()  # a folder without recordings is no camera
    return tmp_path / "site"


def test_the_sheet_has_a_line_for_each_camera_and_one_for_all(site: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "deep/sheet.html"
    ended = wildlane("accept", "--site", site, "--out", sheet, "--json", state=tmp_path / "state")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)

    north, south = told["cameras"]
    assert (north["camera"], north["recordings"], north["found"][:2], north["false"][0]) == ("north", 1, [3, 3], 0)
    assert north["hours"] == pytest.approx(748 / 29.97 / 3600, abs=2e-4)
    assert all(0 < seconds < 2 for seconds in north["seconds_to_alert"])
    assert (south["camera"], south["found"][:2]) == ("south", [0, 0])
    assert told["all"]["found"][:2] == [3, 3]
    assert told["all"]["hours"] == pytest.approx(north["hours"] + south["hours"], abs=2e-4)
    page = sheet.read_text()
    assert "Site acceptance: example" in page
    assert re.findall(r"<tr><td>(north|south|all)</td>", page) == ["north", "south", "all"]
    assert set(re.findall(r'(?:src|href)="([a-z]*:?)', page)) <= {"data:"}


def test_a_folder_named_like_a_camera_is_read_as_that_camera(site: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    masked = "masks_px = [[[0, 0], [640, 0], [640, 360], [0, 360]]]"
    config.write_text(f'site = "pass"\n[cameras.north]\nsource = "0"\nanalysis_rate_hz = 2.0\n{masked}\n')
    shutil.rmtree(site / "south")
    arguments = ["--site", site, "--out", tmp_path / "s.html", "--config", config]
    ended = wildlane("accept", *arguments, "--json", state=tmp_path / "state")

    assert ended.returncode == 0, ended.stderr
    (north,) = json.loads(ended.stdout)["cameras"]
    assert north["found"][:2] == [0, 3]
    assert north["blind"][1] == 50  # frames analysed, two a second


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda site: shutil.rmtree(site), "no such folder; expected a folder for each camera"),
        (lambda site: [shutil.rmtree(site / name) for name in ("north", "south")], "expected a folder for each camera"),
        (lambda site: (site / "south/morning.json").unlink(), 'no truth file morning.json beside it; one without'),
        (lambda site: (site / "south/morning.json").write_text("{}"), "morning.json: not a truth file"),
        (lambda site: next((site / "south").glob("*.mp4")).write_bytes(b"no film"), "morning.mp4"),
    ],
)  # fmt: skip
def test_no_sheet_is_written_of_a_part(spoil: object, expected: str, site: Path, tmp_path: Path) -> None:
    shutil.rmtree(site / "north")
    (site / "north").mkdir()
    spoil(site)  # type: ignore[operator]
    ended = wildlane("accept", "--site", site, "--out", tmp_path / "s.html", state=tmp_path / "state")

    assert ended.returncode == 5
    assert expected in ended.stderr
    assert not (tmp_path / "s.html").exists()
