"""Make clips with animals for `replay --truth`: cut-outs walk over real recordings, in good and in bad conditions.

    python tools/scenes.py --data ../shared/data --out out/scenes              # every condition, every height
    python tools/scenes.py --data ../shared/data --out out/tuning --only rain --first 1 --scenes 2

Each clip is a road camera's recording with four crossings, a `.json` of the same name is its truth. The product was
tuned on numbers 1 to 4 of each condition; judge it on others. Cut-outs are drawn
from land animals: alone or in herds, walking, running or pausing, stepping out from behind something, hidden by what
passes before them. Every figure that comes of these clips is of *synthetic* animals, and the recordings and cut-outs
took part in the fit of p(animal). The cut-outs are GPL-2 (Tux Paint stamps): the clips are not for shipping.
Needs the ffmpeg program.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from staging import MIN_SHARE, VISIBLE_SHARE, ClipWriter, Picture, Rows, add_shadow, box_inside, write_truth
from weather import CONDITIONS, FPS, GOALS, Condition

from adapters.training.domains import paste_cutout, resize_cutout
from adapters.training.pictures import clip_frames, stamps

SEED = 20261124
LEAD_S, PAUSE_BETWEEN_S = 4.0, 3.0  # the daemon learns what the place looks like; one animal is gone before the next
CROSSINGS = 4
FIRST = 5  # number of the first scene to judge by
SCENES, SCENES_OF_GOALS = 4, 8  # clips of each condition, and of those that something was promised of
ROADS = (  # fixed by day, wide enough for animals of 200 px
    "road_bgslibrary_video.avi",
    "intersection_crosswalk_borislavy.mp4",
    "street_parked_ckuhn517.mp4",
    "pedestrians_vtest_debian.avi",
)
HEIGHTS_PX = ((15, 20), (20, 40), (40, 80), (80, 200))  # each crossing's is drawn from one of these
HERD_CHANCE, PAUSE_CHANCE, HIDDEN_CHANCE = 0.2, 0.25, 0.25
BODIES_A_SECOND = (0.7, 3.0)  # speed in body lengths
LONGEST_S = 20.0
MOVED_GREY = 28  # from the usual picture: a car or a person, that may pass before an animal


LAND = frozenset({"bears", "bovines", "camel", "cats", "deer", "dogs", "equines", "mammals", "marsupials", "rodents"})
# or lying, or a mouse
SITTING = {"chimp", "gnu-sitting", "koala", "mouse", "pig_golden", "rabbit_little", "rat", "squirrel", "tiger"}
TAUGHT_AS = {"cow": "cattle", "zebu": "cattle", "european-bear": "bear", "sheep_lamb": "sheep", "ram": "sheep"}


def land_cutouts(data: Path) -> dict[str, Picture]:
    """Return the cut-outs of land animals by class, each uint8 (height, width, 4); of several of a class the largest.

    What the starter set knows under another name has that name.
    """
    found: dict[str, Picture] = {}
    for name, group, cutout in stamps(data):
        stem = re.sub(r"[-_]?\d+$", "", name)
        label = TAUGHT_AS.get(stem, stem)
        if group in LAND and stem not in SITTING and (label not in found or cutout.size > found[label].size):
            found[label] = cutout
    return found


@dataclass(frozen=True)
class Crossing:
    """One visit: who walks, from where to where, how fast.

    Attributes:
        name, label: of the event, and of its class.
        bodies: cut-outs at their size, one for each animal of the herd.
        start_s: when the first one sets out.
        foot_y: row of its feet at both ends of the way; the way goes through the whole picture.
        speed_px_s: along the row; negative from right to left.
        pause_s: for which it stands still half way.
        hidden_px: it comes out from behind something so far into the picture; 0 where it enters at the border.
    """

    name: str
    label: str
    bodies: tuple[Picture, ...]
    start_s: float
    foot_y: tuple[float, float]
    speed_px_s: float
    pause_s: float
    hidden_px: float

    def seconds(self, width: int) -> float:
        return self._way(width) / abs(self.speed_px_s) + self.pause_s

    def _way(self, width: int) -> float:
        return width + self._length()

    def _length(self) -> float:
        return 1.4 * sum(body.shape[1] for body in self.bodies)

    def places(self, time_s: float, width: int) -> Iterator[tuple[Picture, int, int]]:
        """Yield each animal and its upper left corner."""
        half = (self.seconds(width) - self.pause_s) / 2
        since = time_s - self.start_s
        walked_s = since if since < half else max(half, since - self.pause_s)
        behind = 0.0
        for body in self.bodies:
            ahead = abs(self.speed_px_s) * walked_s - behind - body.shape[1]
            x = ahead if self.speed_px_s > 0 else width - ahead - body.shape[1]
            share = np.clip(ahead / width, 0, 1)
            y = self.foot_y[0] + share * (self.foot_y[1] - self.foot_y[0])
            step = 0.02 * body.shape[0] * abs(np.sin(6 * walked_s)) if walked_s == since else 0.0
            yield body, round(x), round(y - body.shape[0] - step)
            behind += 1.4 * body.shape[1]


def draw_crossing(
    rng: Generator, cutouts: dict[str, Picture], number: int, start_s: float, size: tuple[int, int]
) -> Crossing:
    """Draw who crosses, and how; the heights take turns."""
    label = str(rng.choice(sorted(cutouts)))
    height_px = rng.uniform(*HEIGHTS_PX[number % len(HEIGHTS_PX)])
    count = int(rng.integers(2, 5)) if rng.random() < HERD_CHANCE else 1
    to_right = rng.random() < 0.5
    heights = height_px * rng.uniform(0.85, 1.0, count)
    bodies = tuple(resize_cutout(cutouts[label], float(h), mirrored=bool(to_right)) for h in heights)
    length = bodies[0].shape[1]
    least_px_s = size[0] / LONGEST_S
    speed = max(least_px_s, length * rng.uniform(*BODIES_A_SECOND))
    lowest = size[1] * 0.97
    highest = min(lowest, max(size[1] * 0.45, height_px * 1.1))
    first_y = rng.uniform(highest, lowest)
    return Crossing(
        name=f"{label}-{number + 1}",
        label=label,
        bodies=bodies,
        start_s=start_s,
        foot_y=(first_y, float(np.clip(first_y + rng.normal(0, 0.08) * size[1], highest, lowest))),
        speed_px_s=speed if to_right else -speed,
        pause_s=rng.uniform(1, 3) if rng.random() < PAUSE_CHANCE else 0.0,
        hidden_px=rng.uniform(0.1, 0.4) * size[0] if rng.random() < HIDDEN_CHANCE else 0.0,
    )


class Stage:
    """A recording, played over and over, and what moves in it by itself."""

    def __init__(self, path: Path) -> None:
        frames = list(clip_frames(path, every=1))
        self.frames = frames[: int(60 * FPS)]
        self.size = (frames[0].shape[1], frames[0].shape[0])
        self._usual = np.median(np.stack(frames[:: max(1, len(frames) // 25)]), axis=0).astype(np.uint8)

    def at(self, index: int) -> Picture:
        """Return a frame; played there and back, so that nothing jumps."""
        index %= 2 * len(self.frames)
        return self.frames[index if index < len(self.frames) else 2 * len(self.frames) - 1 - index]

    def before(self, frame: Picture, foot_y: int) -> NDArray[np.bool_]:
        """Return which pixels show something that moves nearer to the camera than feet at that row."""
        moved = (cv2.absdiff(frame, self._usual).max(axis=2) > MOVED_GREY).astype(np.uint8)
        moved = cv2.morphologyEx(moved, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
        moved = cv2.morphologyEx(moved, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        _, parts, stats, _ = cv2.connectedComponentsWithStats(moved)
        nearer = stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT] > foot_y
        nearer[0] = False  # what does not move
        return nearer[parts]


def play(
    stage: Stage, crossing: Crossing, frame: Picture, time_s: float
) -> tuple[Picture, tuple[int, int, int, int] | None, float]:
    """Return the frame with the animals in it, the box around what is seen of them, and the share that is seen."""
    width, height = stage.size
    curtain = np.zeros((height, width), bool)
    if crossing.hidden_px:
        edge = round(crossing.hidden_px)
        curtain[:, :edge] = crossing.speed_px_s > 0
        curtain[:, width - edge :] |= crossing.speed_px_s < 0
    scene, boxes, seen, whole = frame, [], 0.0, 0.0
    for body, x, y in crossing.places(time_s, width):
        box, share = box_inside(x, y, body, stage.size)
        whole += 1.0
        if share <= 0:
            continue
        hidden = curtain | stage.before(frame, y + body.shape[0])
        drawn = paste_cutout(add_shadow(scene, x, y, body), body, x, y, gain=0.85, offset=-6)
        scene = np.where(hidden[:, :, None], scene, drawn)
        bx, by, bw, bh = box
        share *= 1 - float(hidden[by : by + bh, bx : bx + bw].mean())
        seen += share
        if share >= MIN_SHARE:
            boxes.append((bx, by, bx + bw, by + bh))
    if not boxes:
        return scene, None, 0.0
    x1, y1, x2, y2 = np.array(boxes)[:, :2].min(axis=0).tolist() + np.array(boxes)[:, 2:].max(axis=0).tolist()
    return scene, (x1, y1, x2 - x1, y2 - y1), max(seen / whole, seen if len(crossing.bodies) > 1 else 0.0)


def make(stage: Stage, cutouts: dict[str, Picture], condition: Condition, out: Path, rng: Generator) -> None:
    """Write one clip and its truth."""
    crossings, start_s = [], LEAD_S
    for number in range(CROSSINGS):
        crossing = draw_crossing(rng, cutouts, number, start_s, stage.size)
        crossings.append(crossing)
        start_s += crossing.seconds(stage.size[0]) + PAUSE_BETWEEN_S
    shown = condition.begin(rng, stage.size)
    boxes: Rows = {}
    visible_s: dict[str, float] = {}
    writer = ClipWriter(out, stage.size, FPS, crf=condition.crf)
    for index in range(round(start_s * FPS)):
        time_s, frame = index / FPS, stage.at(index)
        for crossing in crossings:
            if crossing.start_s <= time_s < crossing.start_s + crossing.seconds(stage.size[0]):
                frame, box, share = play(stage, crossing, frame, time_s)
                if box is not None:
                    boxes.setdefault(crossing.name, []).append([index, *box])
                if share >= VISIBLE_SHARE:
                    visible_s.setdefault(crossing.name, time_s)
        writer.write(shown(frame, index))
    writer.close()
    seen = {name: boxes[name] for name in visible_s}
    labels = {crossing.name: crossing.label for crossing in crossings}
    about = {"light": condition.light, "weather": condition.weather, "synthetic": True}
    write_truth(out, stage.size, FPS, seen, visible_s, labels, **about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with clips/ and stamps/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=sorted(CONDITIONS), action="append", help="conditions; default all")
    parser.add_argument("--first", type=int, default=FIRST, help="number of the first clip")
    parser.add_argument("--scenes", type=int, help="clips of each condition; default 8 of day, night and rain, else 4")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cutouts = land_cutouts(options.data)
    counts = {name: options.scenes or (SCENES_OF_GOALS if name in GOALS else SCENES) for name in CONDITIONS}
    for number in range(max(counts.values())):
        stage = Stage(options.data / "clips" / ROADS[(options.first - 1 + number) % len(ROADS)])
        for name in options.only or CONDITIONS:
            out = options.out / f"{name}-{options.first + number:02}.mp4"
            if number >= counts[name] or out.with_suffix(".json").exists():  # a killed run goes on
                continue
            rng = np.random.default_rng((SEED, options.first - 1 + number))  # the same walks in every condition
            make(stage, cutouts, CONDITIONS[name], out, rng)
            print(out, flush=True)


if __name__ == "__main__":
    main()
