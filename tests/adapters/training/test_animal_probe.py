"""The fit of p(animal)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from adapters.evaluation.figures import auroc
from adapters.training.animal_probe import D_HIDDEN, N_NETWORKS, Probe, evidence, train

D = 16
CLIPS = ("bridge", "yard", "junction")


def pooled(seed: int, count: int, *, animal: bool, shift: float = 0.0) -> NDArray[np.float32]:
    """Positive features whose first four are larger on animals; a clip shifts them all."""
    x = np.random.default_rng((seed, animal)).gamma(2.0, 0.3, (count, D))
    x[:, :4] += 0.5 * animal
    return (x + shift).astype(np.float32)


@pytest.fixture(scope="module")
def probe() -> Probe:
    x = np.concatenate([pooled(0, 150, animal=True), pooled(0, 150, animal=False)])
    probe = Probe(x, np.arange(300) < 150)
    for number, clip in enumerate(CLIPS):
        for animal in (True, False):
            probe.add(clip, pooled(number + 1, 100, animal=animal, shift=0.05 * number), animal=animal)
    return probe


def test_animals_of_a_clip_that_was_left_out_are_told_from_its_road(probe: Probe) -> None:
    fitted = probe.fit(without="yard")
    animals, road = (evidence(fitted, pooled(9, 200, animal=animal, shift=0.05)) for animal in (True, False))

    assert fitted.hidden.shape == (D, N_NETWORKS * D_HIDDEN)
    assert auroc(animals, road) > 0.9


def test_a_clip_that_is_left_out_has_no_say(probe: Probe) -> None:
    misled = Probe(np.concatenate(probe.pooled), np.concatenate(probe.animal))
    misled.clips = [np.concatenate(probe.clips)]
    misled.add("upside down", pooled(7, 2000, animal=True), animal=False)
    query = pooled(9, 50, animal=True)

    assert np.allclose(evidence(misled._fit("upside down"), query), evidence(probe._fit(None), query), atol=1e-4)
    assert evidence(misled._fit(None), query).mean() < evidence(probe._fit(None), query).mean() - 0.5


def test_what_it_says_of_a_road_never_seen_is_a_probability(probe: Probe) -> None:
    fitted = probe.fit(without="junction")
    x = np.concatenate([pooled(11, 500, animal=animal, shift=0.1) for animal in (True, False)])
    p = 1 / (1 + np.exp(-evidence(fitted, x)))
    sure = p > 0.8

    assert np.mean((np.arange(1000) < 500)[sure]) == pytest.approx(p[sure].mean(), abs=0.06)


def test_the_same_crops_give_the_same_weights_and_leave_other_draws_alone(probe: Probe) -> None:
    torch.manual_seed(1)
    first, drawn = train(probe.pooled[0], probe.animal[0]), torch.rand(1)
    torch.manual_seed(1)

    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(first.hidden, train(probe.pooled[0], probe.animal[0]).hidden)
