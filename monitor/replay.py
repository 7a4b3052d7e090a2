"""The live path on recordings: video time instead of wall time, back-pressure instead of dropping.

What it finds can be judged against a truth file.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adapters.classifier import UNKNOWN
from monitor.cameras.stream import Ended, Opened, Source, read_recording
from monitor.pipeline import Outcome, Pipeline
from monitor.policy import Phase, Situation
from monitor.truth import TrueEvent, Truth
from monitor.values import Box, Frame

SUFFIXES = frozenset(
    {".mp4", ".mkv", ".avi", ".mov", ".m4v", ".ts", ".webm"}
)  # of recordings, where a folder holds them


@dataclass
class Episode:
    """One situation of a replay, as it will be told in the answer."""

    label: str
    start_s: float
    end_s: float
    camera: str
    zone: str
    box: Box
    probability: float
    p_animal: float

    def answer(self) -> dict[str, Any]:
        """Return it as the contract words it."""
        x1, y1, x2, y2 = self.box
        rounded = {name: round(value, 3) for name, value in (("start_s", self.start_s), ("end_s", self.end_s))}
        return {
            "class": self.label,
            **rounded,
            "camera": self.camera,
            "zone": self.zone,
            "box": [round(value, 1) for value in (x1, y1, x2 - x1, y2 - y1)],
            "probability": round(self.probability, 4),
            "p_animal": round(self.p_animal, 4),
        }


@dataclass
class Replayed:
    """What a clip led to; `seconds` are those from the opened clip to its end."""

    clip: Path
    fps: float = 0.0
    size: tuple[int, int] = (0, 0)
    frames: int = 0
    analysed: int = 0
    seconds: float = 0.0
    crops: int = 0
    stage_s: dict[str, float] = field(default_factory=dict)
    episodes: dict[str, Episode] = field(default_factory=dict)

    def tell(self, situation: Situation) -> None:
        """Take in a situation version."""
        if situation.phase is Phase.START:
            self.episodes[situation.id] = Episode(
                label=situation.label,
                start_s=situation.decided_s,
                end_s=situation.decided_s,
                camera=situation.newest.camera,
                zone=situation.zone.id,
                box=situation.newest.box,
                probability=situation.best.probability,
                p_animal=situation.best.p_animal,
            )
        episode = self.episodes[situation.id]
        episode.label, episode.end_s = situation.label, situation.decided_s
        episode.probability, episode.p_animal = situation.best.probability, situation.best.p_animal

    def answer(self, truth: Truth | None = None) -> dict[str, Any]:
        """Return it as the contract words it; `truth` only where a truth file was given."""
        speed = self.frames / self.seconds if self.seconds else 0.0
        answer = {
            "clip": str(self.clip),
            "frames": self.frames,
            "analysed": self.analysed,
            "seconds": round(self.seconds, 3),
            "fps": round(speed, 1),
            "situations": [episode.answer() for episode in self.episodes.values()],
        }
        if truth is not None:
            answer["truth"] = asdict(judge(list(self.episodes.values()), truth))
        return answer


def slug(name: str) -> str:
    """Return a name that can be a camera: lower case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64].strip("-") or "clip"


def is_clip(path: Path) -> bool:
    """Tell whether a file is a recording, by its name."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def recording(clip: Path, analysis_rate_hz: float) -> Source:
    """Return a clip as the source of a camera that is named after it."""
    return Source(name=slug(clip.stem), url=str(clip), analysis_rate_hz=analysis_rate_hz)


def replay(
    source: Source,
    build: Callable[[str], Pipeline],
    *,
    watch: Callable[[Frame, Outcome], None] = lambda frame, outcome: None,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Replayed:
    """Run a recording through a fresh pipeline: every frame due is analysed, none is dropped.

    Args:
        source: the recording, as the camera whose name appears in the answers.
        build: makes the pipeline for a camera name.
        watch: called after each analysed frame, while its image is still valid.
        progress: called with the video time reached.

    Raises:
        CameraError: the clip can't be read to its end; nothing of it is answered.
    """
    pipeline, result, started = build(source.name), Replayed(Path(source.url)), time.monotonic()
    now_s = 0.0
    for event in read_recording(source):
        if isinstance(event, Opened):
            result.fps, result.size, started = event.fps, event.size, time.monotonic()
            continue
        if isinstance(event, Ended):
            result.frames, result.stage_s = event.frames, dict(event.stage_s)
            break
        now_s = event.time_s
        outcome = pipeline.process([event], now_s)
        result.analysed += 1
        for situation in outcome.told:
            result.tell(situation)
        watch(event, outcome)
        progress(now_s)
    for situation in pipeline.end_all("shutdown", now_s):
        result.tell(situation)
    result.seconds = time.monotonic() - started
    result.crops, result.stage_s = pipeline.crops, result.stage_s | pipeline.stages.seconds
    return result


@dataclass(frozen=True)
class Verdict:
    """How a replay compares with the truth.

    Attributes:
        events: animals' visits in the truth.
        found: how many of them a situation met.
        missed: ids of the others.
        false: indices of the situations that meet no event.
        time_to_alert_s: for each found event, seconds from visible to the start of the first situation that met it.
    """

    events: int
    found: int
    missed: list[str | int]
    false: list[int]
    time_to_alert_s: list[float]


def judge(episodes: list[Episode], truth: Truth) -> Verdict:
    """Compare situations with true events.

    An event is found when a situation of its class, or of an unknown animal, overlaps it in time, and its box at start.
    """
    met_by = meetings(episodes, truth)
    pairs = list(zip(truth.events, met_by, strict=True))
    missed = [event.id for event, met in pairs if not met]
    delays = [round(min(episodes[i].start_s for i in met) - event.visible_s, 3) for event, met in pairs if met]
    false = [i for i in range(len(episodes)) if not any(i in met for met in met_by)]
    return Verdict(len(truth.events), len(delays), missed, false, delays)


def meetings(episodes: list[Episode], truth: Truth) -> list[list[int]]:
    """Return for each true event the indices of the situations that meet it."""
    return [[i for i, episode in enumerate(episodes) if _meets(episode, event, truth.fps)] for event in truth.events]


def _meets(episode: Episode, event: TrueEvent, fps: float) -> bool:
    if episode.label not in (event.label, UNKNOWN) or episode.start_s > event.end_s or episode.end_s < event.start_s:
        return False
    frame = episode.start_s * fps
    _, x, y, w, h = min(event.boxes, key=lambda row: abs(row[0] - frame))
    return Box(x, y, x + w, y + h).overlap(episode.box) > 0
