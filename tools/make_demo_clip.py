"""Make demo/crossing.mp4 and its truth: animal cut-outs walked over a real road camera's recording.

    python tools/make_demo_clip.py --data ../shared/data

The cut-outs are GPL-2 (Tux Paint stamps), and so is the clip; see demo/README.md. Needs the ffmpeg program.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from adapters.training.domains import paste_cutout, resize_cutout
from adapters.training.pictures import clip_frames

ROOT = Path(__file__).parents[1]
SEED = 20261123
ROAD = "clips/road_bgslibrary_video.avi"  # 12.5 s, MIT; empty at its start and its end, so that it can be looped
LOOPS = 2
FPS = 30.0
NEAR_PX, FAR_PX = 105.0, 36.0  # height of a large animal at the left and at the right edge of this view
BOB_SHARE, STEPS_HZ = 0.02, 1.8  # how far and how often a walking body goes up and down
VISIBLE_SHARE = 0.6  # of the body inside the picture: from then on it counts as visible
MIN_SHARE = 0.1


@dataclass(frozen=True)
class Walk:
    """An animal's way from one point to another, at constant speed, with an optional pause.

    The points are (x, y) of its feet in pixels.
    """

    label: str
    stamp: str
    start_s: float
    end_s: float
    begin: tuple[float, float]
    finish: tuple[float, float]
    size: float  # of a large animal's height
    mirrored: bool
    pause_s: float = 0.0  # stands still half way

    def foot(self, time_s: float) -> tuple[float, float]:
        """Return where the feet are."""
        way = (self.end_s - self.start_s - self.pause_s) / 2
        since = time_s - self.start_s
        walked = since if since < way else max(way, since - self.pause_s)
        share = walked / (2 * way)
        return tuple(a + share * (b - a) for a, b in zip(self.begin, self.finish, strict=True))  # type: ignore[return-value]

    def walks(self, time_s: float) -> bool:
        """Tell whether it walks, and does not stand."""
        way = (self.end_s - self.start_s - self.pause_s) / 2
        return not self.start_s + way <= time_s < self.start_s + way + self.pause_s


WALKS = (
    Walk("cattle", "cow.png", 0.6, 8.4, (585, 425), (455, -5), 1.0, mirrored=True),
    Walk("bear", "european-bear.png", 9.6, 14.8, (215, 470), (345, -5), 0.95, mirrored=False),
    Walk("caribou", "caribou.png", 16.6, 24.4, (470, -5), (610, 430), 1.1, mirrored=False, pause_s=1.5),
)


def height_at(x: float, width: int) -> float:
    """Return the height of a large animal whose feet are at x: this camera looks along the road to the right."""
    return NEAR_PX + (FAR_PX - NEAR_PX) * float(np.clip(x / width, 0, 1))


def place(walk: Walk, cutout: NDArray[np.uint8], time_s: float, width: int) -> tuple[NDArray[np.uint8], int, int]:
    """Return the cut-out at its size, and its upper left corner."""
    x, y = walk.foot(time_s)
    tall = walk.size * height_at(x, width)
    body = resize_cutout(cutout, tall, mirrored=walk.mirrored)
    bob = BOB_SHARE * tall * abs(np.sin(np.pi * STEPS_HZ * (time_s - walk.start_s))) if walk.walks(time_s) else 0.0
    return body, round(x - body.shape[1] / 2), round(y - body.shape[0] - bob)


def add_shadow(frame: NDArray[np.uint8], x: int, y: int, body: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the frame with a soft shadow under the body's feet."""
    h, w = body.shape[:2]
    dark = np.zeros(frame.shape[:2], np.float32)
    cv2.ellipse(dark, (x + w // 2, y + h - 2), (int(w * 0.45), max(2, int(h * 0.09))), 0, 0, 360, 0.45, -1)
    dark = cv2.GaussianBlur(dark, (0, 0), max(1.0, h * 0.04))
    return (frame * (1 - dark[:, :, None])).astype(np.uint8)


def box_inside(
    x: int, y: int, body: NDArray[np.uint8], size: tuple[int, int]
) -> tuple[tuple[int, int, int, int], float]:
    """Return the visible part of the body as x, y, w, h, and its share of the whole."""
    h, w = body.shape[:2]
    x1, y1, x2, y2 = max(0, x), max(0, y), min(size[0], x + w), min(size[1], y + h)
    inside = max(0, x2 - x1) * max(0, y2 - y1)
    return (x1, y1, x2 - x1, y2 - y1), inside / (w * h)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with clips/ and stamps/")
    data = parser.parse_args().data
    rng = np.random.default_rng(SEED)
    frames = list(clip_frames(data / ROAD, every=1)) * LOOPS
    size = (frames[0].shape[1], frames[0].shape[0])
    cutouts = {walk.stamp: cv2.imread(str(data / "stamps" / walk.stamp), cv2.IMREAD_UNCHANGED) for walk in WALKS}
    boxes: dict[str, list[list[int]]] = {walk.label: [] for walk in WALKS}
    visible: dict[str, float] = {}
    encoder = start_encoder(ROOT / "demo/crossing.mp4", size)
    for index, frame in enumerate(frames):
        scene, time_s = frame, index / FPS
        for walk in WALKS:
            if not walk.start_s <= time_s <= walk.end_s:
                continue
            body, x, y = place(walk, cutouts[walk.stamp], time_s, size[0])
            scene = paste_cutout(add_shadow(scene, x, y, body), body, x, y, gain=0.8, offset=-6)
            box, share = box_inside(x, y, body, size)
            if share >= MIN_SHARE:
                boxes[walk.label].append([index, *box])
            if share >= VISIBLE_SHARE:
                visible.setdefault(walk.label, time_s)
        scene = cv2.GaussianBlur(scene, (0, 0), 0.5) + rng.normal(0, 1.5, scene.shape)
        assert encoder.stdin is not None  # opened as a pipe
        encoder.stdin.write(np.clip(scene, 0, 255).astype(np.uint8).tobytes())
    encoder.communicate()
    write_truth(ROOT / "demo/crossing.json", size, boxes, visible)


def start_encoder(out: Path, size: tuple[int, int]) -> subprocess.Popen[bytes]:
    raw = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{size[0]}x{size[1]}", "-r", f"{FPS:g}", "-i", "-"]
    coded = [
        "-c:v",
        "libx264",
        "-crf",
        "27",
        "-preset",
        "slow",
        "-g",
        "60",
        "-pix_fmt",
        "yuv420p",
        "-movflags",
        "+faststart",
    ]
    return subprocess.Popen(["ffmpeg", "-v", "error", "-y", *raw, *coded, str(out)], stdin=subprocess.PIPE)  # noqa: S603, S607


def write_truth(out: Path, size: tuple[int, int], boxes: dict[str, list[list[int]]], visible: dict[str, float]) -> None:
    events = [
        {
            "id": f"{label}-1",
            "class": label,
            "start_s": round(rows[0][0] / FPS, 3),
            "end_s": round(rows[-1][0] / FPS, 3),
            "visible_s": round(visible[label], 3),
            "boxes": rows,
        }
        for label, rows in boxes.items()
    ]
    out.write_text(json.dumps({"clip": "crossing.mp4", "fps": FPS, "size": size, "events": events}) + "\n")


if __name__ == "__main__":
    main()
