"""Our tracker beside those of the library `trackers` at 3, 5 and 8 analysed frames a second.

    pip install trackers
    python benchmarks/tracking.py --data ../shared/data

Cut-outs of animals walk, stop and pass behind something over the recordings of real roads; all trackers get the same
moving boxes. `whole` is the share of its visible time in which an animal is followed by the one track that follows it
longest, `pieces` how many tracks it is in, `mixed` the share of a track's boxes that belong to something else, `µs` the
time of a frame.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from adapters.training.domains import paste_cutout, resize_cutout
from monitor.regions import MotionRegions
from monitor.tracking import LOST_AFTER_S, Tracker
from monitor.values import Box

CLIPS = (
    "intersection_crosswalk_borislavy.mp4",
    "road_bgslibrary_video.avi",
    "pedestrians_vtest_debian.avi",
    "street_parked_ckuhn517.mp4",
    "highway_bgslibrary_video02.avi",
)
RATES_HZ = (3.0, 5.0, 8.0)
ROUNDS, LONGEST_S = 3, 30.0
WARM_UP_S = 3.0  # while the background is learned nobody walks
SEED = 20261123
SAME = 0.3  # intersection over union from which a moving box is the animal

Follow = Callable[[Sequence[Box], float], Sequence[int]]  # boxes and seconds -> a track number a box, -1 for none


@dataclass(frozen=True)
class Walk:
    """A cut-out that crosses the picture, stops on its way, and is hidden for a moment."""

    body: NDArray[np.uint8]
    begin: tuple[float, float]
    finish: tuple[float, float]
    start_s: float
    walk_s: float
    stop_s: float
    hidden_s: tuple[float, float]

    def at(self, time_s: float) -> tuple[int, int] | None:
        """Return the upper left corner, None where nobody can see it."""
        since = time_s - self.start_s
        if not 0 <= since <= self.walk_s + self.stop_s or self.hidden_s[0] <= since <= self.hidden_s[1]:
            return None
        half = self.walk_s / 2
        share = min(since, max(half, since - self.stop_s)) / self.walk_s
        x, y = (a + share * (b - a) for a, b in zip(self.begin, self.finish, strict=True))
        return round(x), round(y)


def draw_walk(rng: Generator, stamps: Sequence[Path], size: tuple[int, int], length_s: float) -> Walk:
    """Return a walk of 4 to 9 s from one side to the other, at 0.3 to 2.5 of its own lengths a second and more."""
    width, height = size
    cutout = cv2.imread(str(stamps[rng.integers(len(stamps))]), cv2.IMREAD_UNCHANGED)
    tall = height * rng.uniform(0.07, 0.2)
    body = resize_cutout(np.asarray(cutout, np.uint8), tall, mirrored=bool(rng.integers(2)))
    walk_s, stop_s = rng.uniform(4, 9), rng.choice([0.0, 1.0])
    y1, y2 = rng.uniform(0.35, 0.95, 2) * height - tall
    ends = [(-body.shape[1] / 2, y1), (width - body.shape[1] / 2, y2)]
    first, last = ends if rng.integers(2) else ends[::-1]
    hidden = rng.uniform(0.2, 0.7) * walk_s
    start_s = rng.uniform(WARM_UP_S, max(WARM_UP_S, length_s - walk_s - stop_s))
    return Walk(body, first, last, start_s, walk_s, stop_s, (hidden, hidden + rng.uniform(0.4, 1.2)))


@dataclass
class Scene:
    """The moving boxes of a recording with animals in it, and where the animals are."""

    rate_hz: float
    times_s: list[float] = field(default_factory=list)
    moving: list[list[Box]] = field(default_factory=list)
    animals: list[dict[int, Box]] = field(default_factory=list)


def frames_at(clip: Path, rate_hz: float) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield seconds and picture of the frames that are due."""
    capture = cv2.VideoCapture(str(clip), cv2.CAP_FFMPEG)
    fps, index, due_s = capture.get(cv2.CAP_PROP_FPS) or 25.0, 0, 0.0
    while capture.grab() and index / fps <= LONGEST_S:
        if index / fps >= due_s - 0.5 / fps:
            due_s += 1 / rate_hz
            ok, image = capture.retrieve()
            if ok:
                yield index / fps, np.asarray(image, np.uint8)
        index += 1


