"""The genetic meta-learner: a population of heads on a site's own pictures, no gradients.

It moves the few numbers that say how the head learns and decides: step sizes, decay and norm bound of Meta-Gradient
Descent, temperature, the gates that fuse, and how sure *none* must be. What it judges by has no gradient: accuracy,
AUROC and calibration error of whole episodes.

References:
    Blank and Deb 2020, "pymoo", https://doi.org/10.1109/ACCESS.2020.2990567
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.problem import ElementwiseProblem
from pymoo.optimize import minimize
from torch import Tensor

from adapters.encoder import Encoder
from adapters.evaluation.figures import auroc
from adapters.knowledge import KnowledgeBase
from adapters.runtime import MODELS, SHIPPED, STARTER, copy_models, read_verified, write_manifest
from adapters.training.attention import Head
from adapters.training.bank import Bank, EncodeViews, Material, fill
from adapters.training.calibration import calibration_error
from adapters.training.descent import N_STEPS
from adapters.training.episodes import Episode
from adapters.training.export import deployed_head, export_head
from adapters.training.meta_train import validation_episodes
from adapters.training.site_pictures import site_pictures
from adapters.workers import Here, Say

FACTORS = ("decay", "norm bound", "temperature", "gate of regions", "gate of descent")  # powers of two around what is
N_GENES = N_STEPS + len(FACTORS) + 1  # the last one shifts *none*
LEAST_PICTURES = 12  # of a class: five shots and a query in each half

Genome = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Breeding:
    """How long and how wide to search."""

    generations: int = 10
    population: int = 24
    episodes: int = 40
    seed: int = 20261123


@dataclass(frozen=True, kw_only=True)
class Evolved:
    """Accuracy, AUROC (per cent) and calibration error on pictures that the search did not see, before and after."""

    before: dict[str, float]
    after: dict[str, float]
    kept: bool


def evolve(images: Path, out: Path, breeding: Breeding, *, models: Path = MODELS, say: Say = print) -> Evolved:
    """Search on one half of each class's pictures, judge on the other, and write a model folder where that gained.

    Args:
        images: a folder of class folders.
        out: receives a whole model folder, or nothing.
        breeding: size of the search.
        models: where to start.
        say: called with a line a generation.

    Raises:
        InputError: too few classes or pictures, or a picture that can't be read.
    """
    head, mkey, mu = _deployed(models)
    with TemporaryDirectory() as folder:
        halves = _halves(images, Path(folder), Encoder(models), breeding.seed, say)
        searched, judged = (validation_episodes(bank, breeding.episodes, breeding.seed, 0) for bank in halves)
    problem = _Search(head, searched, mkey, mu)
    start = np.vstack([np.zeros(N_GENES), np.random.default_rng(breeding.seed).normal(0, 0.4, (99, N_GENES))])
    result = minimize(
        problem,
        GA(pop_size=breeding.population, sampling=start[: breeding.population].clip(-2, 2)),
        ("n_gen", breeding.generations),
        seed=breeding.seed,
        callback=lambda algorithm: say(
            f"generation {algorithm.n_gen}/{breeding.generations}: best {-algorithm.pop.get('F').min():.2f}"
        ),
    )
    better = express(head, result.X)
    before, after = (figures(judge, judged, mkey, mu) for judge in (head, better))
    kept = fitness(after) > fitness(before)
    if kept:
        copy_models(models, out)
        (out / STARTER).write_bytes(read_verified(models, STARTER))
        export_head(better, out, progress=say)
        write_manifest(out, SHIPPED)
    return Evolved(before=before, after=after, kept=kept)


def express(head: Head, genome: Genome) -> Head:
    """Return the head that a genome describes; zeros describe the head itself."""
    child = copy.deepcopy(head).requires_grad_(requires_grad=False)
    adapt, match = child.adapt, child.match
    factors = torch.from_numpy(np.exp2(genome[:-1])).float()
    adapt.descend.step_sizes.mul_(factors[:N_STEPS])
    moved = (adapt.descend.decay, adapt.descend.norm_bound, adapt.temperature, match.gate_local, match.gate_linear)
    for value, factor in zip(moved, factors[N_STEPS:], strict=True):
        value.mul_(factor)
    match.calibration[2] += float(genome[-1])
    return child


@torch.no_grad()
def figures(head: Head, episodes: list[Episode], mkey: Tensor, mu: Tensor) -> dict[str, float]:
    """Return accuracy and AUROC in per cent and the calibration error of a head on episodes."""
    right, known, weighed, targets = [], [], [], []
    for episode in episodes:
        memory = head.adapt(episode.tok, episode.glob, episode.mask, episode.neg, mkey, mu)
        logit, none, _, _ = head.match.logits(episode.query_tok, episode.query_glob, memory, mkey, mu)
        taught = episode.target < logit.shape[1]
        right += (logit.argmax(dim=1) == episode.target)[taught].tolist()
        margin = (logit - none).amax(dim=1)
        known.append(auroc(margin[taught].numpy(), margin[~taught].numpy()))
        weighed.append(torch.cat([logit, none], dim=1))
        targets.append(episode.target)
    error = calibration_error(torch.cat(weighed), torch.cat(targets))
    return {"accuracy": 100 * float(np.mean(right)), "auroc": 100 * float(np.mean(known)), "ece": error}


def fitness(told: dict[str, float]) -> float:
    """Return what the search makes as large as it can; a point of calibration error weighs like one of accuracy."""
    return told["accuracy"] + told["auroc"] - 100 * told["ece"]


class _Search(ElementwiseProblem):  # type: ignore[misc]  # pymoo has no types
    def __init__(self, head: Head, episodes: list[Episode], mkey: Tensor, mu: Tensor) -> None:
        super().__init__(n_var=N_GENES, n_obj=1, xl=-2.0, xu=2.0)
        self._head, self._episodes, self._mkey, self._mu = head, episodes, mkey, mu

    def _evaluate(self, x: Genome, out: dict[str, Any], *_: object, **__: object) -> None:
        out["F"] = -fitness(figures(express(self._head, x), self._episodes, self._mkey, self._mu))


def _deployed(models: Path) -> tuple[Head, Tensor, Tensor]:
    knowledge = KnowledgeBase.load(models)
    return deployed_head(models), torch.from_numpy(knowledge.keys), torch.from_numpy(knowledge.mu)


def _halves(images: Path, folder: Path, encode: Encoder, seed: int, say: Say) -> tuple[Bank, Bank]:
    rng = np.random.default_rng((seed, 21))
    site = site_pictures(
        images,
        rng,
        least=LEAST_PICTURES,
        purpose="evolving",
        why_two="evolving needs 2 or more, some to teach and some as strangers",
    )
    banks = []
    for name, first in (("searched", 0), ("judged", 1)):
        half = [(row, label) for label, rows in enumerate(site.shuffled) for row in rows[first::2]]
        pictures, labels = site.read(half)
        material = Material(list(pictures), labels, list(site.pool.classes))
        banks.append(fill(material, folder / name, EncodeViews(encode, seed), {}, Here(), say))
    return banks[0], banks[1]
