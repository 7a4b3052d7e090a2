"""p(animal): a small network on the pooled vector, against what roads without animals offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from adapters.encoder import Encoder
from adapters.training.attention import AnimalAtAll, AnimalWeights
from adapters.training.pictures import ROAD_CLIPS, cutouts
from adapters.workers import Say

# chosen by what clips and cut-outs that took no part in a fit are taken for; a logistic regression was worse
N_NETWORKS, D_HIDDEN = 3, 64
DROPOUT, MIXUP, DECAY = 0.5, 0.4, 1e-2
EPOCHS, BATCH, RATE = 10, 256, 1e-3
SEED = 20261127

Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]
RoadCrops = Callable[[Path, Generator], Iterator[Picture]]  # of a clip: what the daemon would crop out of it
CutoutCrops = Callable[[Path, list[Picture], Generator], Iterator[Picture]]  # the same with cut-outs pasted in


class Probe:
    """Collects pooled vectors of animals and of everything else, and fits p(animal).

    References:
        Zhang et al. 2018, "mixup: beyond empirical risk minimization", https://arxiv.org/abs/1710.09412
        Platt 1999, "Probabilistic outputs for support vector machines"
    """

    def __init__(self, pooled: Floats, animal: NDArray[np.bool_]) -> None:
        self.pooled, self.animal = [pooled], [animal]
        self.clips = [np.full(len(pooled), "")]

    def add(self, clip: str, pooled: Floats, *, animal: bool) -> None:
        """Add the pooled vectors of a clip's crops (n, d), all of animals or none."""
        self.pooled.append(pooled)
        self.animal.append(np.full(len(pooled), animal))
        self.clips.append(np.full(len(pooled), clip))

    def fit(self, *, without: str | None = None) -> AnimalWeights:
        """Fit on everything, or on everything but one clip; what it says is a probability on a road never seen."""
        weights = self._fit(without)
        scale, offset = self._calibration
        return weights._replace(out=weights.out * scale, bias=weights.bias * scale + offset)

    def _fit(self, without: str | None) -> AnimalWeights:
        kept = np.concatenate(self.clips) != (without or "no clip")
        return train(np.concatenate(self.pooled)[kept], np.concatenate(self.animal)[kept])

    @cached_property
    def _calibration(self) -> tuple[float, float]:
        """Scale and offset of the evidence, fitted to what each clip is taken for when it took no part in the fit."""
        scores, animal = [], []
        for clip in sorted({str(name) for names in self.clips for name in names} - {""}):
            mine = np.concatenate(self.clips) == clip
            scores.append(evidence(self._fit(clip), np.concatenate(self.pooled)[mine]))
            animal.append(np.concatenate(self.animal)[mine])
        if not scores:
            return 1.0, 0.0
        # animals and others weigh the same, and every clip, however long it is
        weight = np.concatenate([_balanced(kinds) for kinds in animal])
        model = LogisticRegression(C=1e6).fit(np.concatenate(scores)[:, None], np.concatenate(animal), weight)
        return float(model.coef_[0, 0]), float(model.intercept_[0])


def _balanced(animal: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return weights (n,) that sum to one over the animals, and over the others."""
    return np.where(animal, 1 / max(1, animal.sum()), 1 / max(1, (~animal).sum()))


def evidence(weights: AnimalWeights, pooled: Floats) -> Floats:
    """Return the evidence for an animal, a logit, in pooled vectors (n, d), (n,)."""
    with torch.no_grad():
        return AnimalAtAll(weights)(torch.from_numpy(pooled)).numpy()  # type: ignore[no-any-return]  # numpy's own


def train(pooled: Floats, animal: NDArray[np.bool_]) -> AnimalWeights:
    """Train `N_NETWORKS` on pooled vectors (n, d), and return them as one whose answer is the mean of theirs."""
    root = torch.sqrt(torch.from_numpy(pooled) + 1e-6)
    mean, std = root.mean(dim=0), root.std(dim=0) + 1e-3
    share = float(animal.mean())
    weight = torch.from_numpy(np.where(animal, 0.5 / share, 0.5 / (1 - share)).astype(np.float32))
    target = torch.from_numpy(animal.astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        networks = [_network((root - mean) / std, target, weight) for _ in range(N_NETWORKS)]
    hidden, hidden_bias, out, bias = (torch.cat(parts) for parts in zip(*networks, strict=True))
    return AnimalWeights(mean, hidden.T / std.unsqueeze(1), hidden_bias, out / N_NETWORKS, bias.mean())


def _network(x: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Train one network of a hidden layer on mixtures of two examples each; return its weights and biases."""
    hidden, out = nn.Linear(x.shape[1], D_HIDDEN), nn.Linear(D_HIDDEN, 1)
    network = nn.Sequential(nn.Dropout(DROPOUT), hidden, nn.ReLU(), nn.Dropout(DROPOUT), out)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    mixed = torch.distributions.Beta(MIXUP, MIXUP)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            other, share = batch[torch.randperm(len(batch))], mixed.sample()
            logit = network(share * x[batch] + (1 - share) * x[other]).squeeze(1)
            wanted = share * target[batch] + (1 - share) * target[other]
            loss = (F.binary_cross_entropy_with_logits(logit, wanted, reduction="none") * weight[batch]).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimiser.step()
    return hidden.weight.detach(), hidden.bias.detach(), out.weight.detach().squeeze(0), out.bias.detach()


def add_clips(
    probe: Probe,
    encode: Encoder,
    data: Path,
    road_crops: RoadCrops,
    cutout_crops: CutoutCrops,
    rng: Generator,
    say: Say,
) -> None:
    """Add every road clip of the data, as it is and with cut-out animals pasted into it."""
    animals = cutouts(data)
    for name in ROAD_CLIPS:
        path = data / "clips" / name
        probe.add(name, encode(list(road_crops(path, rng))).glob, animal=False)
        probe.add(name, encode(list(cutout_crops(path, animals, rng))).glob, animal=True)
        say(f"p(animal): crops of {name}")
