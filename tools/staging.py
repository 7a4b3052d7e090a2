"""Cut-out animals put into a recording, and a recording written as a clip with its truth."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Rows = dict[str, list[list[int]]]  # of each event: frame, x, y, w, h
VISIBLE_SHARE = 0.6  # of the body inside the picture: from then on it counts as visible
MIN_SHARE = 0.1


def add_shadow(frame: Picture, x: int, y: int, body: Picture) -> Picture:
    """Return the frame with a soft shadow under the body's feet."""
    h, w = body.shape[:2]
    dark = np.zeros(frame.shape[:2], np.float32)
    cv2.ellipse(dark, (x + w // 2, y + h - 2), (int(w * 0.45), max(2, int(h * 0.09))), 0, 0, 360, 0.45, -1)
    dark = cv2.GaussianBlur(dark, (0, 0), max(1.0, h * 0.04))
    return (frame * (1 - dark[:, :, None])).astype(np.uint8)


def box_inside(x: int, y: int, body: Picture, size: tuple[int, int]) -> tuple[tuple[int, int, int, int], float]:
    """Return the visible part of the body as x, y, w, h, and its share of the whole."""
    h, w = body.shape[:2]
    x1, y1, x2, y2 = max(0, x), max(0, y), min(size[0], x + w), min(size[1], y + h)
    inside = max(0, x2 - x1) * max(0, y2 - y1)
    return (x1, y1, x2 - x1, y2 - y1), inside / (w * h)


class ClipWriter:
    """H.264 by the ffmpeg program; `preset` is x264's, of which a camera's chip is among the fast ones."""

    def __init__(self, out: Path, size: tuple[int, int], fps: float, *, crf: int, preset: str = "veryfast") -> None:
        raw = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{size[0]}x{size[1]}", "-r", f"{fps:g}", "-i", "-"]
        coded = ["-c:v", "libx264", "-crf", str(crf), "-preset", preset, "-g", "60", "-pix_fmt", "yuv420p"]
        command = ["ffmpeg", "-v", "error", "-y", *raw, *coded, "-movflags", "+faststart", str(out)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)  # noqa: S603

    def write(self, frame: NDArray[np.float32]) -> None:
        assert self._process.stdin is not None  # opened as a pipe
        self._process.stdin.write(np.clip(frame, 0, 255).astype(np.uint8).tobytes())

    def close(self) -> None:
        self._process.communicate()
        if self._process.returncode != 0:
            raise SystemExit("ffmpeg failed")


def write_truth(
    clip: Path,
    size: tuple[int, int],
    fps: float,
    boxes: Rows,
    visible_s: Mapping[str, float],
    labels: Mapping[str, str],
    **about: str | bool,
) -> None:
    """Write the truth file beside a clip; `about` is what the figures are told apart by."""
    events = [
        {
            "id": name,
            "class": labels[name],
            "start_s": round(rows[0][0] / fps, 3),
            "end_s": round(rows[-1][0] / fps, 3),
            "visible_s": round(visible_s[name], 3),
            "boxes": rows,
        }
        for name, rows in boxes.items()
    ]
    told = {"clip": clip.name, "fps": fps, "size": size, **about, "events": events}
    clip.with_suffix(".json").write_text(json.dumps(told) + "\n")
