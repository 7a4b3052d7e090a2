"""Labelled frames -> a new class set, and a report card that tells how good it is and what would help."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from adapters.class_set import ClassSetStore
from adapters.classes import ClassAttributes, Shot
from adapters.classifier import Classifier, is_legible
from adapters.crops import LabelledCrop
from adapters.encoder import Features, joined, unit
from adapters.errors import ConfigError, TeachError
from adapters.golden import GoldenSet

SAME_PICTURE = 0.995  # cosine of pooled vectors above which two frames are one picture
FAR_PX = 48  # crops of this side or less show how the animal looks from afar
GREY = 4.0  # mean spread of the colour channels in grey levels; less is an infra-red picture
# Centred cosine to the mean of the others. Of 3,000 draws from the tuning species 0.3 % of right frames lie below, and
# 54 % of frames of another animal; of mini-ImageNet's classes 1 % and 53 %.
STRANGER = 0.05
LEAST_OTHERS = 3  # fewer can't tell who is the stranger
LEAST_TAUGHT_PX = 16  # a crop's smaller side; what is recognised may be smaller, what everything is compared to not
ENOUGH = 5
NEAR_CLASSES = 3
GOLDEN_MARGIN = 0.02  # share of the checked frames that a new version may lose and still go live
# cosine of two classes' prototypes: one of 100 pairs of tuning classes lies above, the halves of a class at 0.5 to 0.9
NEAR_DUPLICATE = 0.5

Crop = LabelledCrop | str  # a crop, or why there is none
Usable = tuple[str, LabelledCrop]  # what the picture is called, and its crop


@dataclass
class Lesson:
    """What teaching led to."""

    name: str
    version: str
    frames: int
    used: int
    refused: list[dict[str, str]]
    seconds: float
    leave_one_out: float | None
    confused_with: dict[str, float]
    missing: list[str]
    nearest: dict[str, float] = field(default_factory=dict)
    held_back: str | None = None  # why the version is not live, where it is not

    def answer(self) -> dict[str, Any]:
        """Return it as the contract words it."""
        report = {name: getattr(self, name) for name in ("leave_one_out", "confused_with", "missing", "nearest")}
        return {
            "class": self.name,
            "version": self.version,
            "frames": self.frames,
            "used": self.used,
            "refused": self.refused,
            "seconds": round(self.seconds, 3),
            "report": report,
            **({"held_back": self.held_back} if self.held_back else {}),
        }


def teach(
    store: ClassSetStore,
    classifier: Classifier,
    attributes: ClassAttributes,
    images: Sequence[str],
    crops: Sequence[Crop],
    *,
    checked_on: GoldenSet | None = None,
    live: bool = True,
) -> Lesson:
    """Teach a class from crops and make the new version the active one, unless checked frames speak against it.

    Args:
        store: where the class set is kept.
        classifier: encodes the crops.
        attributes: of the class, known or new.
        images: what each crop is called in the answer.
        crops: what was labelled, or why there is none; outside the animal's box only a mosaic is kept.
        checked_on: a version that loses more than `GOLDEN_MARGIN` of these frames is kept, but not made active.
        live: False to keep the version without making it active, to be tried beside the one in force.

    Raises:
        ConfigError: the class is known with another size or origin.
        TeachError: no crop is usable; nothing was changed.
    """
    started = time.monotonic()
    attributes = _agreed(attributes, store.attributes().get(attributes.name))
    taught = store.shots(classifier)
    usable, refused = _sort_out(images, crops)
    features = classifier.encode.shots([crop.pixels for _, crop in usable])
    known = taught.get(attributes.name, [])
    usable, features = _without_repeats(usable, features, known, refused)
    usable, features = _without_strangers(usable, features, known, classifier.knowledge.mu, refused)
    if not usable:
        why = "; ".join(f"{entry['image']}: {entry['why']}" for entry in refused) or "no image was given"
        raise TeachError(f"nothing of '{attributes.name}' can be taught, nothing was changed: {why}")
    shots = [
        Shot(features=seen, crop=crop.masked(), source=image)
        for seen, (image, crop) in zip(features, usable, strict=True)
    ]
    own = [*known, *features]
    becoming = {**taught, attributes.name: own}
    held_back = None if checked_on is None else _objection(classifier, checked_on, taught, becoming)
    # whatever fails before this, nothing was changed; the report costs as much again, and nobody need wait for it
    version = store.teach(attributes, shots, classifier.encoder_hash, live=live and held_back is None)
    rate, confused, nearest = _examine(classifier, becoming, attributes.name)
    return Lesson(
        name=attributes.name,
        version=version,
        frames=len(images),
        used=len(usable),
        refused=refused,
        seconds=time.monotonic() - started,
        leave_one_out=rate,
        confused_with=confused,
        missing=_missing([crop.pixels for _, crop in usable], nearest),
        nearest=nearest,
        held_back=held_back,
    )


def _objection(
    classifier: Classifier,
    golden: GoldenSet,
    taught: Mapping[str, Sequence[Features]],
    becoming: Mapping[str, Sequence[Features]],
) -> str | None:
    """Return why a version must not go live; None where the checked frames have nothing against it."""
    if not len(golden):
        return None
    golden.rebuild(classifier)
    before, after = (
        classifier.adapt({name: joined(shots) for name, shots in known.items()}) for known in (taught, becoming)
    )
    trial = golden.trial(classifier, before, after)
    return trial.told if trial.worse_than(GOLDEN_MARGIN) else None


@dataclass
class TakenIn:
    """What taking in another site's classes led to: frames by class, and why others stayed out."""

    version: str | None  # None where nothing was new
    frames: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def take_in(
    store: ClassSetStore, classifier: Classifier, classes: Mapping[ClassAttributes, Sequence[Shot]], reason: str
) -> TakenIn:
    """Teach several classes with their shots as one version; frames that are known already are left out."""
    known, taught, taken = store.attributes(), store.shots(classifier), TakenIn(None)
    fresh: dict[ClassAttributes, Sequence[Shot]] = {}
    for wanted, shots in classes.items():
        try:
            attributes = _agreed(wanted, known.get(wanted.name))
        except ConfigError as error:
            taken.left_out[wanted.name] = str(error)
            continue
        earlier = [unit(shot.glob[0]) for shot in taught.get(wanted.name, [])]
        new = [shot for shot in shots if not _is_known(shot.features, earlier)]
        if new:
            fresh[attributes] = new
        else:
            taken.left_out[wanted.name] = "all its frames are known already"
    if fresh:
        taken.version = store.teach_all(fresh, classifier.encoder_hash, reason=reason)
        taken.frames = {attributes.name: len(shots) for attributes, shots in fresh.items()}
    return taken


