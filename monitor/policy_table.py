"""The road authority's table: which animal, where, when and in what light is to be ignored, watched or warned of.

A rule is the default of a class, taught or unknown, overlaid with the first line of the table that holds. So a line
says only what differs, and the order of the lines is the order in which they are asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from typing import Literal

from adapters.classifier import UNKNOWN
from monitor.values import Light, Sighting
from monitor.zones import Zone, zone_of

Action = Literal["ignore", "watch", "warn"]
Size = Literal["small", "large", "unknown"]
LOOK_AHEAD_S = 2.0  # an animal that would be on the road so soon is on its way to it
ROAD = frozenset({"carriageway", "crossing"})  # kinds of zones that vehicles use


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is done about an animal.

    Attributes:
        action: `ignore`, `watch` (for the console only) or `warn`.
        min_probability: of its label, 0 to 1.
        confirm_frames: looks at a track before it may alert.
        confirm_s: seconds a track must last before it may alert.
        hold_s: seconds a situation stays open after it was last seen.
        line: the name of the line of the table that says so; empty where none does.
    """

    action: Action
    min_probability: float
    confirm_frames: int
    confirm_s: float
    hold_s: float
    line: str = ""


@dataclass(frozen=True, kw_only=True)
class Hours:
    """A part of every day, on the site's own clock; one that ends before it begins spans midnight."""

    begin: time
    end: time

    def hold(self, now: time) -> bool:
        """Tell whether a time of day lies within."""
        if self.begin <= self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the table: it holds where everything that it names does; what is empty holds everywhere.

    Attributes:
        name: for the alert's `because`.
        classes: names, `unknown-animal` among them.
        sizes: `small`, `large` or `unknown`.
        zones: ids or kinds.
        light: of the picture.
        hours: of the day.
        towards_road: only for an animal that is on the road or, at its speed, will be within `LOOK_AHEAD_S`.
        then: what it changes, by the names of `Rule`'s attributes.
    """

    name: str
    classes: frozenset[str] = frozenset()
    sizes: frozenset[Size] = frozenset()
    zones: frozenset[str] = frozenset()
    light: frozenset[Light] = frozenset()
    hours: tuple[Hours, ...] = ()
    towards_road: bool = False
    then: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a decision depends on beside the sighting itself.

    Attributes:
        zone: where the animal stands.
        camera_zones: the zones of its camera.
        size: of the animal.
        time_of_day: on the site's own clock; None where there is none, as in a recording: no line with hours holds.
    """

    zone: Zone
    camera_zones: Sequence[Zone]
    size: Size
    time_of_day: time | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """The whole table: the defaults of taught classes and of the unknown animal, and the lines."""

    taught: Rule
    unknown_animal: Rule
    lines: tuple[Line, ...] = ()

    def rule(self, sighting: Sighting, around: Circumstances) -> Rule:
        """Return what is to be done about a sighting."""
        default = self.unknown_animal if sighting.label == UNKNOWN else self.taught
        line = next((line for line in self.lines if _holds(line, sighting, around)), None)
        if line is None:
            return default
        return Rule(**{**vars(default), **line.then, "line": line.name})


def _holds(line: Line, sighting: Sighting, around: Circumstances) -> bool:
    now = around.time_of_day
    return (
        (not line.classes or sighting.label in line.classes)
        and (not line.sizes or around.size in line.sizes)
        and (not line.zones or not line.zones.isdisjoint({around.zone.id, around.zone.kind}))
        and (not line.light or sighting.light in line.light)
        and (not line.hours or (now is not None and any(hours.hold(now) for hours in line.hours)))
        and (not line.towards_road or moves_towards_road(sighting, around.camera_zones))
    )


def moves_towards_road(sighting: Sighting, zones: Sequence[Zone]) -> bool:
    """Tell whether an animal is on the road, or will be within `LOOK_AHEAD_S` if it goes on as it does."""
    dx, dy = (LOOK_AHEAD_S * speed for speed in sighting.velocity_px_s)
    box = sighting.box
    ahead = type(box)(box.x1 + dx, box.y1 + dy, box.x2 + dx, box.y2 + dy)
    return any(zone is not None and zone.kind in ROAD for zone in (zone_of(box, zones), zone_of(ahead, zones)))
