"""Cameras written into a configuration, and taken out of it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from adapters.errors import ConfigError
from monitor.camera_file import add_camera, check_camera, draw, remove_camera
from monitor.config import ZoneConfig, load_config
from tests.conftest import ROOT

TEXT = """\
site = "x"  # ours
[cameras.north]  # the first
source = "rtsp://a/1"
masks_px = [[
  [1, 2], [3, 4],
  [5, 9]]]
# soft at night
[[cameras.north.zones]]
id = "verge"
polygon_px = [[0, 0], [9, 0], [9, 9]]

# how we decide
[policy]
confirm_frames = 5

[cameras.south]
source = "rtsp://b/2"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(TEXT)
    path.chmod(0o640)
    return path


def test_a_camera_that_comes_and_goes_leaves_the_file_as_it_was(path: Path) -> None:
    secret = "rtsp://user:p%22w\\@[2001:db8::7]:554/a?b=c"
    add_camera(path, "east", secret)
    assert load_config(path).cameras["east"].source == secret
    assert path.read_text().startswith(TEXT)
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]

    remove_camera(path, "east")
    assert path.read_text().strip() == TEXT.strip()


def test_a_camera_goes_with_its_zones_and_what_was_written_about_others_stays(path: Path) -> None:
    remove_camera(path, "north")
    assert path.read_text() == 'site = "x"  # ours\n\n' + TEXT[TEXT.index("# how we decide") :]
    with pytest.raises(ConfigError, match="'south' is the only camera"):
        remove_camera(path, "south")


def test_a_camera_is_drawn_over_and_the_rest_of_the_text_stays(path: Path) -> None:
    zone = ZoneConfig(id="crossing", kind="crossing", polygon_px=[(1, 2), (30, 2), (30, 40.5)])
    draw(path, "north", [[(0, 0), (5, 0), (5, 5)]], [zone])

    north = load_config(path).cameras["north"]
    assert (north.masks_px, north.zones) == ([[(0, 0), (5, 0), (5, 5)]], [zone])
    text = path.read_text()
    for kept in ("# ours", "# the first", "# soft at night", "# how we decide", "confirm_frames = 5", "rtsp://b/2"):
        assert text.count(kept) == 1, kept
    draw(path, "north", [], [])
    assert load_config(path).cameras["north"].zones == []
    draw(path, "south", [], [zone])  # the last table of the file
    draw(path, "south", [], [zone])
    assert load_config(path).cameras["south"].zones == [zone]

    path.write_text(text + "[zones.crossing]\nlanes = [1]\n")
    with pytest.raises(ConfigError, match=r"\[zones.crossing\] is seen by no camera"):
        draw(path, "north", [], [])
    with pytest.raises(ConfigError, match="there is no camera 'east'"):
        draw(path, "east", [], [])
    path.write_text('cameras = {north = {source = "rtsp://a"}}\n')
    with pytest.raises(ConfigError, match="only a person can change"):
        draw(path, "north", [], [zone])


def test_the_shipped_configuration_loses_a_camera_and_keeps_the_examples(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text((ROOT / "config.toml").read_text())
    add_camera(path, "yard", "https://camera.example/live.m3u8")
    remove_camera(path, "road")
    assert "# [zones.carriageway-ns]" in path.read_text()
    assert list(load_config(path).cameras) == ["yard"]


def test_a_file_that_would_be_refused_is_not_written(path: Path) -> None:
    for text, said in [
        (TEXT + "[zones.verge]\nlanes = [1]\n", r"\[zones.verge\] is seen by no camera"),
        (TEXT.replace("[cameras.north]", "[cameras.'north']"), None),
        ('cameras = {north = {source = "rtsp://a"}, south = {source = "rtsp://b"}}\n', "only a person can change"),
    ]:
        path.write_text(text)
        if said is None:
            remove_camera(path, "north")
            continue
        with pytest.raises(ConfigError, match=said):
            remove_camera(path, "north")
        assert path.read_text() == text
    with pytest.raises(ConfigError, match="there is a camera 'south' already"):
        add_camera(path, "south", "rtsp://b/2")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "concat:/etc/passwd",
        "/etc/passwd",
        "0",
        "rtsp://",
        "rtsp://h/a b",
        "rtsp://h/\n[x]",
        "rtsp://h:99999/",
        "rtsp://[/",
        "rtsp://sécret@h/",
        "ftp://user:secret@h/x",
    ],
)
def test_only_addresses_of_network_cameras_are_taken_and_none_is_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="expected a URL of a camera, rtsp://") as refused:
        check_camera("north", url, ())
    assert "cret" not in str(refused.value)
    with pytest.raises(ConfigError, match="the camera's name"):
        check_camera("North!", "rtsp://h/", ())


def test_a_copy_that_the_next_start_replaces_is_not_written_to() -> None:
    try:
        folder = TemporaryDirectory(dir="/run")
    except OSError:
        pytest.skip("only root may write below /run")
    with folder:
        path = Path(folder.name) / "config.toml"
        path.write_text(TEXT)
        with pytest.raises(ConfigError, match="a copy that the next start replaces"):
            add_camera(path, "west", "rtsp://c/3")
        assert path.read_text() == TEXT
