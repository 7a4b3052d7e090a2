from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapters.errors import InputError
from adapters.stills import read_picture

RGB = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "RGBA", "1", "LA"])
def test_pictures_of_every_mode_become_three_channels(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    Image.fromarray(RGB).convert(mode).save(path)

    picture = read_picture(path)

    assert picture.shape == (40, 60, 3)
    assert picture.dtype == np.uint8


def test_channels_come_in_the_order_of_opencv(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (250, 0, 10)).save(tmp_path / "red.png")

    assert read_picture(tmp_path / "red.png")[0, 0].tolist() == [10, 0, 250]


def test_sixteen_bit_pictures_are_stretched(tmp_path: Path) -> None:
    Image.fromarray((np.arange(2400, dtype=np.uint16) + 500).reshape(40, 60)).save(tmp_path / "deep.png")

    picture = read_picture(tmp_path / "deep.png")

    assert (int(picture.min()), int(picture.max())) == (0, 255)


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(RGB).save(tmp_path / "turned.jpg", exif=exif)

    assert read_picture(tmp_path / "turned.jpg").shape == (60, 40, 3)


def test_a_single_pixel_is_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")

    assert read_picture(tmp_path / "dot.png").shape == (1, 1, 3)


def test_a_truncated_picture_is_an_error_that_names_it(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.repeat(np.repeat(RGB, 8, 0), 8, 1)).save(whole)
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:-2000])

    with pytest.raises(InputError, match=r"cut\.jpg: can't be decoded"):
        read_picture(tmp_path / "cut.jpg")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a picture"),
        (b"no picture at all", "not a picture"),
        (b"\xff\xd8\xff\xe0broken", "not a picture|can't"),
    ],
)
def test_other_files_are_errors_that_name_them(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "file.jpg").write_bytes(content)

    with pytest.raises(InputError, match=rf"file\.jpg: ({complaint})"):
        read_picture(tmp_path / "file.jpg")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such picture"):
        read_picture(tmp_path / "nowhere.jpg")
    with pytest.raises(InputError, match="is a folder"):
        read_picture(tmp_path)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")

    with pytest.raises(InputError, match=r"bomb\.png"):
        read_picture(tmp_path / "bomb.png")


@pytest.mark.parametrize("lost", [1, 12, 60])
def test_a_png_without_its_end_is_an_error(tmp_path: Path, lost: int) -> None:
    Image.fromarray(RGB).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-lost])

    with pytest.raises(InputError, match=r"cut\.png: can't be decoded"):
        read_picture(tmp_path / "cut.png")


def test_a_png_whose_checksum_is_wrong_is_an_error(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "flipped.png")
    content = bytearray((tmp_path / "flipped.png").read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "flipped.png").write_bytes(content)

    with pytest.raises(InputError, match=r"flipped\.png: can't be decoded"):
        read_picture(tmp_path / "flipped.png")


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InputError, match="is no regular file"):
        read_picture(tmp_path / "pipe")
