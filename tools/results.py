"""Judge the product on the real clips and on synthetic crossings, and write docs/results.md.

    python tools/scenes.py --data ../shared/data --out out/scenes
    python tools/results.py --data ../shared/data --scenes out/scenes --out docs/results.md

Runs `wildlane replay --json` on each clip, four minutes of film a minute on two cores; what was judged with the same
program, model and clip is not judged again. Needs the ffmpeg program.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import cv2
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from scenes import HEIGHTS_PX, ROADS, SEED
from weather import CONDITIONS

from adapters.runtime import MODELS
from adapters.training.pictures import ROAD_CLIPS, clip_frames, frame_rate
from monitor import VERSION
from monitor.report import Rate, Share

ROOT = Path(__file__).parents[1]
CLEAR_PX, MOST_PX = 40, 200
GOALS = {  # light, weather, heights in pixels
    ("day", "dry", CLEAR_PX, MOST_PX): 0.95,
    ("infra-red", "dry", CLEAR_PX, MOST_PX): 0.85,
    ("day", "rain", CLEAR_PX, MOST_PX): 0.85,
    ("day", "dry", 20, CLEAR_PX): 0.70,
}


@dataclass(frozen=True)
class Lesson:
    """Five frames of a real clip with animals, which are taught, and from when on the clip is then replayed.

    Attributes:
        clip, label: the file, and what is taught.
        attributes: options of `wildlane teach`.
        frames: number of each, and the box around the animal, drawn by eye.
        rest_s: the replay begins here, after the last of them.
    """

    clip: str
    label: str
    attributes: tuple[str, ...]
    frames: tuple[tuple[int, str], ...]
    rest_s: float


LESSONS = (
    Lesson(
        "cameratrap_chimp_zamba.mp4",
        "chimpanzee",
        ("--size", "large", "--origin", "wild"),
        ((50, "32,17,98,130"), (90, "237,19,80,117"), (90, "53,57,40,46"), (130, "54,56,38,51"), (170, "102,53,46,34")),
        7.0,
    ),
    Lesson(
        "animal_cows_sanskar.mp4",
        "cow",
        ("--size", "large", "--origin", "domestic"),
        (
            (10, "86,174,163,114"),
            (10, "495,189,145,139"),
            (100, "101,174,174,114"),
            (280, "98,172,128,123"),
            (370, "430,188,183,148"),
        ),
        15.0,
    ),
)


@dataclass(frozen=True)
class Visit:
    """A true event of a scene, and after how many seconds it was found; None where it was not."""

    light: str
    weather: str
    height_px: float
    seconds: float | None

    @property
    def band(self) -> tuple[int, int]:
        """The bounds of its height, in pixels."""
        return next((band for band in HEIGHTS_PX if self.height_px < band[1]), HEIGHTS_PX[-1])

    @property
    def plain(self) -> bool:
        """Whether nothing makes it hard."""
        return (self.light, self.weather) == ("day", "dry")


def program_hash() -> str:
    """Return a hash of everything that a replay's answer depends on beside its clip."""
    digest = hashlib.sha256((MODELS / "manifest.json").read_bytes())
    for path in sorted([*ROOT.glob("monitor/**/*.py"), *ROOT.glob("adapters/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def wildlane(*arguments: str) -> str:
    """Run a verb and return what it prints."""
    command = [sys.executable, "-m", "monitor", *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT).stdout  # noqa: S603


def replay(clip: Path, truth: Path | None, cache: Path) -> dict[str, Any]:
    """Return what `wildlane replay --json` says of a clip, from the cache where it has said so before."""
    kept = cache / f"{program_hash()}-{clip.stem}.json"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        known = ["--truth", str(truth)] if truth else []
        kept.write_text(wildlane("replay", str(clip), "--json", "--state", str(cache / "state"), *known))
        print(clip.name, flush=True)
    answer: dict[str, Any] = json.loads(kept.read_text())
    return answer


def taught(lesson: Lesson, clips: Path, cache: Path) -> dict[str, Any]:
    """Teach five frames of a clip to a site that knows nothing else, and return what a replay of its rest says."""
    kept = cache / f"{program_hash()}-taught-{lesson.label}.json"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder)
            boxes = [part for _, box in lesson.frames for part in ("--box", box)]
            images = [str(write_frame(clips / lesson.clip, number, at)) for number, _ in lesson.frames]
            wildlane("teach", "--class", lesson.label, *lesson.attributes, *boxes, *images, "--state", folder)
            cut = ["ffmpeg", "-v", "error", "-ss", str(lesson.rest_s), "-i", str(clips / lesson.clip), "-crf", "17"]
            subprocess.run([*cut, str(at / "rest.mp4")], check=True)  # noqa: S603
            told = wildlane("replay", str(at / "rest.mp4"), "--json", "--state", folder, "--classes", lesson.label)
        kept.write_text(told)
    answer: dict[str, Any] = json.loads(kept.read_text())
    return answer


def write_frame(clip: Path, number: int, folder: Path) -> Path:
    """Write a frame of a clip as a picture, and return where."""
    frame = next(islice(clip_frames(clip, every=1), number, None))
    path = folder / f"{number}.png"
    cv2.imwrite(str(path), frame)
    return path


def visits_of(truth: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[Visit]:
    """Yield the events of a scene; the times to alert stand in the order of the events that were found."""
    judged = answer["truth"]
    times = iter(judged["time_to_alert_s"])
    for event in truth["events"]:
        height = median(box[4] for box in event["boxes"])
        found = event["id"] not in judged["missed"]
        yield Visit(truth["light"], truth["weather"], height, next(times) if found else None)


def film_s(answer: Mapping[str, Any], clip: Path) -> float:
    """Return how long the film is that a replay has analysed; the answer's own `fps` is the replay's speed."""
    return float(answer["frames"] / frame_rate(clip))


def lesson_row(lesson: Lesson, answer: Mapping[str, Any], clips: Path) -> list[str]:
    """Return clip, what was taught, the film replayed, the situations and how many of them have the name, the first."""
    situations = answer["situations"]
    named = sum(situation["class"] == lesson.label for situation in situations)
    first = f"{situations[0]['start_s']:.1f} s" if situations else "-"
    seconds = film_s(answer, clips / lesson.clip)
    return [lesson.clip, lesson.label, f"{seconds:.0f} s", str(len(situations)), str(named), first]


def share_of(visits: Sequence[Visit]) -> Share:
    return Share(sum(visit.seconds is not None for visit in visits), len(visits))


def told(share: Share) -> str:
    """Return a share with its count and its interval."""
    if not share.of:
        return "-"
    percent = 100 * share.hits / share.of
    return f"{percent:.0f} % ({share.hits} of {share.of}; {100 * share.low:.0f} to {100 * share.high:.0f})"


def goals(visits: Sequence[Visit]) -> Iterator[tuple[str, str]]:
    """Yield what issue and README promise of synthetic crossings, and what was reached."""
    for (light, weather, low, high), goal in GOALS.items():
        mine = [v for v in visits if (v.light, v.weather) == (light, weather) and low <= v.height_px < high]
        yield f"{light}, {weather}, {low} to {high} px: at least {100 * goal:.0f} % found", told(share_of(mine))
    times = [v.seconds for v in visits if v.seconds is not None and v.plain and v.height_px >= CLEAR_PX]
    if times:
        yield (
            "day, dry, 40 px and more: median from visible to alert at most 1 s",
            f"{median(times):.1f} s of {len(times)}",
        )


def rows(visits: Sequence[Visit], alarms: Mapping[str, Rate]) -> Iterator[list[str]]:
    """Yield a row for each condition: shares found by height, and false situations."""
    for condition in CONDITIONS.values():
        about = (condition.light, condition.weather)
        mine = [v for v in visits if (v.light, v.weather) == about]
        if mine:
            rate = alarms[", ".join(about)]
            by_height = [told(share_of([v for v in mine if v.band == band])) for band in HEIGHTS_PX]
            yield [*about, *by_height, f"{rate.count} in {60 * rate.hours:.0f} min"]


def judged_scenes(scenes: Path, cache: Path) -> tuple[list[Visit], dict[str, Rate]]:
    """Replay every scene; return its events, and the false situations by condition."""
    visits: list[Visit] = []
    alarms: dict[str, Rate] = {}
    for path in sorted(scenes.glob("*.json")):
        truth = json.loads(path.read_text())
        answer = replay(path.with_suffix(".mp4"), path, cache)
        visits += visits_of(truth, answer)
        about = f"{truth['light']}, {truth['weather']}"
        before = alarms.get(about, Rate(0, 0.0))
        hours = film_s(answer, path.with_suffix(".mp4")) / 3600
        alarms[about] = Rate(before.count + len(answer["truth"]["false"]), before.hours + hours)
    return visits, alarms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with clips/")
    parser.add_argument("--scenes", type=Path, required=True, help="what tools/scenes.py made")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    clips, cache = options.data / "clips", options.scenes / "judged"
    real = []
    for name in ROAD_CLIPS:
        answer = replay(clips / name, None, cache)
        real.append((name, film_s(answer, clips / name) / 60, len(answer["situations"])))
    alarms = sum(count for _, _, count in real)
    lessons = [lesson_row(lesson, taught(lesson, clips, cache), clips) for lesson in LESSONS]
    visits, false = judged_scenes(options.scenes, cache)
    facts = {
        "version": VERSION,
        "program": program_hash(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seed": SEED,
        "alarms": alarms,
        "rate": Rate(alarms, sum(minutes for _, minutes, _ in real) / 60),
        "real": real,
        "lessons": lessons,
        "roads": len(ROADS),
        "goals": list(goals(visits)),
        "bands": HEIGHTS_PX,
        "conditions": list(rows(visits, false)),
    }
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined)  # noqa: S701  # Markdown
    options.out.write_text(environment.get_template("results.md.jinja").render(facts))


if __name__ == "__main__":
    main()
