"""The live path without clocks, processes or network: frames of any cameras in, situation versions out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from adapters.classes import ClassSet
from adapters.classifier import Classification, Classifier
from adapters.encoder import Features, unit
from monitor.policy import EndReason, Policy, Situation
from monitor.scenery import Scenery
from monitor.shadow import Shadow
from monitor.stages import Stages
from monitor.values import Frame, Sighting
from monitor.watch import CameraWatch, Look, Seen

OLDEST_S = 60.0  # no frame waits so long, the service manager would have ended the program: the clock was set


CROPS_PER_ROUND = 32  # a quarter of a second on two processor cores
Learn = Callable[[Features, Sequence[Classification]], None]  # takes in what was classified


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many crops of a camera are classified for one frame: moving things, and tiles of the sweep."""

    crops_per_frame: int = 10
    sweep_tiles_per_frame: int = 2


@dataclass(frozen=True)
class Outcome:
    """What one round of frames led to."""

    sightings: list[Sighting]
    told: list[Situation]


class Pipeline:
    """All cameras' crops go through the classifier in one run, then each camera's tracks through one policy."""

    def __init__(
        self,
        classifier: Classifier,
        class_set: ClassSet,
        policy: Policy,
        budgets: Mapping[str, Budget],
        *,
        crops_per_round: int = CROPS_PER_ROUND,
        learn: Learn = lambda features, answers: None,
        scenery: Scenery | None = None,
        stages: Stages | None = None,
    ) -> None:
        """Start with no tracks.

        Args:
            classifier: judges the crops.
            class_set: what is taught.
            policy: decides what is told.
            budgets: of each camera, by name.
            crops_per_round: most crops of all cameras together, which bounds how long a round takes.
            learn: given all that was classified.
            scenery: what people have dismissed.
            stages: takes down what the time is spent on; `crops` counts what was classified.
        """
        self._classifier, self._policy, self._budgets, self._learn = classifier, policy, budgets, learn
        self._scenery, self._crops_per_round, self._turn = scenery or Scenery(), crops_per_round, 0
        self.stages, self.crops = stages or Stages(), 0
        self.shadow: Shadow | None = None  # a version that is tried beside the live one
        self.take_up(class_set)
        self._watches: dict[str, CameraWatch] = {}

    def change(self, budgets: Mapping[str, Budget]) -> None:
        """Go on with other budgets; tracks stay."""
        self._budgets = budgets
        for watch in self._watches.values():
            watch.change_budget(**vars(budgets[watch.camera]))

    def take_up(self, class_set: ClassSet) -> None:
        """Use another class set from the next frame on."""
        self.class_set = class_set
        self._policy.sizes = {name: attributes.size for name, attributes in class_set.attributes.items()}

    def process(
        self,
        frames: Sequence[Frame],
        now_s: float,
        *,
        wall_s: float | None = None,
        blind: frozenset[str] = frozenset(),
    ) -> Outcome:
        """Look at one frame each of some cameras; nothing of a frame is kept after the return.

        `wall_s` is the wall clock, None where frames have no age; `blind` cameras see nothing now.
        """
        with self.stages.timed("plan"):
            plans = self._plan(frames, now_s)
        seen = self._classify([look.crop for _, _, looks in plans for look in looks])
        sightings: list[Sighting] = []
        with self.stages.timed("decide"):
            for frame, watch, looks in plans:
                sightings += watch.conclude(looks, seen[: len(looks)], now_s, _age_s(frame, wall_s))
                seen = seen[len(looks) :]
            return Outcome(sightings, self._policy.decide(sightings, now_s, blind=blind))

    def _plan(self, frames: Sequence[Frame], now_s: float) -> list[tuple[Frame, CameraWatch, list[Look]]]:
        """Share out what one round may classify: the most urgent tracks of all cameras, then tiles of the sweep.

        One tile at least is looked at, each camera's in turn: what stands still must be found on a busy evening too.
        """
        asked = [(frame, watch := self._watch(frame), watch.follow(frame, now_s)) for frame in frames]
        ranked = sorted(
            ((urgency, -i, track) for i, (_, _, wanting) in enumerate(asked) for urgency, track in wanting),
            key=itemgetter(0, 1),
            reverse=True,
        )[: self._crops_per_round]
        left, tiles = max(1, self._crops_per_round - len(ranked)), [0] * len(asked)
        self._turn += 1
        for step in range(len(asked)):
            i = (self._turn + step) % len(asked)
            tiles[i] = min(left, asked[i][1].tiles_per_frame)
            left -= tiles[i]
        return [
            (frame, watch, watch.looks(frame, [track for _, at, track in ranked if at == -i], tiles[i], now_s))
            for i, (frame, watch, _) in enumerate(asked)
        ]

    def _classify(self, crops: list[NDArray[np.uint8]]) -> list[Seen]:
        if not crops:
            return []
        self.crops += len(crops)
        with self.stages.timed("encode"):
            features = self._classifier.encode(crops)
        with self.stages.timed("match"):
            answers = self._classifier.answer(crops, features, self.class_set.memory)
        if self.shadow is not None:
            with self.stages.timed("shadow"):
                others = self._classifier.answer(crops, features, self.shadow.class_set.memory)
                self.shadow.compare(crops, answers, others)
        self._learn(features, answers)
        looks_like = unit(features.glob - self._classifier.knowledge.mu)
        return [Seen(answer, like) for answer, like in zip(answers, looks_like, strict=True)]

    def dismiss(self, situation: str, by: str, now_s: float) -> list[Situation]:
        """End a situation that a person has seen to be none, and remember the place where nothing moves."""
        for camera, track in self._policy.tracks_of(situation):
            if camera in self._watches:
                self._watches[camera].dismiss(track, now_s)
        return self._policy.dismiss(situation, by, now_s)

    def idle(self, now_s: float, *, blind: frozenset[str] = frozenset()) -> list[Situation]:
        """Let time pass without a frame: situations that nobody sees any more end."""
        return self._policy.decide([], now_s, blind=blind)

    def forget_camera(self, camera: str) -> None:
        """Drop the tracks of a camera whose stream broke; they mean nothing in the next one."""
        self._watches.pop(camera, None)
        self._policy.forget_camera(camera)

    def end_all(self, reason: EndReason, now_s: float) -> list[Situation]:
        """End the open situations; see `Policy.end_all`."""
        return self._policy.end_all(reason, now_s)

    def _watch(self, frame: Frame) -> CameraWatch:
        if frame.camera not in self._watches:
            budget = self._budgets[frame.camera]
            self._watches[frame.camera] = CameraWatch(
                frame.camera,
                frame.size,
                self._scenery,
                crops_per_frame=budget.crops_per_frame,
                sweep_tiles_per_frame=budget.sweep_tiles_per_frame,
            )
        return self._watches[frame.camera]


def _age_s(frame: Frame, wall_s: float | None) -> float:
    age_s = 0.0 if wall_s is None else wall_s - frame.captured_s
    return age_s if 0.0 <= age_s <= OLDEST_S else 0.0