def describe(store: ClassSetStore, classifier: Classifier, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return what is kept of each class of the active version, or of the named ones, and how good it is.

    Raises:
        ConfigError: no such class is taught.
    """
    kept, taught = store.kept(classifier, names or None), store.shots(classifier)
    told = []
    for attributes, shots in kept.items():
        rate, confused, nearest = _examine(classifier, taught, attributes.name)
        entry = vars(attributes) | {"class": attributes.name, "leave_one_out": rate}
        del entry["name"]
        entry |= {"confused_with": confused, "nearest": nearest}
        entry["shots"] = [
            {"source": s.source, "created": s.created, "crop": s.crop if s.png is not None else None} for s in shots
        ]
        told.append(entry)
    return told


def _sort_out(images: Sequence[str], crops: Sequence[Crop]) -> tuple[list[Usable], list[dict[str, str]]]:
    usable: list[Usable] = []
    refused: list[dict[str, str]] = []
    for image, crop in zip(images, crops, strict=True):
        if isinstance(crop, str):
            refused.append({"image": image, "why": crop})
        elif min(crop.pixels.shape[:2]) < LEAST_TAUGHT_PX or not is_legible(crop.pixels):
            why = (
                f"too small or too flat: {crop.pixels.shape[1]} x {crop.pixels.shape[0]} pixels, "
                f"at least {LEAST_TAUGHT_PX} with some contrast are needed"
            )
            refused.append({"image": image, "why": why})
        else:
            usable.append((image, crop))
    return usable, refused


def _agreed(wanted: ClassAttributes, known: ClassAttributes | None) -> ClassAttributes:
    """Return the attributes to teach with: those of a known class stay, since alerts are coded by them."""
    if known is None:
        return wanted
    if (wanted.size, wanted.origin) != (known.size, known.origin):
        raise ConfigError(
            f"'{known.name}' is taught as {known.size} and {known.origin}, "
            f"this says {wanted.size} and {wanted.origin}; correct it, or `wildlane classes forget {known.name}` first"
        )
    return known


def _without_repeats(
    usable: list[Usable], features: list[Features], known: list[Features], refused: list[dict[str, str]]
) -> tuple[list[Usable], list[Features]]:
    """Leave out frames that show what another one, or an earlier lesson, shows already: they would count twice."""
    plain = [unit(shot.glob[0]) for shot in features]  # the first view is the crop itself
    earlier = [unit(shot.glob[0]) for shot in known]
    kept: list[int] = []
    for i, seen in enumerate(plain):
        twin = next((j for j in kept if float(seen @ plain[j]) > SAME_PICTURE), None)
        if twin is not None:
            refused.append({"image": usable[i][0], "why": f"shows the same as {usable[twin][0]}"})
        elif _is_known(features[i], earlier):
            refused.append({"image": usable[i][0], "why": "was taught before"})
        else:
            kept.append(i)
    return [usable[i] for i in kept], [features[i] for i in kept]


def _without_strangers(
    usable: list[Usable],
    features: list[Features],
    known: list[Features],
    mu: NDArray[np.float32],
    refused: list[dict[str, str]],
) -> tuple[list[Usable], list[Features]]:
    """Leave out frames that look like none of the others, the strangest first: most likely a slip of the operator.

    Who teaches a single frame means it.
    """
    usable, features = list(usable), list(features)
    while len(features) > 1 and len(features) + len(known) > LEAST_OTHERS:
        looks = unit(np.stack([shot.glob[0] for shot in [*features, *known]]) - mu)
        others = unit(looks.sum(axis=0) - looks)
        likeness = (looks * others).sum(axis=1)[: len(features)]
        worst = int(likeness.argmin())
        if likeness[worst] >= STRANGER:
            break
        image, _ = usable.pop(worst)
        features.pop(worst)
        refused.append({"image": image, "why": "looks like none of the other frames; if it is one, teach it alone"})
    return usable, features


def _is_known(shot: Features, earlier: Sequence[NDArray[np.float32]]) -> bool:
    return any(float(unit(shot.glob[0]) @ other) > SAME_PICTURE for other in earlier)


def _examine(
    classifier: Classifier, taught: dict[str, list[Features]], name: str
) -> tuple[float | None, dict[str, float], dict[str, float]]:
    """Return (share found again, confusions, nearest classes) when each shot in turn is left out of its class."""
    own, supports = taught[name], {other: joined(shots) for other, shots in taught.items()}
    memory = classifier.adapt(supports)
    row = memory.names.index(name)
    prototypes = memory.arrays["proto"]
    cosines = {other: float(prototypes[row] @ prototypes[i]) for i, other in enumerate(memory.names) if other != name}
    nearest = dict(sorted(cosines.items(), key=lambda item: -item[1])[:NEAR_CLASSES])
    if len(own) < 2:  # one shot can't be left out
        return None, {}, nearest
    answers = []
    for i, shot in enumerate(own):
        rest = joined([*own[:i], *own[i + 1 :]])
        answers.append(_found_as(classifier, {**supports, name: rest}, shot[:1]))
    confused = {other: answers.count(other) / len(answers) for other in sorted(set(answers) - {name})}
    return answers.count(name) / len(answers), confused, nearest


def _found_as(classifier: Classifier, supports: dict[str, Features], query: Features) -> str:
    memory = classifier.adapt(supports)
    weights = classifier.match(query, memory)[0][0]
    return (*memory.names, "none")[int(weights.argmax())]


def _missing(crops: Sequence[NDArray[np.uint8]], nearest: dict[str, float]) -> list[str]:
    """Return in plain words which frames would help."""
    wishes = []
    if len(crops) < ENOUGH:
        wishes.append(f"{ENOUGH - len(crops)} more frames, from other angles")
    if not any(_is_grey(crop) for crop in crops):
        wishes.append("frames at night or in infra-red")
    if min(min(crop.shape[:2]) for crop in crops) > FAR_PX:
        wishes.append(f"frames from far away, {FAR_PX} pixels or less")
    wishes += [
        f"frames that tell it from '{other}': the two are {cosine:.2f} alike"
        for other, cosine in nearest.items()
        if cosine >= NEAR_DUPLICATE
    ]
    return wishes


def _is_grey(crop: NDArray[np.uint8]) -> bool:
    small = cv2.resize(crop, (32, 32), interpolation=cv2.INTER_AREA)
    return float(np.ptp(small, axis=2).mean()) < GREY
