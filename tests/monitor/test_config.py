from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import ConfigError
from monitor.config import Config, load_config, source_of

ROOT = Path(__file__).parents[2]


def load(tmp_path: Path, text: str) -> Config:
    (tmp_path / "config.toml").write_text(text)
    return load_config(tmp_path / "config.toml")


def test_the_shipped_configuration_is_valid_and_names_every_key() -> None:
    text = (ROOT / "config.toml").read_text()

    load_config(ROOT / "config.toml")

    for model in (
        Config,
        *(field.annotation for field in Config.model_fields.values() if hasattr(field.annotation, "model_fields")),
    ):
        for key in model.model_fields:
            assert re.search(rf"^#? ?\[*\w*\.?{key}\b|^\[+{key}", text, re.MULTILINE), key


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            '[cameras.north]\nsource = "0"\nframe_rate = 5',
            r"unknown key 'frame_rate' in \[cameras\.north\]; perhaps you meant 'analysis_rate_hz'",
        ),
        ("[polcy]", r"unknown key 'polcy' in the top level; perhaps you meant 'policy'"),
        ("[policy]\nholds_s = 3", r"unknown key 'holds_s' in \[policy\]; perhaps you meant 'hold_s'"),
        (
            '[cameras.north]\nsource = "0"\nanalysis_rate_hz = "five"',
            r"'analysis_rate_hz' in \[cameras\.north\]: input should be a valid number, got 'five'",
        ),
        ("[cameras.north]", r"'source' in \[cameras\.north\]: field required"),
        ('[broker]\nport = "1883"', r"'port' in \[broker\]: input should be a valid integer, got '1883'"),
        ("[broker]\nport = 70000", r"'port' in \[broker\]: input should be less than or equal to 65535, got 70000"),
        ('[broker]\nembedded = true\nhost = "0.0.0.0"', "the embedded broker listens on loopback only"),
        (
            '[broker]\nhost = "broker.example"\nusername = "a"\npassword_file = "x"',
            "the password would go to 'broker.example' in the open: set tls_ca_file",
        ),
        ('site = "No Spaces"', r"'site' in the top level: string should match pattern"),
        ('[cameras.north]\nsource = "0"\nlatitude_deg = 1.0', "latitude_deg and longitude_deg belong together"),
        ("site = ", "is not TOML"),
        ("[policy]\nhold_s = 1" + 400 * "0", "the number is too large"),
        ('[broker]\nembedded = true\ntls_ca_file = "x"', "the embedded broker speaks no TLS"),
        ('[cameras.a]\nsource = "0"\nanalysis_rate_hz = 0.1', "greater than or equal to 0.5"),
        (
            '[[policy.lines]]\nname = "x"\naction = "watch"\nhours = ["22:00-22:00"]',
            "begins when it ends",
        ),
        ("[policy]\nvalid_s = 30", "runs out in between: expected update_s of at most three quarters of valid_s"),
        ('[policy]\ntimezone = "Oslo"', r"'timezone' in \[policy\]: expected a name of the IANA time zone database"),
        ('[[policy.lines]]\nname = "x"', r"line 'x' changes nothing: expected one or more of action"),
        (
            '[[policy.lines]]\nname = "x"\naction = "warn"\nhours = ["22-5"]',
            r"expected a part of the day such as '22:00-05:00', got '22-5'",
        ),
        (
            '[[policy.lines]]\nname = "x"\naction = "watch"\nzones = ["verge-west"]',
            r"line 'x' of \[\[policy\.lines\]\]: no zone and no kind of zone is called 'verge-west'",
        ),
        (
            '[[policy.lines]]\nname = "x"\nmin_prob = 0.5',
            r"unknown key 'min_prob' in \[policy\.lines\.0\]; perhaps you meant 'min_probability'",
        ),
    ],
)
def test_a_wrong_configuration_is_one_line_that_says_where(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        load(tmp_path, text)

    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "config.toml"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: can't be read"):
        load_config(tmp_path / "nowhere.toml")


def test_whole_numbers_are_taken_where_seconds_are_meant(tmp_path: Path) -> None:
    assert load(tmp_path, "[policy]\nhold_s = 3").policy.hold_s == 3.0


def test_a_source_file_is_looked_up_beside_the_configuration(tmp_path: Path) -> None:
    config = load(
        tmp_path, '[cameras.a]\nsource = "clip.mp4"\n[cameras.b]\nsource = "rtsp://host/x"\n[cameras.c]\nsource = "0"'
    )
    (tmp_path / "clip.mp4").touch()

    assert [source_of(camera, tmp_path / "config.toml") for camera in config.cameras.values()] == [
        str(tmp_path / "clip.mp4"),
        "rtsp://host/x",
        "0",
    ]
    (tmp_path / "clip.mp4").unlink()
    with pytest.raises(ConfigError, match=r"camera source 'clip\.mp4': no such file"):
        source_of(config.cameras["a"], tmp_path / "config.toml")


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_one_line_of_complaint(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_config(path)
    except ConfigError as error:
        assert "\n" not in str(error).removeprefix(str(path))


def test_zones_are_polygons_of_whole_or_broken_pixels(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        '[cameras.a]\nsource = "0"\n[[cameras.a.zones]]\nid = "road"\npolygon_px = [[0, 10.5], [99, 10], [99, 90]]',
    )

    assert config.cameras["a"].zones[0].polygon_px == [(0.0, 10.5), (99.0, 10.0), (99.0, 90.0)]


@pytest.mark.parametrize(
    ("polygon", "complaint"),
    [
        ("[[0, 0], [1, 1]]", "at least 3 items"),
        ("[[0, 0], [5, 5], [9, 9]]", "encloses nothing"),
        ("[[0, 0], [nan, 5], [9, 0]]", "polygon_px|nan"),
    ],
)
def test_a_polygon_that_encloses_nothing_is_refused(tmp_path: Path, polygon: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(tmp_path, f'[cameras.a]\nsource = "0"\n[[cameras.a.zones]]\nid = "road"\npolygon_px = {polygon}')