def scene_of(clip: Path, rate_hz: float, walks: Sequence[Walk]) -> Scene:
    """Return what moves in a recording when the walks are pasted into it."""
    scene, motion = Scene(rate_hz), MotionRegions()
    for time_s, frame in frames_at(clip, rate_hz):
        image = frame
        animals: dict[int, Box] = {}
        for number, walk in enumerate(walks):
            if (corner := walk.at(time_s)) is not None:
                x, y = corner
                image = paste_cutout(image, walk.body, x, y)
                h, w = walk.body.shape[:2]
                animals[number] = Box(x, y, x + w, y + h).clipped((image.shape[1], image.shape[0]))
        scene.times_s.append(time_s)
        scene.moving.append(motion.find(image))
        scene.animals.append(animals)
    return scene


def ours(_: float) -> Follow:
    """Return our tracker."""
    tracker = Tracker()

    def follow(boxes: Sequence[Box], time_s: float) -> list[int]:
        tracker.advance(boxes, time_s)
        number_of = {track.box: track.number for track in tracker.tracks if track.last_seen_s == time_s}
        return [number_of.get(box, -1) for box in boxes]

    return follow


def theirs(name: str, **settings: object) -> Callable[[float], Follow]:
    """Return a maker of a tracker of the library."""

    def make(rate_hz: float) -> Follow:
        import supervision
        import trackers

        lost = round(30 * LOST_AFTER_S)  # the library counts it in frames of a thirtieth of a second
        tracker = getattr(trackers, name)(
            frame_rate=rate_hz, lost_track_buffer=lost, minimum_consecutive_frames=1, **settings
        )

        def follow(boxes: Sequence[Box], _: float) -> list[int]:
            xyxy = np.array(boxes, np.float32).reshape(-1, 4)
            found = tracker.update(supervision.Detections(xyxy=xyxy, confidence=np.ones(len(xyxy), np.float32)))
            number_of = {tuple(box): int(n) for box, n in zip(found.xyxy, found.tracker_id, strict=True)}
            return [number_of.get(tuple(box), -1) for box in xyxy]

        return follow

    return make


@dataclass
class Score:
    """What the walks of all scenes add up to."""

    whole: list[float] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)
    mixed: list[float] = field(default_factory=list)
    frame_s: list[float] = field(default_factory=list)


def judge(scene: Scene, follow: Follow, score: Score) -> None:
    """Run a tracker over a scene and add how it did."""
    followed: dict[int, Counter[int]] = {}
    boxes_of: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    for time_s, moving, animals in zip(scene.times_s, scene.moving, scene.animals, strict=True):
        started = time.perf_counter()
        numbers = follow(moving, time_s)
        score.frame_s.append(time.perf_counter() - started)
        boxes_of.update(number for number in numbers if number >= 0)
        for animal, place in animals.items():
            best = max(range(len(moving)), key=lambda i, place=place: moving[i].iou(place), default=None)
            if best is None or moving[best].iou(place) < SAME:
                continue
            seen[animal] += 1
            if numbers[best] >= 0:
                followed.setdefault(animal, Counter())[numbers[best]] += 1
    for animal, count in seen.items():
        tracks = followed.get(animal, Counter())
        number, longest = tracks.most_common(1)[0] if tracks else (-1, 0)
        score.whole.append(longest / count)
        score.pieces.append(len(tracks))
        score.mixed.append(1 - longest / boxes_of[number] if longest else 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with clips/ and stamps/")
    data = parser.parse_args().data
    stamps = sorted((data / "stamps").glob("*.png"))
    makers = {
        "wildlane": ours,
        "SORT": theirs("SORTTracker", minimum_iou_threshold=0.1),
        "ByteTrack": theirs("ByteTrackTracker", minimum_iou_threshold=0.1),
        "OC-SORT": theirs("OCSORTTracker", minimum_iou_threshold=0.1),
        "C-BIoU": theirs("CBIoUTracker"),
    }
    print("rate  tracker     whole  pieces  mixed     µs  animals")
    for rate_hz in RATES_HZ:
        rng = np.random.default_rng(SEED)
        scenes = []
        for clip in CLIPS:
            size = next(image.shape[1::-1] for _, image in frames_at(data / "clips" / clip, rate_hz))
            for _ in range(ROUNDS):
                walks = [draw_walk(rng, stamps, size, LONGEST_S / 2) for _ in range(3)]
                scenes.append(scene_of(data / "clips" / clip, rate_hz, walks))
        for name, make in makers.items():
            score = Score()
            for scene in scenes:
                judge(scene, make(rate_hz), score)
            print(
                f"{rate_hz:3.0f}   {name:10}  {np.mean(score.whole):.3f}   {np.mean(score.pieces):5.2f}  "
                f"{np.mean(score.mixed):.3f}  {1e6 * np.median(score.frame_s):5.0f}  {len(score.whole)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
