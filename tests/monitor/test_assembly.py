from __future__ import annotations

from pathlib import Path

import pytest

from adapters.errors import ConfigError
from monitor.assembly import info_version_of, places_of, roads_of
from monitor.config import load_config
from monitor.places import ConfiguredPlace, GroundPlane

CONFIG = """
site = "rv3"
[cameras.north]
source = "a.mp4"
ground_points = [[102, 301, 61.13702, 11.37141], [540, 298, 61.13703, 11.37160],
                 [240, 140, 61.13741, 11.37136], [420, 139, 61.13742, 11.37158]]
[[cameras.north.zones]]
id = "carriageway"
polygon_px = [[0, 120], [640, 60], [640, 360], [0, 360]]
[cameras.south]
source = "b.mp4"
latitude_deg = 61.1
longitude_deg = 11.3
[zones.carriageway]
lanes = [1, 2]
road_bearing_deg = 352
[[zones.carriageway.approaches]]
id = "northbound"
inbound_bearing_deg = 352
signs = ["vms-07"]
path = [[61.1362, 11.3716]]
"""


def load(tmp_path: Path, text: str):
    (tmp_path / "config.toml").write_text(text)
    return load_config(tmp_path / "config.toml")


def test_the_geometry_of_a_site_becomes_places_and_roads(tmp_path: Path) -> None:
    config = load(tmp_path, CONFIG)

    places, road = places_of(config), roads_of(config)["carriageway"]

    assert isinstance(places["north"], GroundPlane)
    assert isinstance(places["south"], ConfiguredPlace)
    assert road.lanes == (1, 2)
    assert road.approaches[0].signs == ("vms-07",)


def test_the_info_version_changes_with_the_geometry_and_nothing_else(tmp_path: Path) -> None:
    before = info_version_of(load(tmp_path, CONFIG))

    assert info_version_of(load(tmp_path, CONFIG.replace('"a.mp4"', '"c.mp4"'))) == before
    assert info_version_of(load(tmp_path, CONFIG.replace("[1, 2]", "[1]"))) != before


def test_a_road_that_no_camera_sees_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[zones\.verge\] is seen by no camera; there are: carriageway, south"):
        load(tmp_path, CONFIG + "\n[zones.verge]\nlanes = [1]\n")
