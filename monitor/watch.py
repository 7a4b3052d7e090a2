"""One camera's way from a frame to sightings: which crops to look at, and what the looks say of each track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import cv2
import numpy as np
from numpy.typing import NDArray

from adapters.classifier import NONE, UNKNOWN, Classification
from monitor.regions import CROP_MARGIN, crop_box
from monitor.scenery import Scenery, View
from monitor.sweep import PatientSweep
from monitor.tracking import SURELY_NONE, TRAVELLED, Track, Tracker
from monitor.values import Box, Frame, Light, Sighting

P_TILE = 0.9  # a tile holds much that is no animal, and is looked at for ever: it must say so clearly
P_STANDS = 0.5  # a track that no longer moves is kept while its place still looks like an animal,
STILL_ALIKE = (
    0.5  # and like itself: cosine of centred pooled vectors (see `scenery.ALIKE`); a bush it went behind does not
)
MANY_LOOKS, PAUSE_S = 10, 0.5  # a track looked at so often is looked at only every half second,
CLEAR_LOOKS, CLEAR_PAUSE_S = 5, 1.0  # and one that so many looks leave no doubt of every second, where it moves:
SURELY_ANIMAL = 0.95  # by its p(animal); the one that stands is kept by its looks alone
P_UNSEEN = 0.5  # what a track that was never looked at is taken for when the crops of a frame are shared out,
PRIOR_LOOKS = 1  # and how many looks that guess is worth
LONGEST_WAIT_S = 1.0
# What a taught class needs over the track to be named: its share of N(x), and by how much it is nearer than any other
# animal of M. Tuning classes, five frames, badly seen crops: of taught ones 28 % are named right, of others 2.2 % named
# at all (58 and 15 % from 0.6 on without the lead); clean ones 68 and 3.7 % (92 and 23 %).
MIN_NAME_WEIGHT, LEAST_LEAD = 0.7, 0.1
GREY = 3.0  # mean spread of the colour channels in grey levels; less is an infra-red camera's picture
DARK = 45.0  # mean of all pixels in grey levels; less is a picture by street light
EDGE_PX = 3.0  # a box nearer than this to the border is cut by it
JITTER = ((0.0, 0.0, 1.0), (0.08, 0.0, 0.9), (-0.08, 0.0, 1.1), (0.0, 0.08, 1.1), (0.0, -0.08, 0.9))  # x, y, scale

Urgency = tuple[float, float]  # of a look; larger first, over all cameras


@dataclass(frozen=True)
class Look:
    """A crop to classify, and the track it belongs to; a tile of the sweep belongs to none."""

    track: Track | None
    box: Box
    crop: NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """What the classifier made of a crop, and how it looks: centred, a unit vector (d_pooled,)."""

    answer: Classification
    looks_like: NDArray[np.float32]


class CameraWatch:
    """The tracks and the sweep of one camera."""

    def __init__(
        self,
        camera: str,
        size: tuple[int, int],
        scenery: Scenery,
        *,
        crops_per_frame: int,
        sweep_tiles_per_frame: int,
    ) -> None:
        self.camera, self._size, self._scenery = camera, size, scenery
        self.change_budget(crops_per_frame=crops_per_frame, sweep_tiles_per_frame=sweep_tiles_per_frame)
        self._tracker = Tracker()
        self._sweep = PatientSweep(size)
        self._light: Light = "day"

    def change_budget(self, *, crops_per_frame: int, sweep_tiles_per_frame: int) -> None:
        """Look at so many moving things and tiles a frame from now on."""
        self._crops_per_frame, self.tiles_per_frame = crops_per_frame, sweep_tiles_per_frame

    def follow(self, frame: Frame, now_s: float) -> list[tuple[Urgency, Track]]:
        """Follow what moves into this frame; return the tracks that want a look, as many as the budget allows."""
        self._tracker.advance(frame.moving, now_s)
        wanting = [(_urgency(track, now_s), track) for track in self._tracker.tracks if _wants_look(track, now_s)]
        return sorted(wanting, key=itemgetter(0), reverse=True)[: self._crops_per_frame]

    def looks(self, frame: Frame, tracks: Sequence[Track], tiles: int, now_s: float) -> list[Look]:
        """Return the crops of tracks, and of so many of the sweep's tiles at most."""
        moving = [Look(track, track.box, _cut(frame, self._view(track))) for track in tracks]
        looks = moving + [Look(None, tile, _cut(frame, tile)) for tile in self._sweep.next(frame, tiles, now_s)]
        if looks or self._tracker.tracks:  # else there will be nothing to say it of
            self._light = light_of(frame.image)
        return looks

    def _view(self, track: Track) -> Box:
        """Return the square to cut out.

        A standing track gives the same picture for ever: shifts make the looks differ.
        """
        square = crop_box(track.box, self._size)
        if not track.standing:
            return square
        dx, dy, scale = JITTER[track.evidence.looks % len(JITTER)]
        (x, y), half = square.center, square.width * scale / 2
        x, y = x + dx * square.width, y + dy * square.width
        return Box(x - half, y - half, x + half, y + half).clipped(self._size)

    def conclude(self, looks: Sequence[Look], seen: Sequence[Seen], now_s: float, age_s: float) -> list[Sighting]:
        """Add what was seen to the tracks and return a sighting of each track that was seen in this frame.

        `age_s`: how old the frame is.
        """
        for look, one in zip(looks, seen, strict=True):
            if look.track is None:
                self._take_tile(look, one, now_s)
            elif not (look.track.standing and self._is_scenery(look.track.box, one, now_s)):
                _learn(look.track, look, one, now_s)
        return [
            self._sighting(track, age_s)
            for track in self._tracker.tracks
            if track.last_seen_s == now_s and track.evidence.looks
        ]

    def _take_tile(self, look: Look, seen: Seen, now_s: float) -> None:
        """Begin a track where a tile of the sweep shows an animal that nobody follows."""
        box = _without_margin(look.box)
        followed = self._is_followed(look.box)
        self._sweep.saw(look.box, seen.answer.p_animal, explained=followed)
        is_animal = seen.answer.legible and seen.answer.p_animal >= P_TILE
        if is_animal and not followed and not self._is_scenery(box, seen, now_s):
            _learn(self._tracker.begin(box, now_s, standing=True), look, seen, now_s)

    def dismiss(self, number: int, now_s: float) -> None:
        """Remember the place of a track that a person has seen to be none; what moves has no place."""
        for track in self._tracker.tracks:
            if track.number == number and track.travelled < TRAVELLED and track.looks_like is not None:
                self._scenery.dismiss(View(self.camera, track.box, track.looks_like), now_s)
                self._sweep.look_again(track.box)  # it learns each tile's view of the place

    def _is_scenery(self, box: Box, seen: Seen, now_s: float) -> bool:
        return self._scenery.knows(View(self.camera, box, seen.looks_like), now_s)

    def _is_followed(self, tile: Box) -> bool:
        return any(track.box.overlap(tile) > 0.5 * min(track.box.area, tile.area) for track in self._tracker.tracks)

    def _sighting(self, track: Track, age_s: float) -> Sighting:
        evidence = track.evidence
        name = max(evidence.weights, key=evidence.weights.__getitem__)
        taught = name != NONE and evidence.weights[name] >= MIN_NAME_WEIGHT and evidence.leads[name] >= LEAST_LEAD
        return Sighting(
            camera=self.camera,
            track=track.number,
            box=track.box,
            first_seen_s=track.first_seen_s,
            seen_s=track.last_seen_s,
            age_s=age_s,
            looks=evidence.looks,
            label=name if taught else UNKNOWN,
            probability=min(evidence.weights[name], evidence.p_animal) if taught else evidence.p_animal,
            p_animal=evidence.p_animal,
            weights=dict(evidence.weights),
            similarity_m=evidence.similarity_m,
            velocity_px_s=track.velocity,
            travelled=track.travelled,
            at_edge=self._touches_edge(track.box),
            light=self._light,
        )

    def _touches_edge(self, box: Box) -> bool:
        width, height = self._size
        return box.x1 < EDGE_PX or box.y1 < EDGE_PX or box.x2 > width - EDGE_PX or box.y2 > height - EDGE_PX


