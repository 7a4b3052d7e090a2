"""Labelled frames -> a new class set, and a report card that tells how good it is and what would help."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from adapters.class_file import Carried
from adapters.class_set import ClassSetStore
from adapters.classes import ClassAttributes, Shot, check_taught, crop_named, settled
from adapters.classifier import NONE, Classifier
from adapters.encoder import Features, joined, unit
from adapters.errors import ConfigError, TeachError
from adapters.frames import Crop, Usable, is_known, sort_out, without_known, without_repeats, without_strangers
from adapters.golden import GoldenSet
from adapters.negatives import Negatives
from adapters.report_card import Support, examine, missing


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


@dataclass
class Refutation:
    """What came of saying what some frames do not show.

    Attributes:
        name: the class that they are not of; `none` where they show no animal at all.
        before, after: mean p of that class, or of an animal, in each frame when nothing was said, and when it was said
            of the others alone; None where there are no others.
    """

    name: str
    version: str
    frames: int
    used: int
    refused: list[dict[str, str]]
    before: float | None
    after: float | None
    held_back: str | None = None

    def answer(self) -> dict[str, Any]:
        """Return it as the pages tell it."""
        told = vars(self) | {"class": self.name}
        del told["name"]
        return told


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
        checked_on: a version that loses more than `golden.GOLDEN_MARGIN` of these frames is kept, but not made active.
        live: False to keep the version without making it active, to be tried beside the one in force.

    Raises:
        ConfigError: the class is known with another size or origin, or as a herd.
        TeachError: no crop is usable; nothing was changed.
    """
    started = time.monotonic()
    settled(attributes, store.attributes())  # the store asks again; here nothing was worked out in vain yet
    live_one = Support(store.shots(classifier), store.negatives(classifier))
    usable, refused = sort_out(images, crops, sharp=True)
    features = classifier.encode.shots([crop.pixels for _, crop in usable])
    known = live_one.taught.get(attributes.name, [])
    said = [*live_one.negatives.get(attributes.name, ()), *live_one.negatives.get(NONE, ())]
    usable, features = without_known(usable, features, said, f"was said to be no {attributes.name}", refused)
    usable, features = without_repeats(usable, features, known, refused)
    usable, features = without_strangers(usable, features, known, classifier.knowledge.mu, refused)
    if not usable:
        raise TeachError(f"nothing of '{attributes.name}' can be taught, nothing was changed: {_reasons(refused)}")
    becoming = Support({**live_one.taught, attributes.name: [*known, *features]}, live_one.negatives)
    held_back = None if checked_on is None else _objection(classifier, checked_on, live_one, becoming)
    # whatever fails before this, nothing was changed; the report costs as much again, and nobody need wait for it
    shots = _shots(usable, features)
    version = store.teach(attributes, shots, classifier.encoder_hash, live=live and held_back is None)
    rate, confused, nearest = examine(classifier, becoming, attributes.name)
    return Lesson(
        name=attributes.name,
        version=version,
        frames=len(images),
        used=len(usable),
        refused=refused,
        seconds=time.monotonic() - started,
        leave_one_out=rate,
        confused_with=confused,
        missing=missing(len(becoming.taught[attributes.name]), store.pictures(attributes.name, version), nearest),
        nearest=nearest,
        held_back=held_back,
    )


