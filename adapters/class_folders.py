"""Folders of pictures, one for each class: on this disk, in tar shards, or wherever fsspec reaches.

A folder holds a folder for each class; or tar files, each of which does: a class is then in all of them together.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from adapters.errors import ConfigError, InputError
from adapters.stills import PictureFile, reading, store_of

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
SHARD = ".tar"  # not compressed: a picture is read where it lies
MOST_HEADER_BYTES = 1_000_000  # of a member of a shard; real ones have hundreds
LINKED = "is a link or has holes; expected a file that is all there (tar --dereference --hard-dereference)"


@dataclass(frozen=True)
class InShard:
    """A file in a tar shard, which whoever sees the shard can read without looking for it."""

    shard: Path
    name: str
    first_byte: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"

    @property
    def fs(self) -> Any | None:  # noqa: ANN401
        """What the shard is read through; see `stills.store_of`."""
        return store_of(self.shard)

    def exists(self) -> bool:
        """It was there when the shard was listed."""
        return True

    def is_file(self) -> bool:
        """Nothing else is listed."""
        return True

    def is_dir(self) -> bool:
        """Nothing else is listed."""
        return False

    def read_bytes(self) -> bytes:
        """Return its content."""
        if self.fs is not None:  # this part of it alone
            path = self.shard.path  # type: ignore[attr-defined]  # of a UPath
            return bytes(self.fs.cat_file(path, start=self.first_byte, end=self.first_byte + self.size))
        with self.shard.open("rb") as file:
            file.seek(self.first_byte)
            return file.read(self.size)


@dataclass(frozen=True, kw_only=True)
class ClassFolder:
    """A class: its name and its pictures, sorted."""

    name: str
    pictures: tuple[PictureFile, ...]


def folder_at(place: str) -> Path:
    """Return the folder of a path or a URL, such as s3://bucket/folder; wherever it is used from.

    Raises:
        ConfigError: a URL, and what reads it is not installed, or it is of no known kind.
    """
    if "://" not in place:
        return Path(place).absolute()
    try:
        from upath import UPath
    except ImportError:
        raise ConfigError(f"{place}: needs universal_pathlib; run: pip install 'wildlane[cluster]'") from None
    try:
        folder = UPath(place)
        folder.fs  # noqa: B018  # now or later, this looks for what reads URLs of this kind
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{place}: can't be reached ({error})") from None
    return folder  # type: ignore[return-value]  # it does all of a path that is asked for here


def folders_of_classes(root: Path) -> list[ClassFolder]:
    """Return the classes of a folder, or of the tar shards in it, sorted by name.

    Raises:
        InputError: no such folder, it can't be read, no class folders in it, a class folder without a picture, or a
            shard that is no whole tar file or holds links.
    """
    members: dict[str, list[PictureFile]] = {}
    with reading(root):
        for name, pictures in _found(root):
            members.setdefault(name, []).extend(pictures)
    if not members:
        raise InputError(f"{root}: holds no folders; expected one of pictures for each class, or tar files of such")
    return [ClassFolder(name=name, pictures=tuple(sorted(members[name], key=str))) for name in sorted(members)]


def _found(root: Path) -> Iterator[tuple[str, list[PictureFile]]]:
    if root.suffix.lower() == SHARD and root.is_file():
        yield from _in_shard(root)
        return
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one that holds a folder of pictures for each class")
    for path in sorted(root.iterdir(), key=str):
        if path.suffix.lower() == SHARD and path.is_file():
            yield from _in_shard(path)
        elif path.is_dir() and not path.name.startswith("."):
            pictures: list[PictureFile] = [file for file in path.iterdir() if _is_picture(PurePosixPath(file.name))]
            if not pictures:
                raise InputError(f"{path}: holds no picture (looked for {', '.join(sorted(SUFFIXES))})")
            yield path.name, pictures


def _in_shard(shard: Path) -> Iterator[tuple[str, list[PictureFile]]]:
    """Yield pictures class/picture, however the shard spells their paths.

    Raises:
        InputError: it is no tar file, is damaged or cut short, or a picture in it is a link.
    """
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=_Headers(file), mode="r:") as archive:  # type: ignore[call-overload]
            for member in archive:
                if member.size < 0:  # the search for the next would go back
                    raise tarfile.ReadError(f"{member.name} has {member.size} bytes")
                path = PurePosixPath(member.name)  # which drops a leading ./
                if len(path.parts) == 1 or not _is_picture(path):
                    continue
                if member.islnk() or member.issym() or member.issparse():
                    raise InputError(f"{shard}/{path}: {LINKED}")
                if member.isreg():
                    yield path.parts[-2], [InShard(shard, str(path), member.offset_data, member.size)]
            file.seek(archive.offset)
            if not _ends(file):  # a damaged header would pass for the end
                raise tarfile.ReadError(f"damaged, cut short or joined with another at byte {archive.offset:,}")
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{shard}: not a tar file that can be read ({error})") from None


def _ends(file: BinaryIO) -> bool:
    """Tell whether there are zeros, and nothing else, up to the end."""
    block, count = file.read(MOST_HEADER_BYTES), 0
    while block and not any(block):
        block, count = file.read(MOST_HEADER_BYTES), count + 1
    return not block and count > 0


def _is_picture(path: PurePosixPath) -> bool:
    """Tell whether it is called like a picture and not hidden, as what macOS puts beside each file is."""
    hidden = any(part.startswith(".") and part != ".." for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


class _Headers:
    """A tar file whose headers are read: tarfile would read as much as a header says, or all for less than nothing."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)