def light_of(image: NDArray[np.uint8]) -> Light:
    """Return the light of a picture, uint8 (height, width, 3), BGR; every eighth pixel tells."""
    some = np.ascontiguousarray(image[::8, ::8])
    blue, green, red = cv2.split(some)
    spread = cv2.subtract(cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red))
    if cv2.mean(spread)[0] < GREY:
        return "infra-red"
    return "dark" if float(some.mean()) < DARK else "day"


def _wants_look(track: Track, now_s: float) -> bool:
    if track.last_seen_s < now_s and track.evidence.p_animal < P_STANDS:
        return False  # gone, or stopped and no animal
    return now_s - track.last_look_s >= _pause_s(track)


def _pause_s(track: Track) -> float:
    """Return how long a track is left alone after a look."""
    known = track.evidence
    if known.looks >= CLEAR_LOOKS and not SURELY_NONE < known.p_animal < SURELY_ANIMAL:
        return PAUSE_S if track.standing else CLEAR_PAUSE_S
    return PAUSE_S if known.looks >= MANY_LOOKS else 0.0


def _urgency(track: Track, now_s: float) -> Urgency:
    """Return how much a look is worth: the likelier an animal and the longer without a look, the more; then by size.

    What was not there a frame ago has waited for nothing yet: in rain and snow most of it is gone a frame later.
    """
    known = track.evidence.looks
    waited_s = min(now_s - max(track.last_look_s, track.first_seen_s), LONGEST_WAIT_S)
    likely = (known * track.evidence.p_animal + PRIOR_LOOKS * P_UNSEEN) / (known + PRIOR_LOOKS)
    return likely**2 * waited_s, track.box.area


def _learn(track: Track, look: Look, seen: Seen, now_s: float) -> None:
    """Take in a look at a track, or, where nothing moves, at the place where it was last seen."""
    track.last_look_s = now_s
    moves = track.last_seen_s == now_s
    if not moves and track.looks_like is not None and float(track.looks_like @ seen.looks_like) < STILL_ALIKE:
        return  # something else is there, of which nothing is to be learned about the track
    track.evidence.add(seen.answer, min(look.crop.shape[:2]), now_s)
    track.looks_like = seen.looks_like
    if not moves and seen.answer.p_animal >= P_STANDS:
        track.stand(now_s)


def _without_margin(tile: Box) -> Box:
    """Return the box whose crop is the tile."""
    side = tile.width / (1 + 2 * CROP_MARGIN)
    x, y = tile.center
    return Box(x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def _cut(frame: Frame, box: Box) -> NDArray[np.uint8]:
    x1, y1, x2, y2 = (round(value) for value in box)
    return frame.image[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
