"""Tells a file that was cut short from a whole one, by what its container says of its own length or end."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
EBML_START, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
JPEG_TAIL_BYTES = 65_536  # some cameras write their own data behind the end marker


def cut_short(path: Path) -> str | None:
    """Return what is missing of an MP4, AVI, Matroska, GIF or JPEG file; None where nothing is, or for other kinds.

    A decoder plays such a file up to the gap, or not at all, with a warning that nobody reads.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and len(head) == 12:
            (declared,) = struct.unpack("<I", head[4:8])
            # a RIFF of 0 was never closed; live recorders write it, and players take it
            return (
                f"{declared + 8} bytes are declared, {length} are there" if declared and declared + 8 > length else None
            )
        if head[4:8] == b"ftyp":
            return _cut_short_boxes(path, length)
        if head[:4] == EBML_START:
            return _cut_short_segment(path, length)
        if head[:4] == b"GIF8":
            file.seek(-1, 2)
            return None if file.read() == b";" else "its end mark is missing"
        if head[:2] == JPEG_START:
            file.seek(max(0, length - JPEG_TAIL_BYTES))
            return None if JPEG_END in file.read() else "the picture's end marker is missing"
    return None


def _cut_short_segment(path: Path, length: int) -> str | None:
    """Matroska and WebM: the one segment names its size, unless it was streamed."""
    with path.open("rb") as file:
        file.seek(4)
        size, _ = _ebml_size(file)
        file.seek(size, 1)
        if file.read(4) != SEGMENT:
            return None
        size, known = _ebml_size(file)
        end = file.tell() + size
    return f"the segment is to end at byte {end}, the file ends at {length}" if known and end > length else None


def _ebml_size(file: BinaryIO) -> tuple[int, bool]:
    """Return a size of 1 to 8 bytes and whether it is known; all ones mean unknown (RFC 8794, section 4)."""
    first = file.read(1)
    if not first or not first[0]:
        return 0, False
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> extra)]) + file.read(extra))
    return value, value != (1 << 7 * (extra + 1)) - 1


def _cut_short_boxes(path: Path, length: int) -> str | None:
    position, kinds = 0, set()
    with path.open("rb") as file:
        while position + 8 <= length:
            file.seek(position)
            size, kind = struct.unpack(">I4s", file.read(8))
            if size == 1:
                (size,) = struct.unpack(">Q", file.read(8).rjust(8, b"\0"))
            kinds.add(kind)
            if size == 0:  # to the end of the file
                break
            if size < 8 or position + size > length:
                name = kind.decode("ascii", "replace")
                return f"the '{name}' part is to end at byte {position + size}, the file ends at {length}"
            position += size
    return None if b"moov" in kinds or b"moof" in kinds else "its index ('moov') is missing"
