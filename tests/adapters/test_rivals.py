"""Other animals beside the taught ones: who may be named."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.classifier import Classifier
from adapters.encoder import Features, unit
from adapters.rivals import Rivals

D = 8
MU = np.zeros(D, np.float32)


def shots(*looks: NDArray[np.float32]) -> Features:
    return Features(np.zeros((len(looks), 1, 1), np.float32), np.stack(looks))


def direction(*parts: float) -> NDArray[np.float32]:
    return unit(np.array([*parts, *[0.0] * (D - len(parts))], np.float32))


DEER, FOX = direction(1, 0, 0), direction(0, 1, 0)
MOOSE, MUSHROOM = direction(0.6, 0, 0.8), direction(0, 0, 0, 1)


def test_what_resembles_another_animal_more_than_a_taught_one_is_behind_it() -> None:
    rivals = Rivals.beside({"deer": shots(DEER, DEER), "fox": shots(FOX)}, np.stack([MOOSE, MUSHROOM]), MU)

    lead = rivals.lead(np.stack([DEER, FOX, direction(0.7, 0, 0.7)]))

    assert lead[0] == pytest.approx([0.4, -0.6], abs=1e-5)
    assert lead[1] == pytest.approx([0.0, 1.0], abs=1e-5)
    assert lead[2, 0] < 0


def test_an_animal_of_the_base_that_is_the_taught_one_is_no_rival_of_it() -> None:
    deer_of_the_base = direction(0.9, 0.1, 0.1)
    rivals = Rivals.beside({"deer": shots(DEER)}, np.stack([deer_of_the_base, MUSHROOM]), MU)

    assert np.array_equal(rivals.others, MUSHROOM[None])
    assert rivals.lead(DEER[None])[0, 0] == pytest.approx(1.0, abs=1e-5)


def test_without_a_rival_everything_leads() -> None:
    rivals = Rivals.beside({"deer": shots(DEER)}, DEER[None], MU)

    assert len(rivals.others) == 0
    assert rivals.lead(np.stack([DEER, FOX])).min() >= 1


def test_the_base_has_animals_of_the_land_and_a_crop_has_a_lead_for_each_taught_class(
    classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    labels = [row.label for row in classifier.knowledge.rows if row.mean is not None]
    crops = list(demo_animals.values())
    features = classifier.encode(crops)
    memory = classifier.adapt({name: features[i : i + 1] for i, name in enumerate(demo_animals)})

    answers = classifier.answer(crops, features, memory)

    assert {"canis-lupus", "puma-concolor"} <= set(labels)
    assert not {"formicidae", "physeter-macrocephalus", "n02091831"} & set(labels)
    assert classifier.knowledge.animals.shape == (len(labels), len(classifier.knowledge.mu))
    for name, answer in zip(demo_animals, answers, strict=True):
        assert set(answer.leads) == set(demo_animals)
        assert max(answer.leads, key=answer.leads.__getitem__) == name
        assert answer.leads[name] > 0.1
