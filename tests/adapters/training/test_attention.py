"""The head in torch: what it is before training, what its parts do, and that the graphs are the same function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor

from adapters.runtime import ADAPT, MATCH, MODELS
from adapters.training.attention import Head, HeadStatistics, unit
from adapters.training.descent import MetaGradientDescent
from adapters.training.export import deployed_head, export_adapt, export_match
from adapters.training.gradient_reversal import DomainCritic, ReverseGradient
from adapters.training.losses import per_class_cross_entropy


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def support(classes: int, shots: int, seed: int = 1) -> tuple[Tensor, ...]:
    """tok, glob, mask, neg, mkey, mu."""
    return (
        noise(classes, shots, 49, 320, seed=seed),
        noise(classes, shots, 1280, seed=seed).abs(),
        torch.ones(classes, shots),
        torch.zeros(1, 1280),
        unit(noise(30, 192)),
        noise(1280, seed=9).abs(),
    )


@pytest.fixture(scope="module")
def trained() -> Head:
    return deployed_head(MODELS)


@torch.no_grad()
def test_the_untrained_head_is_nearest_centroid_on_centred_features(statistics: HeadStatistics) -> None:
    """SimpleShot (Wang et al. 2019), written out, to 1e-5."""
    head, given = Head(statistics).eval(), support(5, 3)
    tok, glob = noise(7, 49, 320), noise(7, 1280).abs()
    _, vectors, _, _, mkey, mu = given

    logit, none, _, _ = head.match.logits(tok, glob, head.adapt(*given), mkey, mu)

    cosine = unit(glob - mu) @ unit(unit(vectors - mu).mean(dim=1)).T
    assert torch.allclose(logit, 12.0 * cosine, atol=1e-5)
    assert torch.allclose(none, torch.full((7, 1), 12.0 * 0.3), atol=1e-5)


@torch.no_grad()
def test_the_shipped_graphs_compute_what_the_shipped_weights_say(trained: Head) -> None:
    given = support(3, 4)
    memory = trained.adapt(*given)
    query = (noise(2, 49, 320), noise(2, 1280).abs())

    expected = [*memory, *trained.match(*query, *memory, given[4], given[5])]

    adapted = run(MODELS / ADAPT, dict(zip(("tok", "glob", "mask", "neg", "mkey", "mu"), given, strict=True)))
    names = ("tok", "glob", "Z", "proto", "W", "b", "none", "shots", "key", "mkey", "mu")
    inputs = dict(zip(names, (*query, *map(torch.from_numpy, adapted), given[4], given[5]), strict=True))
    for ours, theirs in zip(expected, [*adapted, *run(MODELS / MATCH, inputs)], strict=True):
        assert np.allclose(ours.numpy(), theirs, atol=1e-4)


def run(path: Path, inputs: dict[str, Tensor]) -> list[np.ndarray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})


def test_exported_graphs_agree_with_torch_at_several_sizes(trained: Head, tmp_path: Path) -> None:
    assert export_adapt(trained.adapt, tmp_path / ADAPT) < 1e-4  # one class and one shot are among the sizes
    assert export_match(trained.match, tmp_path / MATCH) < 1e-4


@torch.no_grad()
def test_meta_gradient_descent_lowers_the_loss_of_the_support_set(statistics: HeadStatistics) -> None:
    head, (_, glob, mask, neg, _, mu) = Head(statistics).eval(), support(4, 5)
    vectors, descend = head.adapt.metric(glob, mu), head.adapt.descend
    proto, bias = unit(vectors.mean(dim=1)), torch.tensor(-3.6)

    weight, shifted = descend(vectors, mask, neg, proto, head.adapt.temperature, bias)

    target = torch.arange(4).repeat_interleave(5)
    flat = vectors.reshape(20, -1)
    before = per_class_cross_entropy(12.0 * flat @ proto.T + bias, torch.zeros(20, 1), target)
    after = per_class_cross_entropy(flat @ weight.T + shifted, torch.zeros(20, 1), target)
    assert after < before
    assert (weight.norm(dim=1) <= 12.0 * descend.norm_bound + 1e-3).all()


def test_the_gradient_is_reversed_and_scaled() -> None:
    x = torch.ones(3, requires_grad=True)

    ReverseGradient.apply(x, 0.25).sum().backward()

    assert torch.equal(x.grad, torch.full((3,), -0.25))
    assert DomainCritic(16)(torch.randn(4, 16), 1.0).shape == (4, 8)


def test_per_class_cross_entropy_is_the_written_formula() -> None:
    logit, none = torch.tensor([[2.0, -1.0], [0.5, 1.0], [0.0, 0.0]]), torch.tensor([[0.0], [0.5], [1.0]])
    target = torch.tensor([0, 1, 2])  # the last one shows neither

    p = torch.sigmoid(logit - none)
    expected = [
        0.5 * (-torch.log(p[own, c]) - 0.5 * sum(torch.log(1 - p[other, c]) for other in others))
        for c, own, others in ((0, 0, (1, 2)), (1, 1, (0, 2)))
    ]
    assert torch.allclose(per_class_cross_entropy(logit, none, target), sum(expected) / 2)


@torch.no_grad()
def test_hard_attention_keeps_the_same_number_of_tokens_of_every_crop(trained: Head) -> None:
    keys = trained.adapt.project(noise(6, 49, 320))

    kept = trained.match.keep(keys, noise(6, 49), noise(6, 49))

    assert kept.sum(dim=1).tolist() == [24.0] * 6


def test_the_first_order_descent_answers_alike_and_learns_otherwise() -> None:
    vectors, mask = unit(noise(3, 2, 16)), torch.ones(3, 2)
    proto = unit(vectors.mean(dim=1))
    answers, gradients = [], []
    for first_order in (False, True):
        start = vectors.clone().requires_grad_()
        descend = MetaGradientDescent(16, first_order=first_order)
        weight, bias = descend(start, mask, torch.zeros(1, 16), proto, torch.tensor(10.0), torch.tensor(-3.0))
        (weight.square().sum() + bias.sum()).backward()
        answers.append(weight.detach())
        gradients.append(0.0 if start.grad is None else float(start.grad.abs().max()))

    assert torch.equal(*answers)
    assert gradients[0] > 0
    assert gradients[1] == 0  # the steps count as constants


def test_a_class_whose_gradient_has_vanished_takes_no_further_step() -> None:
    descend, proto = MetaGradientDescent(16), torch.zeros(1, 16)
    with torch.no_grad():
        descend.decay.zero_()
        weight, bias = descend(
            torch.zeros(1, 1, 16), torch.ones(1, 1), torch.zeros(1, 16), proto, torch.tensor(10.0), torch.tensor(-3.0)
        )

    assert float(weight.abs().max()) == 0
    assert float(bias) == -3.0