def refute(
    store: ClassSetStore,
    classifier: Classifier,
    name: str,
    images: Sequence[str],
    crops: Sequence[Crop],
    *,
    checked_on: GoldenSet | None = None,
) -> Refutation:
    """Teach what crops are not, and make the new version the active one, unless checked frames speak against it.

    Args:
        store: where the class set is kept.
        classifier: encodes the crops.
        name: a taught class that they are not of; `none` where they show no animal at all.
        images: what each crop is called in the answer.
        crops: what was labelled, or why there is none.
        checked_on: as in `teach`.

    Raises:
        ConfigError: no such class is taught.
        TeachError: no crop is usable; nothing was changed.
    """
    live_one = Support(store.shots(classifier), store.negatives(classifier))
    if name != NONE:
        check_taught(name, live_one.taught)
    usable, refused = sort_out(images, crops)
    features = classifier.encode.shots([crop.pixels for _, crop in usable])
    for other, shots in live_one.taught.items():
        if name in (other, NONE):
            usable, features = without_known(usable, features, shots, f"was taught as {other}", refused)
    usable, features = without_repeats(usable, features, live_one.negatives.get(name, []), refused)
    if not usable:
        raise TeachError(f"nothing can be said of these frames, nothing was changed: {_reasons(refused)}")
    said = [*live_one.negatives.get(name, ()), *features]
    becoming = Support(live_one.taught, {**live_one.negatives, name: said})
    held_back = None if checked_on is None else _objection(classifier, checked_on, live_one, becoming)
    version = store.refute(name, _shots(usable, features), classifier.encoder_hash, live=held_back is None)
    before, after = _fall(classifier, live_one, name, features)
    return Refutation(name, version, len(images), len(usable), refused, before, after, held_back)


def _fall(
    classifier: Classifier, support: Support, name: str, features: Sequence[Features]
) -> tuple[float | None, float | None]:
    """Return p of each frame on the mean, as it was, and as it is where what it shows was said of the others alone."""
    if len(features) < 2:
        return None, None
    memory, pairs = support.memory(classifier), []
    supports = {other: joined(shots) for other, shots in support.taught.items()}
    for i, shot in enumerate(features):
        others = {**support.negatives, name: [*support.negatives.get(name, ()), *features[:i], *features[i + 1 :]]}
        against = Negatives.beside(supports, others.get(NONE, ()), others, classifier.knowledge.mu)
        answers = [
            classifier.judge(shot[:1], known, [True])[0] for known in (memory, replace(memory, negatives=against))
        ]
        pairs.append([answer.p_animal if name == NONE else answer.p_class[name] for answer in answers])
    before, after = np.mean(pairs, axis=0).tolist()
    return before, after


def _objection(classifier: Classifier, golden: GoldenSet, before: Support, after: Support) -> str | None:
    """Return why a version must not go live; None where the checked frames have nothing against it."""
    if not len(golden):
        return None
    golden.rebuild(classifier)
    trial = golden.trial(classifier, before.memory(classifier, more_follow=True), after.memory(classifier))
    return trial.told if trial.is_worse else None


def _shots(usable: Sequence[Usable], features: Sequence[Features]) -> list[Shot]:
    return [
        Shot(features=seen, crop=crop.masked(), source=image, provenance=crop.provenance)
        for seen, (image, crop) in zip(features, usable, strict=True)
    ]


def _reasons(refused: Sequence[Mapping[str, str]]) -> str:
    return "; ".join(f"{entry['image']}: {entry['why']}" for entry in refused) or "no image was given"


@dataclass
class TakenIn:
    """What taking in another site's classes led to: frames by class, and why others stayed out."""

    version: str | None  # None where nothing was new
    frames: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    held_back: str | None = None


