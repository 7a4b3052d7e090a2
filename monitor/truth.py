"""Truth files: which animals a recording shows, when and where; read, and written by an operator's labels.

One lies beside its recording, under the same name: `morning.mp4`, `morning.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapters.errors import InputError
from adapters.files import write_whole

Seconds = Annotated[float, Field(ge=0, le=10_000_000)]
Pixels = Annotated[float, Field(ge=-100_000, le=100_000)]
Side = Annotated[float, Field(gt=0, le=100_000)]
TrueBox = Annotated[tuple[Annotated[int, Field(ge=0)], Pixels, Pixels, Side, Side], Field(strict=False)]


class TrueEvent(BaseModel):
    """One animal's visit, from a truth file."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, allow_inf_nan=False, strict=True)

    id: str | int
    label: str = Field(alias="class", min_length=1)
    start_s: Seconds
    end_s: Seconds
    visible_s: Seconds
    boxes: list[TrueBox] = Field(min_length=1)

    @property
    def height_px(self) -> float:
        """Median height of its boxes."""
        return median(box[4] for box in self.boxes)

    @model_validator(mode="after")
    def _times_follow_one_another(self) -> TrueEvent:
        if not self.start_s <= self.visible_s <= self.end_s:
            raise ValueError(f"event {self.id!r}: start_s <= visible_s <= end_s does not hold")
        return self


class Truth(BaseModel):
    """A truth file: which animals a clip shows, when and where.

    Attributes:
        light, weather, synthetic: what the figures of a report are told apart by; not told where a file does not say.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=True)

    clip: str
    fps: float = Field(gt=0, le=1000)
    size: Annotated[tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]], Field(strict=False)]
    events: list[TrueEvent]
    light: str | None = Field(default=None, max_length=40)
    weather: str | None = Field(default=None, max_length=40)
    synthetic: bool | None = None

    @model_validator(mode="after")
    def _ids_differ(self) -> Truth:
        ids = [event.id for event in self.events]
        if len(set(ids)) != len(ids):
            raise ValueError("the events' ids must differ")
        return self


def read_truth(path: Path) -> Truth:
    """Return a checked truth file.

    Raises:
        InputError: it is missing, no JSON, or of another shape.
    """
    try:
        return Truth.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: the truth file can't be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(f"{path}: not a truth file: {where}: {first['msg']}") from None


@dataclass(frozen=True)
class Look:
    """Where an operator saw an animal: the frame of the recording, its time in seconds, x, y, w, h in pixels."""

    frame: int
    time_s: float
    box: tuple[float, float, float, float]


def truth_of(clip: Path) -> Path:
    """Return where the truth of a recording lies."""
    return clip.with_suffix(".json")


def note_visit(clip: Path, fps: float, size: tuple[int, int], label: str, looks: Sequence[Look]) -> int:
    """Add an animal's visit to the truth of a recording, and return how many it has.

    Args:
        clip: the recording.
        fps: frames a second that it says it has.
        size: (width, height) in pixels.
        label: the animal's class.
        looks: of this visit, the first and the last at least; with none at all, it is said that no animal is seen.

    Raises:
        InputError: one look alone, no box at all where visits are noted, a box that is none, or a truth file that can't
            be read or written.
    """
    path = truth_of(clip)
    known = read_truth(path) if path.exists() else Truth(clip=clip.name, fps=fps, size=size, events=[])
    if not looks and known.events:
        raise InputError(f"{path.name} has {len(known.events)} visits; remove the file where they are wrong")
    visits = [*known.events, _visit(label, looks, known)] if looks else []
    _write(path, known.model_copy(update={"events": visits}))
    return len(visits)


def _visit(label: str, looks: Sequence[Look], known: Truth) -> TrueEvent:
    ordered = sorted(looks, key=lambda look: look.frame)
    if ordered[0].frame == ordered[-1].frame:
        raise InputError("a visit needs a box on the first picture that shows the animal, and on the last")
    taken = {str(event.id) for event in known.events}
    number = next(n for n in range(1, len(taken) + 2) if f"{label}-{n}" not in taken)
    first_s, last_s = ordered[0].time_s, ordered[-1].time_s
    times = {"start_s": first_s, "visible_s": first_s, "end_s": last_s}
    boxes = [(look.frame, *look.box) for look in ordered]
    try:
        return TrueEvent.model_validate({"id": f"{label}-{number}", "class": label, **times, "boxes": boxes})
    except ValidationError as error:
        raise InputError(f"no visit: {error.errors(include_url=False)[0]['msg']}") from None


def _write(path: Path, truth: Truth) -> None:
    try:
        write_whole(path, (truth.model_dump_json(by_alias=True, exclude_none=True, indent=1) + "\n").encode())
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror})") from None
