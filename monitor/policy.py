"""Task planning: from N(x) over a track, place and time to what traffic control is told.

A situation is one danger in one zone. It starts when a track is confirmed, is updated while it lasts, is held for a
while after the animal was last seen, and ends exactly once. Time is an argument; nothing here reads a clock.
"""

from __future__ import annotations

import datetime
import math
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

from adapters.classifier import NONE, UNKNOWN
from monitor.places import Place, Position, size_of
from monitor.policy_table import Circumstances, Rule, Size, Table
from monitor.tracking import TRAVELLED
from monitor.values import Box, Sighting
from monitor.zones import Zone, zone_of

EndReason = Literal["left", "timeout", "merged", "false-alarm", "camera-lost", "shutdown", "restart"]
PROBABILITY_STEP = 0.2  # a change of probability worth an update
MAX_ASPECT = 4.0  # longer to shorter side; no animal is so thin, but a lane marking and a pole are
LEAST_CUT = 2 / 3  # of `min_side_px` that the shorter side needs where the border cuts the box: a sliver is no animal
REACH = 2.5  # sizes around an open situation in which another track is the same animal or its herd
REACH_GROWTH_PER_S = 1.0  # sizes a second that an animal may move while unseen
DISMISSED_S = 600.0  # how long a track that a person has seen to be none starts nothing
REHEARSAL_S = 10.0  # how long a test stays open
HERD_M = 10.0  # on the ground, between animals that two cameras see, to be one herd
RUN_MPS = 5.0  # how fast an animal may go on between one camera's sighting and the other's
REACH_OF_THE_GONE = 1.0  # sizes around an animal that was last seen leaving the picture: the next one is another


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The policy table, and what holds for all its lines.

    Attributes:
        table: what is to be done about which animal.
        standing_s: seconds before an alert of what has not moved from its place: scenery can look like an animal, but
            for ever.
        standing_probability: the least probability of such a track.
        min_side_px: the longer side of a box must have so many pixels; smaller ones hold no shape.
        update_s: seconds between updates of a situation that does not change.
    """

    table: Table
    standing_s: float
    standing_probability: float
    min_side_px: float
    update_s: float


class Phase(Enum):
    """Where a situation is in its life."""

    START = "start"
    UPDATE = "update"
    END = "end"


@dataclass(frozen=True, kw_only=True)
class Situation:
    """One danger in one zone, as of its newest version.

    Attributes:
        id: UUID version 7, so that ids sort by time.
        version: 1 at the start, then counting.
        phase: which kind of message this version is.
        zone: where.
        cameras: which cameras saw it.
        label: a taught class or `unknown-animal`.
        best: the sighting with the highest probability so far; its weights are N(x).
        newest: the last sighting.
        first_seen_s, seen_s, decided_s: first and last sighting, and this decision, on the clock of the run.
        count: most animals seen at once so far.
        told_probability: the probability in the newest message; it may have risen since.
        hold_s: seconds it stays open after the animal was last seen.
        end_reason: why it ended, None while it lasts.
        confirmed_by: the person who has seen that it is one.
        rehearsal: no animal is there; somebody asked for a test.
        because: the decision in plain words.
    """

    id: str
    version: int
    phase: Phase
    zone: Zone
    cameras: tuple[str, ...]
    label: str
    best: Sighting
    newest: Sighting
    first_seen_s: float
    seen_s: float
    decided_s: float
    count: int
    told_probability: float
    hold_s: float
    end_reason: EndReason | None
    because: tuple[str, ...]
    confirmed_by: str | None = None
    rehearsal: bool = False


class Policy:
    """The open situations of a site."""

    def __init__(
        self,
        settings: Settings,
        zones: Mapping[str, Sequence[Zone]],
        *,
        places: Mapping[str, Place] | None = None,
        time_of_day: Callable[[], datetime.time | None] = lambda: None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        """Begin without a situation.

        Args:
            settings: the policy table.
            zones: the zones of each camera, by camera name.
            places: what each camera's pictures say of the ground, by camera name.
            time_of_day: on the site's own clock; None where lines with hours are not to hold.
            new_id: makes the id of a situation.
        """
        self._settings, self._zones, self._places = settings, zones, places or {}
        self._time_of_day, self._new_id = time_of_day, new_id or uuid7
        self.sizes: Mapping[str, Size] = {}  # of the taught classes; whoever changes the class set sets it
        self._open: dict[str, Situation] = {}
        self._members: dict[tuple[str, int], str] = {}  # (camera, track) -> situation
        self._member_seen_s: dict[tuple[str, int], float] = {}
        self._dismissed: dict[tuple[str, int], float] = {}  # tracks that a person has seen to be none -> when

    @property
    def open(self) -> tuple[Situation, ...]:
        """The situations that have started and not ended."""
        return tuple(self._open.values())

    def decide(
        self, sightings: Sequence[Sighting], now_s: float, *, blind: frozenset[str] = frozenset()
    ) -> list[Situation]:
        """Take in what was just seen and return the situation versions to be told, in order.

        `blind` cameras see nothing now.
        """
        seen = [sighting for sighting in sightings if sighting.camera not in blind]  # a frozen picture shows nobody
        told = [told for sighting in seen if (told := self._consider(sighting, now_s))]
        return told + self._end_unseen(now_s, blind) + self._renew_held(now_s)

    def end_all(self, reason: EndReason, now_s: float) -> list[Situation]:
        """End every open situation."""
        return [self._end(situation, reason, now_s) for situation in self.open]

    def change(
        self,
        settings: Settings,
        zones: Mapping[str, Sequence[Zone]],
        places: Mapping[str, Place],
        now_s: float,
    ) -> list[Situation]:
        """Go on with another table and other zones; situations in zones that are gone end."""
        self._settings, self._zones, self._places = settings, zones, places
        kept = {zone.id for drawn in zones.values() for zone in drawn}
        words = ("its zone is no longer configured",)
        gone = [s for s in self.open if s.zone.id not in kept]
        return [self._tell(s, Phase.END, now_s, because=words, reason="camera-lost") for s in gone]

    def forget_camera(self, camera: str) -> None:
        """Drop what is known of a camera's tracks: its next stream numbers them anew."""
        for track in [track for track in self._members if track[0] == camera]:
            del self._members[track], self._member_seen_s[track]
        self._dismissed = {track: since_s for track, since_s in self._dismissed.items() if track[0] != camera}

    def confirm(self, situation_id: str, by: str, now_s: float) -> list[Situation]:
        """Note that a person has seen an open situation to be one."""
        known = self._open.get(situation_id)
        if known is None or known.confirmed_by == by:
            return []
        seen = replace(known, confirmed_by=by)
        return [self._tell(seen, Phase.UPDATE, now_s, because=(f"confirmed by {by}",))]

    def tracks_of(self, situation_id: str) -> list[tuple[str, int]]:
        """Return (camera, number) of the tracks that make a situation."""
        return [track for track, member_of in self._members.items() if member_of == situation_id]

    def dismiss(self, situation_id: str, by: str, now_s: float) -> list[Situation]:
        """End an open situation that a person has seen to be none; its tracks start no other."""
        if (known := self._open.get(situation_id)) is None:
            return []
        fresh = {track: since_s for track, since_s in self._dismissed.items() if now_s - since_s < DISMISSED_S}
        self._dismissed = fresh | dict.fromkeys(self.tracks_of(situation_id), now_s)
        return [self._tell(known, Phase.END, now_s, because=(f"dismissed by {by}",), reason="false-alarm")]

    def rehearse(self, zone_id: str, by: str, now_s: float) -> list[Situation]:
        """Open a situation without an animal in a zone, to see whether its alert reaches its signs."""
        found = [(camera, zone) for camera, drawn in self._zones.items() for zone in drawn if zone.id == zone_id]
        if not found or any(s.rehearsal and s.zone.id == zone_id for s in self.open):
            return []
        camera, zone = found[0]
        rule = replace(self._settings.table.unknown_animal, hold_s=REHEARSAL_S)
        situation = self._start(_nobody(camera, zone, now_s), zone, rule, now_s)
        told = replace(situation, rehearsal=True, because=(f"a test asked for by {by}",))
        self._open[told.id] = told
        return [told]

    def _rule(self, sighting: Sighting, zone: Zone) -> Rule:
        place = self._places.get(sighting.camera)
        around = Circumstances(
            zone=zone,
            camera_zones=self._zones[sighting.camera],
            size=self.sizes.get(sighting.label) or size_of(place, sighting.box),
            time_of_day=self._time_of_day(),
        )
        return self._settings.table.rule(sighting, around)

    def _danger(self, sighting: Sighting, rule: Rule) -> bool:
        """Tell whether a sighting is confirmed and to be warned of."""
        settings = self._settings
        stands = sighting.travelled < TRAVELLED  # it may be scenery, and must be surer
        longer, shorter = max(sighting.box.width, sighting.box.height), min(sighting.box.width, sighting.box.height)
        least_px = LEAST_CUT * settings.min_side_px if sighting.at_edge else 0.0
        return (
            rule.action == "warn"
            and sighting.probability >= rule.min_probability
            and sighting.p_animal >= (settings.standing_probability if stands else 0.5)
            and sighting.looks >= rule.confirm_frames
            and sighting.seen_s - sighting.first_seen_s >= (settings.standing_s if stands else rule.confirm_s)
            and settings.min_side_px <= longer <= MAX_ASPECT * shorter
            and shorter >= least_px
        )

    def _consider(self, sighting: Sighting, now_s: float) -> Situation | None:
        zone = zone_of(sighting.box, self._zones[sighting.camera])
        if zone is None or self._is_dismissed(sighting, now_s):
            return None
        rule = self._rule(sighting, zone)
        member_of = self._open.get(self._members.get((sighting.camera, sighting.track), ""))
        if (
            member_of is not None
            and member_of.zone.id == zone.id
            and sighting.p_animal >= 0.5
            and rule.action == "warn"
        ):
            return self._continue(member_of, sighting, rule, now_s)
        if not self._danger(sighting, rule):
            return None
        real = [s for s in self.open if s.zone.id == zone.id and not s.rehearsal]
        near = next((s for s in real if self._same_place(s, sighting)), None)
        if near is None:
            return self._start(sighting, zone, rule, now_s)
        return self._continue(near, sighting, rule, now_s)

    def _is_dismissed(self, sighting: Sighting, now_s: float) -> bool:
        """Tell whether a person has just seen that a track is none; after a while it may have become another thing."""
        return now_s - self._dismissed.get((sighting.camera, sighting.track), -DISMISSED_S) < DISMISSED_S

    def _start(self, sighting: Sighting, zone: Zone, rule: Rule, now_s: float) -> Situation:
        situation = Situation(
            id=self._new_id(),
            version=1,
            phase=Phase.START,
            zone=zone,
            cameras=(sighting.camera,),
            label=sighting.label,
            best=sighting,
            newest=sighting,
            first_seen_s=sighting.first_seen_s,
            seen_s=sighting.seen_s,
            decided_s=now_s,
            count=1,
            told_probability=sighting.probability,
            hold_s=rule.hold_s,
            end_reason=None,
            because=_reasons(sighting, zone, rule),
        )
        self._join(sighting, situation.id)
        self._open[situation.id] = situation
        return situation

    def _join(self, sighting: Sighting, situation_id: str) -> None:
        self._members[sighting.camera, sighting.track] = situation_id
        self._member_seen_s[sighting.camera, sighting.track] = sighting.seen_s

    def _continue(self, situation: Situation, sighting: Sighting, rule: Rule, now_s: float) -> Situation | None:
        """Take a sighting into its situation; return a new version only where it says something new."""
        self._join(sighting, situation.id)
        danger = self._danger(sighting, rule)
        # a name that is in doubt for a while is kept: signs must not go to and fro
        unnamed = situation.label != UNKNOWN == sighting.label
        better = not unnamed and sighting.probability >= situation.best.probability
        named = danger and situation.label == UNKNOWN != sighting.label
        seen = replace(
            situation,
            cameras=tuple(sorted({*situation.cameras, sighting.camera})),
            label=sighting.label if named or (better and danger) else situation.label,
            best=sighting if better or named else situation.best,
            newest=sighting,
            seen_s=sighting.seen_s,
            count=max(situation.count, self._at_once(situation.id, sighting)),
            hold_s=max(situation.hold_s, rule.hold_s),
        )
        news = _news(situation, seen)
        if not news and now_s - situation.decided_s < self._settings.update_s:
            self._open[situation.id] = seen
            return None
        still = f"still there after {now_s - situation.first_seen_s:.0f} s"
        return self._tell(
            seen, Phase.UPDATE, now_s, because=(*_reasons(sighting, situation.zone, rule), *(news or [still]))
        )

    def _at_once(self, situation_id: str, sighting: Sighting) -> int:
        """Count the tracks of the situation that this camera saw in this very frame."""
        return sum(
            member_of == situation_id and track[0] == sighting.camera and self._member_seen_s[track] == sighting.seen_s
            for track, member_of in self._members.items()
        )

    def _tell(
        self,
        situation: Situation,
        phase: Phase,
        now_s: float,
        *,
        because: tuple[str, ...],
        reason: EndReason | None = None,
    ) -> Situation:
        told = replace(
            situation,
            version=situation.version + 1,
            phase=phase,
            decided_s=now_s,
            told_probability=situation.best.probability,
            because=because,
            end_reason=reason,
        )
        if phase is Phase.END:
            del self._open[told.id]
            for track in self.tracks_of(told.id):
                del self._members[track], self._member_seen_s[track]
        else:
            self._open[told.id] = told
        return told

    def _end_unseen(self, now_s: float, blind: frozenset[str]) -> list[Situation]:
        gone = [s for s in self.open if now_s - s.seen_s > s.hold_s]
        return [self._end(s, "camera-lost" if blind.issuperset(s.cameras) else "left", now_s) for s in gone]

    def _renew_held(self, now_s: float) -> list[Situation]:
        """Tell of situations that are held for long: a consumer must not take one for over that is still open."""
        due = [s for s in self.open if now_s - s.decided_s >= self._settings.update_s]
        return [
            self._tell(
                s,
                Phase.UPDATE,
                now_s,
                because=(f"{s.label} was not seen for {now_s - s.seen_s:.0f} s, held for {s.hold_s:.0f} s",),
            )
            for s in due
        ]

    def _end(self, situation: Situation, reason: EndReason, now_s: float) -> Situation:
        unseen_s = now_s - situation.seen_s
        last = f"not seen for {unseen_s:.1f} s" if reason == "left" else reason
        words = (f"{situation.label} was there for {situation.seen_s - situation.first_seen_s:.1f} s", last)
        return self._tell(situation, Phase.END, now_s, because=words, reason=reason)

    def _same_place(self, situation: Situation, sighting: Sighting) -> bool:
        """Tell whether a sighting is near enough to an open situation to be the same animal, or one of its herd."""
        last = situation.newest
        if sighting.camera == last.camera:
            return _near_in_picture(last, sighting)
        here, there = self._ground(sighting), self._ground(last)
        if here is None or there is None:
            return True  # two cameras see one zone; without homographies their pixels can't be compared
        unseen_s = max(0.0, sighting.seen_s - last.seen_s)
        reach_m = HERD_M + here.accuracy_m + there.accuracy_m + RUN_MPS * unseen_s
        return here.distance_m(there) <= reach_m

    def _ground(self, sighting: Sighting) -> Position | None:
        place = self._places.get(sighting.camera)
        at = None if place is None else place.locate(sighting.box.foot)
        return at if at is not None and at.method == "homography" else None