def take_in(
    store: ClassSetStore, classifier: Classifier, carried: Carried, reason: str, *, checked_on: GoldenSet | None = None
) -> TakenIn:
    """Teach several classes with their shots as one version; frames that are known already are left out.

    Args:
        store: where the class set is kept.
        classifier: made the features.
        carried: what a file brought.
        reason: what the list of versions says.
        checked_on: as in `teach`.
    """
    known, taken = store.attributes(), TakenIn(None, left_out=dict(carried.left_out))
    live_one = Support(store.shots(classifier), store.negatives(classifier))
    fresh: dict[ClassAttributes, list[Shot]] = {}
    against: dict[str, list[Shot]] = {}
    for wanted, shots in carried.classes.items():
        try:
            attributes = settled(wanted, known)
        except ConfigError as error:
            taken.left_out[wanted.name] = str(error)
            continue
        new = _unknown(shots, live_one.taught.get(wanted.name, ()))
        no_such = _unknown(carried.negatives.get(wanted.name, ()), live_one.negatives.get(wanted.name, ()))
        if new or no_such:
            known[wanted.name] = attributes
            fresh[attributes], against[wanted.name] = new, no_such
        else:
            taken.left_out[wanted.name] = "all its frames are known already"
    if fresh:
        becoming = Support(
            _with(live_one.taught, {attributes.name: shots for attributes, shots in fresh.items()}),
            _with(live_one.negatives, {name: shots for name, shots in against.items() if shots}),
        )
        taken.held_back = None if checked_on is None else _objection(classifier, checked_on, live_one, becoming)
        taken.version = store.teach_all(
            fresh, classifier.encoder_hash, reason=reason, negatives=against, live=taken.held_back is None
        )
        taken.frames = {attributes.name: len(shots) for attributes, shots in fresh.items()}
    return taken


def _unknown(shots: Sequence[Shot], known: Sequence[Features]) -> list[Shot]:
    earlier = [unit(shot.glob[0]) for shot in known]
    return [shot for shot in shots if not is_known(shot.features, earlier)]


def _with(
    known: Mapping[str, Sequence[Features]], added: Mapping[str, Sequence[Shot]]
) -> dict[str, Sequence[Features]]:
    """Return the features of each class, those of new shots among them."""
    more = {name: [*known.get(name, ()), *(shot.features for shot in shots)] for name, shots in added.items()}
    return {**known, **more}


@dataclass(frozen=True)
class Removal:
    """What came of taking a frame out of a class."""

    version: str
    held_back: str | None


def remove(
    store: ClassSetStore, classifier: Classifier, name: str, crop: str, *, checked_on: GoldenSet | None = None
) -> Removal:
    """Take a wrongly taught frame out of a class, and make the new version the active one, as `teach` does.

    Args:
        store: where the class set is kept.
        classifier: made the features.
        name: a taught class.
        crop: the SHA-256 of the frame's crop, or how it begins.
        checked_on: as in `teach`.

    Raises:
        ConfigError: the class is not taught, has no such frame, or no other one.
    """
    check_taught(name, store.class_names())
    (kept,) = store.kept(classifier, [name]).values()
    whole = crop_named(crop, [shot.crop for shot in kept], name)
    live_one = Support(store.shots(classifier), store.negatives(classifier))
    rest = [shot.features for shot in kept if shot.crop != whole]
    held_back = None
    if checked_on is not None and rest:
        becoming = Support({**live_one.taught, name: rest}, live_one.negatives)
        held_back = _objection(classifier, checked_on, live_one, becoming)
    return Removal(store.remove(name, whole, live=held_back is None), held_back)


def forget(store: ClassSetStore, golden: GoldenSet, name: str) -> str:
    """Erase a class for good: from every version, with its pictures and its checked frames.

    Returns:
        The name of the version that is active now.

    Raises:
        ConfigError: no version has such a class.
        StoreError: a picture can't be erased.
    """
    version = store.forget(name)
    golden.forget(name)
    return version


def describe(store: ClassSetStore, classifier: Classifier, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return what is kept of each class of the active version, or of the named ones, and how good it is.

    Raises:
        ConfigError: no such class is taught.
    """
    kept = store.kept(classifier, names or None)
    support = Support(store.shots(classifier), store.negatives(classifier))
    told = []
    for attributes, shots in kept.items():
        rate, confused, nearest = examine(classifier, support, attributes.name)
        entry = vars(attributes) | {"class": attributes.name, "leave_one_out": rate}
        del entry["name"]
        entry |= {"confused_with": confused, "nearest": nearest}
        entry["shots"] = [
            {"source": s.source, "created": s.created, "crop": s.crop if s.png is not None else None}
            | vars(s.provenance)
            for s in shots
        ]
        told.append(entry)
    return told
