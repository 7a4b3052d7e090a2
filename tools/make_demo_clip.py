"""Make demo/crossing.mp4 and its truth: animal cut-outs walked over a real road camera's recording.

    python tools/make_demo_clip.py --data ../shared/data

The cut-outs are GPL-2 (Tux Paint stamps), and so is the clip; see demo/README.md. Needs the ffmpeg program.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from staging import MIN_SHARE, VISIBLE_SHARE, ClipWriter, Rows, add_shadow, box_inside, write_truth

from adapters.training.domains import paste_cutout, resize_cutout
from adapters.training.pictures import clip_frames

OUT = Path(__file__).parents[1] / "demo/crossing.mp4"
SEED = 20261123
ROAD = "clips/road_bgslibrary_video.avi"  # 12.5 s, MIT; empty at its start and its end, so that it can be looped
LOOPS = 2
FPS = 30.0
NEAR_PX, FAR_PX = 105.0, 36.0  # height of a large animal at the left and at the right edge of this view
BOB_SHARE, STEPS_HZ = 0.02, 1.8  # how far and how often a walking body goes up and down


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with clips/ and stamps/")
    data = parser.parse_args().data
    rng = np.random.default_rng(SEED)
    frames = list(clip_frames(data / ROAD, every=1)) * LOOPS
    size = (frames[0].shape[1], frames[0].shape[0])
    cutouts = {walk.stamp: cv2.imread(str(data / "stamps" / walk.stamp), cv2.IMREAD_UNCHANGED) for walk in WALKS}
    boxes: Rows = {f"{walk.label}-1": [] for walk in WALKS}
    visible: dict[str, float] = {}
    clip = ClipWriter(OUT, size, FPS, crf=27, preset="slow")
    for index, frame in enumerate(frames):
        scene, time_s = frame, index / FPS
        for walk in WALKS:
            if not walk.start_s <= time_s <= walk.end_s:
                continue
            body, x, y = place(walk, cutouts[walk.stamp], time_s, size[0])
            scene = paste_cutout(add_shadow(scene, x, y, body), body, x, y, gain=0.8, offset=-6)
            box, share = box_inside(x, y, body, size)
            if share >= MIN_SHARE:
                boxes[f"{walk.label}-1"].append([index, *box])
            if share >= VISIBLE_SHARE:
                visible.setdefault(f"{walk.label}-1", time_s)
        clip.write(cv2.GaussianBlur(scene, (0, 0), 0.5) + rng.normal(0, 1.5, scene.shape))
    clip.close()
    write_truth(OUT, size, FPS, boxes, visible, {f"{walk.label}-1": walk.label for walk in WALKS})


if __name__ == "__main__":
    main()
