"""What an operator says a crop is not."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.class_set import ClassSetStore
from adapters.class_tables import FILE, SCHEMA
from adapters.classes import ClassAttributes
from adapters.classifier import UNKNOWN, Classifier
from adapters.crops import LabelledCrop, crop_hash
from adapters.errors import ConfigError, TeachError
from adapters.golden import GoldenSet
from adapters.teaching import Refutation, refute, teach

BEAR = ClassAttributes(name="bear", size="large", origin="wild")
Animals = dict[str, NDArray[np.uint8]]


def shown(crop: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The same thing a little later: nearer, darker."""
    return [crop, crop[8:-8, 8:-8].copy(), (0.7 * crop).astype(np.uint8)]


def say(store: ClassSetStore, classifier: Classifier, name: str, crops: list[NDArray[np.uint8]]) -> Refutation:
    return refute(store, classifier, name, list("abc")[: len(crops)], [LabelledCrop(crop) for crop in crops])


def test_what_was_said_to_be_no_bear_is_not_called_one_again_until_it_is_rolled_back(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    later = [np.roll(demo_animals[name], 5, axis=1) for name in ("bear", "cattle")]
    bear, cattle = classifier.classify(later, store.load(classifier).memory)
    told = say(store, classifier, "bear", shown(demo_animals["bear"]))
    refuted, untouched = classifier.classify(later, store.load(classifier).memory)

    assert (bear.label, refuted.label) == ("bear", UNKNOWN)  # an animal it is all the same
    assert bear.p_class["bear"] > 0.95
    assert refuted.p_class["bear"] < 0.05
    assert refuted.p_animal == bear.p_animal
    assert sum(refuted.weights.values()) == pytest.approx(1, abs=1e-5)
    assert untouched.weights == pytest.approx(cattle.weights, abs=1e-4)
    assert told.before is not None
    assert told.after is not None
    assert told.after < 0.1 < 0.9 < told.before
    assert store.versions()[-1].reason == "said what is no bear"
    store.rollback()
    assert classifier.classify(later, store.load(classifier).memory)[0] == bear


def test_what_is_no_animal_is_none_also_where_nothing_is_taught_until_that_is_taken_back(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    store.rollback("cs-1")
    crop = demo_animals["caribou"]
    later = [np.roll(crop, 5, axis=1), demo_animals["cattle"]]
    assert [one.label for one in classifier.classify(later, store.load(classifier).memory)] == [UNKNOWN, UNKNOWN]

    say(store, classifier, "none", [crop])
    assert [one.label for one in classifier.classify(later, store.load(classifier).memory)] == ["none", UNKNOWN]
    ((kept, source, _),) = store.refuted()["none"]
    assert (kept, source) == (crop_hash(crop), "a")

    store.take_back(kept)
    assert store.refuted() == {}
    assert classifier.classify(later, store.load(classifier).memory)[0].label == UNKNOWN
    with pytest.raises(ConfigError, match="taken back already"):
        store.take_back(kept)


def test_taught_frames_win_over_a_negative_that_is_less_like_them(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    bear = demo_animals["bear"]
    teach(store, classifier, BEAR, ["a"], [LabelledCrop(bear)])
    say(store, classifier, "none", [cv2.GaussianBlur(bear, (9, 9), 0)])

    assert classifier.classify([np.roll(bear, 1, axis=1)], store.load(classifier).memory)[0].label == "bear"


def test_a_frame_can_not_be_both_and_the_earlier_word_must_be_taken_back(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    bear = demo_animals["bear"]
    teach(store, classifier, BEAR, ["a"], [LabelledCrop(bear)])
    with pytest.raises(TeachError, match="a: was taught as bear; take that back first"):
        say(store, classifier, "none", [bear])
    say(store, classifier, "none", [demo_animals["caribou"]])
    with pytest.raises(TeachError, match="a: was said to be no bear; take that back first"):
        teach(store, classifier, BEAR, ["a"], [LabelledCrop(demo_animals["caribou"])])
    with pytest.raises(ConfigError, match="no class 'unicorn' is taught"):
        say(store, classifier, "unicorn", [bear])


def test_a_word_that_costs_checked_frames_is_held_back_and_one_on_a_forgotten_class_is_gone(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, tmp_path: Path
) -> None:
    checked = GoldenSet(tmp_path / "golden")
    bear = demo_animals["bear"]
    checked.add("bear", [("checked", LabelledCrop(np.roll(bear, 5, axis=1)))], classifier)
    told = refute(store, classifier, "bear", ["a"], [LabelledCrop(bear)], checked_on=checked)
    checked.close()

    assert told.held_back is not None
    assert store.refuted() == {}
    store.rollback(told.version)
    assert list(store.refuted()) == ["bear"]
    store.forget("bear")
    assert store.refuted() == {}


def test_a_store_of_the_format_before_is_taken_up(tmp_path: Path, classifier: Classifier) -> None:
    with sqlite3.connect(tmp_path / FILE) as db:
        db.executescript(SCHEMA)
        db.execute("INSERT INTO version VALUES (1, '2026-11-23T10:00:00Z', NULL, 'of old')")
        db.execute("INSERT INTO active VALUES (1, 1)")
        db.execute("PRAGMA user_version = 1")
    db.close()

    opened = ClassSetStore(tmp_path)

    assert [record.reason for record in opened.versions()] == ["of old"]
    assert opened.negatives(classifier) == {}
    opened.close()
