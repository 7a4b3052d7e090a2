"""Class folders are found on this disk, in tar shards and at URLs, and what is none is named."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from adapters.class_folders import InShard, folder_at, folders_of_classes
from adapters.errors import ConfigError, InputError
from adapters.stills import read_learnable

UNLIKELY = "memory://wildlane-tests"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three pictures, and what is neither."""
    for name in ("elk", "moose"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(3):
            grey = np.full((20, 20, 3), 10 * number + len(name), np.uint8)
            cv2.imwrite(str(tmp_path / "pictures" / name / f"{number}.png"), grey)
        (tmp_path / "pictures" / name / "notes.txt").write_text("seen at dusk")
    (tmp_path / "pictures" / ".cache").mkdir()
    return tmp_path / "pictures"


def packed(folder: Path, shard: Path, prefix: str = "") -> Path:
    with tarfile.open(shard, "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.add(path, f"{prefix}{path.relative_to(folder)}")
    return shard


@pytest.mark.parametrize("prefix", ["", "./", "train/"])
def test_a_shard_holds_what_its_folder_holds_however_it_was_packed(folder: Path, tmp_path: Path, prefix: str) -> None:
    shard = packed(folder, tmp_path / "all.tar", prefix)

    inside = folders_of_classes(shard)

    outside = folders_of_classes(folder)
    assert [found.name for found in inside] == [found.name for found in outside] == ["elk", "moose"]
    for a, b in zip(inside, outside, strict=True):
        assert len(a.pictures) == len(b.pictures) == 3
        for one, other in zip(a.pictures, b.pictures, strict=True):
            assert isinstance(one, InShard)
            assert np.array_equal(read_learnable(one), read_learnable(other))
            assert str(one).startswith(f"{shard}/")


def test_a_class_is_in_all_shards_together(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for number in range(2):
        packed(folder, tmp_path / "shards" / f"{number}.tar")

    assert [len(found.pictures) for found in folders_of_classes(tmp_path / "shards")] == [6, 6]


def test_folders_and_shards_at_a_url_are_read_like_those_here(folder: Path, tmp_path: Path) -> None:
    away = folder_at(f"{UNLIKELY}/set")
    for path in folder.rglob("[!.]*.*"):
        (away / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (away / path.relative_to(folder)).write_bytes(path.read_bytes())
    shards = folder_at(f"{UNLIKELY}/shards")
    shards.mkdir(parents=True)
    (shards / "0.tar").write_bytes(packed(folder, tmp_path / "0.tar").read_bytes())

    here, there, packed_there = (folders_of_classes(root) for root in (folder, away, shards))

    for found in (there, packed_there):
        assert [one.name for one in found] == ["elk", "moose"]
        for a, b in zip(found, here, strict=True):
            for one, other in zip(a.pictures, b.pictures, strict=True):
                assert np.array_equal(read_learnable(one), read_learnable(other))


def test_a_url_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="nothing://bucket: can't be reached"):
        folder_at("nothing://bucket")
    with pytest.raises(InputError, match=f"{UNLIKELY}/nowhere: no such folder"):
        folders_of_classes(folder_at(f"{UNLIKELY}/nowhere"))


def test_without_what_reads_urls_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "upath", None)

    with pytest.raises(ConfigError, match=r"pip install 'wildlane\[cluster\]'"):
        folder_at("s3://bucket/pictures")


def test_what_is_no_tar_file_and_a_cut_one_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no tar")
    with pytest.raises(InputError, match=r"text\.tar: not a tar file"):
        folders_of_classes(tmp_path / "text.tar")

    whole = packed(folder, tmp_path / "whole.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(InputError, match=r"cut\.tar"):
        read_all(tmp_path / "cut.tar")


def shard_of(members: list[tarfile.TarInfo], shard: Path, *, pixels: bytes = b"") -> Path:
    """Write members with hand-made headers, and what is a trailer."""
    blocks = [
        member.tobuf(tarfile.GNU_FORMAT) + pixels.ljust(-len(pixels) % 512 + len(pixels), b"\0") for member in members
    ]
    shard.write_bytes(b"".join(blocks) + bytes(1024))
    return shard


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.type, made.linkname = size, kind, "elk/0.png" if kind in (tarfile.LNKTYPE, tarfile.SYMTYPE) else ""
    return made


@pytest.mark.parametrize("size", [-512, -(2**60), 2**62, 2**80])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.timeout(10)
def test_a_shard_that_lies_about_sizes_is_refused(tmp_path: Path, size: int, kind: bytes) -> None:
    shard = shard_of([member("elk/0.png"), member("elk/1.png", size, kind)], tmp_path / "0.tar")

    with pytest.raises(InputError, match=r"0\.tar: (not a tar file that can|can't) be read"):
        folders_of_classes(shard)


@pytest.mark.timeout(10)
def test_headers_about_headers_about_headers_are_refused(tmp_path: Path) -> None:
    shard = shard_of([member("x", 0, tarfile.XHDTYPE)] * 5000, tmp_path / "0.tar")

    with pytest.raises(InputError, match=r"0\.tar: not a tar file that can be read"):
        folders_of_classes(shard)


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_picture_that_is_a_link_in_a_shard_is_not_left_out_in_silence(tmp_path: Path, kind: bytes) -> None:
    shard = shard_of([member("elk/0.png"), member("elk/1.png", 0, kind)], tmp_path / "0.tar")

    with pytest.raises(InputError, match=r"0\.tar/elk/1\.png: is a link.*--hard-dereference"):
        folders_of_classes(shard)


def test_what_is_hidden_is_left_out_of_folders_and_shards(folder: Path, tmp_path: Path) -> None:
    (folder / "elk" / "._0.png").write_bytes(b"what macOS puts there")
    (folder / ".cache" / "0.png").write_bytes(b"a thumbnail")

    shard = packed(folder, tmp_path / "0.tar")

    for root in (folder, shard):
        assert [(found.name, len(found.pictures)) for found in folders_of_classes(root)] == [("elk", 3), ("moose", 3)]


def test_a_damaged_header_is_not_taken_for_the_end(folder: Path, tmp_path: Path) -> None:
    shard = packed(folder, tmp_path / "0.tar")
    with tarfile.open(shard) as archive:
        third = archive.getmembers()[2].offset
    content = bytearray(shard.read_bytes())

    content[third + 148 : third + 156] = b"00000000"  # its checksum
    (tmp_path / "damaged.tar").write_bytes(content)
    (tmp_path / "cut.tar").write_bytes(content[:third])
    content[third : third + 512] = bytes(512)
    (tmp_path / "zeroed.tar").write_bytes(content)

    for name in ("damaged", "cut", "zeroed"):
        with pytest.raises(
            InputError, match=rf"{name}\.tar: .*damaged, cut short or joined with another at byte {third:,}"
        ):
            folders_of_classes(tmp_path / f"{name}.tar")


def test_what_a_store_refuses_is_told_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    away = folder_at(f"{UNLIKELY}/locked")
    away.mkdir(parents=True)

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no credentials")

    monkeypatch.setattr(type(away.fs), "ls", refuse)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"locked.*can't be read \(no credentials\)"):
        folders_of_classes(away)


def read_all(root: Path) -> None:
    for found in folders_of_classes(root):
        for picture in found.pictures:
            read_learnable(picture)