def _nobody(camera: str, zone: Zone, now_s: float) -> Sighting:
    """Return what a test reports in place of an animal: nothing, in the middle of the zone."""
    corners = zone.polygon_px or ((0.0, 0.0), (1.0, 1.0))
    x = sum(corner[0] for corner in corners) / len(corners)
    y = sum(corner[1] for corner in corners) / len(corners)
    return Sighting(
        camera=camera,
        track=0,
        box=Box(x, y, x + 1, y + 1),
        first_seen_s=now_s,
        seen_s=now_s,
        age_s=0.0,
        looks=1,
        label=UNKNOWN,
        probability=0.0,
        p_animal=0.0,
        weights={NONE: 1.0},
        similarity_m=0.0,
        velocity_px_s=(0.0, 0.0),
        travelled=0.0,
        at_edge=False,
        light="day",
    )


def _reasons(sighting: Sighting, zone: Zone, rule: Rule) -> tuple[str, ...]:
    seen_for_s = sighting.seen_s - sighting.first_seen_s
    by = f", by '{rule.line}'" if rule.line else ""
    return (
        f"{sighting.label} {sighting.probability:.2f} over {sighting.looks} looks in {seen_for_s:.1f} s",
        f"an animal at all: {sighting.p_animal:.2f}",
        f"zone {zone.id}: {sighting.label} is to {rule.action} from {rule.min_probability:.2f}{by}",
    )


def _near_in_picture(last: Sighting, sighting: Sighting) -> bool:
    # the size of the smaller, so that a speck has a short reach
    size = math.sqrt(max(1.0, min(last.box.area, sighting.box.area)))
    unseen_s = max(0.0, sighting.seen_s - last.seen_s)
    reach = REACH_OF_THE_GONE if last.at_edge and unseen_s > 0 else REACH + REACH_GROWTH_PER_S * unseen_s
    return math.dist(last.box.foot, sighting.box.foot) <= reach * size


def _news(before: Situation, after: Situation) -> list[str]:
    """Return what a consumer would want to be told of, in plain words; empty where nothing changed that matters."""
    news = []
    if after.label != before.label:
        news.append(f"{before.label} is now {after.label}")
    if after.count > before.count:
        news.append(f"{after.count} animals")
    if after.cameras != before.cameras:
        news.append(f"seen by {', '.join(after.cameras)}")
    if after.best.probability - before.told_probability >= PROBABILITY_STEP:
        news.append(f"probability {after.best.probability:.2f}")
    return news


def uuid7() -> str:
    """Return a UUID of version 7: 48 bits of Unix time in ms, then random (RFC 9562, section 5.7)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))
