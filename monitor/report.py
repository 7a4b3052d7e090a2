"""A replay judged as a road agency would: animals found, false alarms, seconds to the alert; one page, for people.

References:
    Clopper and Pearson 1934, https://doi.org/10.1093/biomet/26.4.404 (interval of a share)
    Garwood 1936, https://doi.org/10.1093/biomet/28.3-4.437 (interval of a Poisson rate)
"""

from __future__ import annotations

import base64
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from scipy.stats import beta, chi2

from adapters.errors import InputError
from monitor import VERSION
from monitor.cameras.health import SEES_NOTHING
from monitor.drawing import ALERT, ANIMAL
from monitor.pipeline import Outcome
from monitor.policy import Phase
from monitor.replay import Episode, Replayed, judge, meetings
from monitor.truth import TrueEvent, Truth
from monitor.values import Box, Frame

PICTURE_PX = 480  # width
JPEG_QUALITY = 80
HEIGHTS_PX = (20, 40, 80)  # bounds of the classes that animals are told apart by
MOST_EXPECTED_OF_NONE = 3.0  # events in an exposure without any, at 95 %: "rule of three"


@dataclass
class Album:
    """A clip, what was found in it, its truth where there is one, and a picture of whatever may need one."""

    truth: Truth | None
    replayed: Replayed | None = None
    at_start: list[str] = field(default_factory=list)  # of each situation, in order; data URIs
    of_event: dict[str | int, str] = field(default_factory=dict)
    blind: int = 0  # analysed frames that show nothing: black, frozen, covered

    def watch(self, frame: Frame, outcome: Outcome) -> None:
        """Take in an analysed frame; give it to `replay`."""
        self.blind += frame.fault in SEES_NOTHING
        for situation in outcome.told:
            if situation.phase is Phase.START:
                self.at_start.append(_picture(frame, situation.newest.box, ALERT))
        if self.truth is None:
            return
        for event in self.truth.events:
            index, *region = event.boxes[len(event.boxes) // 2]
            if event.id not in self.of_event and frame.index >= index:
                x, y, w, h = region
                self.of_event[event.id] = _picture(frame, Box(x, y, x + w, y + h), ANIMAL)


def _picture(frame: Frame, box: Box, colour: tuple[int, int, int]) -> str:
    """Return a data URI of the frame, made small, with a box."""
    scale = min(1.0, PICTURE_PX / frame.size[0])
    small: NDArray[np.uint8] = np.ascontiguousarray(cv2.resize(frame.image, None, fx=scale, fy=scale), np.uint8)
    x1, y1, x2, y2 = (round(value * scale) for value in box)
    cv2.rectangle(small, (x1 - 2, y1 - 2), (x2 + 2, y2 + 2), colour, 2)
    _, coded = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    return "data:image/jpeg;base64," + base64.b64encode(coded.tobytes()).decode()


@dataclass(frozen=True)
class Share:
    """So many of so many, with the exact 95 % interval."""

    hits: int
    of: int

    @property
    def low(self) -> float:
        """Lower bound, 0 to 1."""
        return float(beta.ppf(0.025, self.hits, self.of - self.hits + 1)) if self.hits else 0.0

    @property
    def high(self) -> float:
        """Upper bound, 0 to 1."""
        return float(beta.ppf(0.975, self.hits + 1, self.of - self.hits)) if self.hits < self.of else 1.0


@dataclass(frozen=True)
class Rate:
    """So many in so many hours, with the exact 95 % interval a camera-hour."""

    count: int
    hours: float

    @property
    def low(self) -> float:
        """Lower bound, an hour."""
        return float(chi2.ppf(0.025, 2 * self.count)) / 2 / self.hours if self.count else 0.0

    @property
    def high(self) -> float:
        """Upper bound, an hour; of none in an exposure no rate below 3 / exposure is claimed."""
        return max(MOST_EXPECTED_OF_NONE, float(chi2.ppf(0.975, 2 * self.count + 2)) / 2) / self.hours


@dataclass(frozen=True)
class Judged:
    """What some clips say together of the product, for one line of a table.

    Attributes:
        name: of a camera, or of all.
        hours: of film.
        blind: share of the analysed frames that show nothing.
        found: animals' visits that alerted; named: of those, the ones that were called what they are.
        rate: of false situations; None without any film.
        delays_s: from visible to the alert, in order.
    """

    name: str
    recordings: int
    hours: float
    blind: Share
    found: Share
    named: Share
    rate: Rate | None
    delays_s: tuple[float, ...]

    @property
    def median_s(self) -> float | None:
        """Median time from visible to the alert; None where nothing was found."""
        return median(self.delays_s) if self.delays_s else None

    def answer(self) -> dict[str, Any]:
        """Return it for programs."""
        shares = {"found": self.found, "named": self.named, "blind": self.blind}
        return {
            "camera": self.name,
            "recordings": self.recordings,
            "hours": round(self.hours, 4),
            **{
                name: [share.hits, share.of, round(share.low, 4), round(share.high, 4)]
                for name, share in shares.items()
            },
            "false": [self.rate.count, round(self.rate.low, 4), round(self.rate.high, 4)] if self.rate else None,
            "seconds_to_alert": [round(value, 3) for value in self.delays_s],
        }


def judged(name: str, albums: Sequence[Album]) -> Judged:
    """Return what the clips with a truth say together."""
    albums = [album for album in albums if album.truth is not None and album.replayed is not None]
    told = list(visits(albums))
    delays = sorted(visit.seconds for visit in told if visit.seconds is not None)
    hours = sum(_hours(album.replayed) for album in albums if album.replayed)
    return Judged(
        name=name,
        recordings=len(albums),
        hours=hours,
        blind=Share(sum(a.blind for a in albums), sum(a.replayed.analysed for a in albums if a.replayed)),
        found=Share(len(delays), len(told)),
        named=Share(sum(visit.named for visit in told), len(delays)),
        rate=Rate(sum(len(_false(album)) for album in albums), hours) if hours else None,
        delays_s=tuple(delays),
    )


def _false(album: Album) -> list[int]:
    """Return which situations of a clip meet no event of its truth."""
    assert album.truth is not None and album.replayed is not None  # noqa: PT018  # whoever asks has seen to both
    return judge(list(album.replayed.episodes.values()), album.truth).false


@dataclass(frozen=True)
class Visit:
    """A true event, and how it went."""

    clip: str
    event: TrueEvent
    truth: Truth
    seconds: float | None  # from visible to the alert; None where it was missed
    named: bool  # a situation of its own class met it
    picture: str | None

    @property
    def height(self) -> str:
        """The class of its height."""
        bounds = (0, *HEIGHTS_PX)
        at = sum(self.event.height_px >= bound for bound in HEIGHTS_PX)
        return f"{bounds[at]} to {HEIGHTS_PX[at]} px" if at < len(HEIGHTS_PX) else f"{HEIGHTS_PX[-1]} px and more"


def visits(albums: Sequence[Album]) -> Iterator[Visit]:
    """Yield every true event of the clips."""
    for album in albums:
        if album.truth is None or album.replayed is None:
            continue
        episodes = list(album.replayed.episodes.values())
        for event, met in zip(album.truth.events, meetings(episodes, album.truth), strict=True):
            yield Visit(
                clip=album.replayed.clip.name,
                event=event,
                truth=album.truth,
                seconds=min(episodes[i].start_s for i in met) - event.visible_s if met else None,
                named=any(episodes[i].label == event.label for i in met),
                picture=album.of_event.get(event.id),
            )


def strata(found: Sequence[Visit]) -> list[tuple[str, str, Share]]:
    """Return (what, which, share found) by height, light, weather and origin; what no truth file says is left out."""
    kinds = {"real": False, "synthetic": True}
    told = [("height", visit.height, visit) for visit in found]
    told += [("light", visit.truth.light, visit) for visit in found if visit.truth.light]
    told += [("weather", visit.truth.weather, visit) for visit in found if visit.truth.weather]
    told += [(
        "origin", name, visit) for visit in found for name, flag in kinds.items() if visit.truth.synthetic is flag
    ]  # fmt: skip
    groups: dict[tuple[str, str], list[Visit]] = {}
    for what, which, visit in told:
        groups.setdefault((what, which), []).append(visit)
    return [(*key, Share(sum(v.seconds is not None for v in group), len(group))) for key, group in groups.items()]


def write_report(
    path: Path, albums: Sequence[Album], *, title: str = "Replay report", cameras: Sequence[Judged] = ()
) -> Path:
    """Write the page, with nothing in it that must be fetched, and return its path.

    Args:
        path: of the page.
        albums: what was replayed.
        title: of the page.
        cameras: a line for each, where the page is a site's.

    Raises:
        InputError: it can't be written.
    """
    whole, told = judged("all", albums), list(visits(albums))
    replays = [(album, album.replayed) for album in albums if album.replayed is not None]
    facts = {
        "title": title,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "software": f"Wildlane {VERSION}, Python {platform.python_version()}, {platform.machine()}",
        "whole": whole,
        "cameras": [*cameras, whole] if cameras else [],
        "visits": told,
        "alarms": [
            (replayed.clip.name, list(replayed.episodes.values())[index], album.at_start[index])
            for album, replayed in replays
            if album.truth is not None
            for index in _false(album)
        ],
        "strata": strata(told),
        "clips": [(replayed, album.truth, _hours(replayed) * 3600, _lanes(replayed)) for album, replayed in replays],
    }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(environment.get_template("report.html").render(facts))
    except OSError as error:
        raise InputError(f"{path}: the report can't be written ({error.strerror})") from None
    return path


def _hours(replayed: Replayed) -> float:
    return replayed.frames / replayed.fps / 3600 if replayed.fps else 0.0


def _lanes(replayed: Replayed) -> list[tuple[Episode, int]]:
    """Return the situations, each on the first lane of the time line that is free when it begins."""
    ends: list[float] = []
    placed = []
    for episode in replayed.episodes.values():
        lane = next((i for i, end_s in enumerate(ends) if end_s <= episode.start_s), len(ends))
        ends[lane : lane + 1] = [episode.end_s]
        placed.append((episode, lane))
    return placed
