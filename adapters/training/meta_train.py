"""Meta-train the head on episodes.

The encoder is frozen; the head practises learning classes from a few features, with distractors, wrong labels and
mixed domains, and is kept where it does best on the tuning classes.
"""

from __future__ import annotations

import copy
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom
from numpy.random import Generator
from torch import Tensor, nn

from adapters.evaluation.figures import auroc
from adapters.training import together
from adapters.training.attention import Head, HeadStatistics, unit
from adapters.training.bank import CLEAN_VIEWS, N_VIEWS, Bank
from adapters.training.checkpoint import log_step, resume, save, save_weights
from adapters.training.episodes import Episode, Sampler, WeakPoints
from adapters.training.gradient_reversal import DomainCritic, strength_at
from adapters.training.losses import (
    distribution_cross_entropy,
    naming_cross_entropy,
    per_class_cross_entropy,
    region_overlap,
)
from adapters.training.optimisation import as_numbers, begin, move_average, one_cycle, take_step
from adapters.workers import Say

WEIGHTS = "head.safetensors"
PARTS = ("regions", "knowledge", "descent", "hard-attention", "reversal", "metric")  # what an ablation leaves out


@dataclass(frozen=True, kw_only=True)
class HeadRecipe:
    """Every number of the meta-training, with its reason."""

    seed: int = 20261123
    steps: int = 800  # more learns the 107 training classes by heart
    peak_rate: float = 2e-4  # at 1e-3 tuning classes got worse after 250 steps
    gate_rate: float = 10.0  # times the peak rate: gates start at zero and hold everything else back
    warm_up: float = 0.05
    weight_decay: float = 5e-4
    naming_weight: float = 1.0  # among the taught classes; what `evaluate` calls accuracy
    distribution_weight: float = 0.5
    domain_weight: float = 0.1
    overlap_weight: float = 0.05
    norm_weight: float = 1e-3  # of the descended weights: the outer regularisation
    most_reversal: float = 0.3
    average_decay: float = 0.998
    validate_every: int = 100
    validation_episodes: int = 120
    first_order: bool = False  # of the descent's outer gradient
    without: str = ""  # one of PARTS, for the ablation
    threads: int = 2


class MetaTraining:
    """Head, critic, optimiser and average, and the step that moves them."""

    def __init__(self, recipe: HeadRecipe, statistics: HeadStatistics, mu: Tensor, m_tokens: Tensor) -> None:
        begin(recipe.seed, recipe.threads)
        self.recipe, self.mu, self.m_tokens, self.step = recipe, mu, m_tokens, 0
        self.head = Head(statistics, first_order=recipe.first_order).train()
        leave_out(self.head, recipe.without)
        self.average = copy.deepcopy(self.head).eval().requires_grad_(requires_grad=False)
        self.critic = DomainCritic(statistics.projection.shape[1])
        self.parts: dict[str, nn.Module] = {"head": self.head, "average": self.average, "critic": self.critic}
        gates = [value for name, value in self.head.named_parameters() if "gate" in name and value.requires_grad]
        self.head.match.calibration.requires_grad_(requires_grad=False)  # see `calibrate`
        others = [value for name, value in self.head.named_parameters() if "gate" not in name and value.requires_grad]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": gates, "share": recipe.gate_rate, "weight_decay": 0.0},
                {"params": [*others, *self.critic.parameters()]},
            ],
            lr=recipe.peak_rate,
            weight_decay=recipe.weight_decay,
        )

    def advance(self, episode: Episode, weak_points: WeakPoints) -> dict[str, float]:
        """Take one step and return its losses."""
        progress = self.step / self.recipe.steps
        losses, share = self.losses(episode, progress)
        rate = self.recipe.peak_rate * one_cycle(progress, self.recipe.warm_up)
        take_step(self.optimiser, losses, rate=rate, clipped=self.head, most_norm=1.0)
        self.step += 1
        move_average(self.average, self.head, self.recipe.average_decay, self.step)
        weak_points.update(episode, share.numpy())
        return as_numbers(losses)

    def losses(self, episode: Episode, progress: float) -> tuple[dict[str, Tensor], Tensor]:
        """Return the weighted losses by name, and the weight that each query gave to each class (B, C)."""
        recipe, adapt = self.recipe, self.head.adapt
        logit, none_logit, memory = answer(self.head, episode, self.mu, self.m_tokens)
        pooled = unit(adapt.project(episode.query_tok).mean(dim=1))  # (B, k)
        strength = min(recipe.most_reversal, strength_at(progress))
        domain_weight = 0.0 if recipe.without == "reversal" else recipe.domain_weight
        losses = {
            "class": per_class_cross_entropy(logit, none_logit, episode.target),
            "distribution": recipe.distribution_weight * distribution_cross_entropy(logit, none_logit, episode.target),
            "naming": recipe.naming_weight * naming_cross_entropy(logit, episode.target),
            "domain": domain_weight * F.cross_entropy(self.critic(pooled, strength), episode.domains),
            "overlap": recipe.overlap_weight * region_overlap(adapt.partition.queries),
            "norm": recipe.norm_weight * (memory[2] / adapt.temperature).square().sum(dim=1).mean(),
        }
        return losses, torch.softmax(logit.detach(), dim=1)


class Practice(nn.Module):
    """What a checkpoint keeps beside the networks: the weak points, whose memory it shares, and the best score."""

    def __init__(self, weak_points: WeakPoints) -> None:
        super().__init__()
        self.register_buffer("confusion", torch.from_numpy(weak_points.confusion))
        self.register_buffer("by_domain", torch.from_numpy(weak_points.by_domain))
        self.register_buffer("best", torch.tensor(-1.0, dtype=torch.float64))


def leave_out(head: Head, part: str) -> None:
    """Hold a part of the head at its start, where it does nothing."""
    adapt, match = head.adapt, head.match
    gates = {
        "regions": [match.gate_local],
        "knowledge": [adapt.exchange.gate_knowledge],
        "descent": [match.gate_linear],
        "metric": [adapt.metric.gate],
    }
    for gate in gates.get(part, []):
        gate.requires_grad_(requires_grad=False)
    match.hard = part != "hard-attention"


def answer(head: Head, episode: Episode, mu: Tensor, m_tokens: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Return logits of the classes (B, C), of *none* (B, 1), and the class memory of an episode."""
    mkey = head.adapt.project(m_tokens[episode.m_rows])
    memory = head.adapt(episode.tok, episode.glob, episode.mask, episode.neg, mkey, mu)
    logit, none_logit, _, _ = head.match.logits(episode.query_tok, episode.query_glob, memory, mkey, mu)
    return logit, none_logit, memory


def validation_episodes(
    bank: Bank, count: int, seed: int, n_m_rows: int, shots: tuple[int, ...] = (5, 1)
) -> list[Episode]:
    """Return fixed episodes of a bank: clean support of these shots in turn, queries in every view, half unknown.

    They are 5-way where there are ten classes, else half of the classes are taught. They see all rows of the knowledge
    base, since none of those is a tuning class.
    """
    rng = np.random.default_rng((seed, 3))
    m_rows = torch.arange(n_m_rows)
    return [_validation_episode(bank, shots[number % len(shots)], m_rows, rng) for number in range(count)]


def _validation_episode(bank: Bank, shots: int, m_rows: Tensor, rng: Generator) -> Episode:
    ways = min(5, len(bank.taught) // 2)
    order = rng.choice(bank.taught, 2 * ways, replace=False)
    rows = [rng.permutation(bank.members[number]) for number in order]
    support = np.stack([r[:shots] for r in rows[:ways]])
    asked = [r[shots : shots + 10] for r in rows]
    queries = np.concatenate(asked)
    views = rng.integers(0, N_VIEWS, len(queries))
    views_taught = np.tile(np.arange(CLEAN_VIEWS), support.shape)
    tok, glob = bank.features(support.repeat(CLEAN_VIEWS, axis=1), views_taught)
    query_tok, query_glob = bank.features(queries, views)
    return Episode(
        tok=tok,
        glob=glob,
        mask=torch.ones(views_taught.shape),
        neg=torch.zeros(1, bank.glob.shape[2]),
        query_tok=query_tok,
        query_glob=query_glob,
        target=torch.from_numpy(np.repeat(np.minimum(np.arange(2 * ways), ways), [len(r) for r in asked])),
        domains=torch.from_numpy(views >= CLEAN_VIEWS).long(),
        m_rows=m_rows,
        classes=order[:ways],
    )


@torch.no_grad()
def validate(head: Head, episodes: list[Episode], mu: Tensor, m_tokens: Tensor) -> dict[str, float]:
    """Return accuracy and AUROC in per cent, on clean and on degraded queries, and their mean as `score`.

    Who learns together shares the episodes out; each gets the figures of all.
    """
    names = ("clean", "degraded", "1-shot", "5-shot", "auroc")
    told = torch.zeros(len(names), 2, dtype=torch.float64)  # sum and count

    def count(name: str, values: Tensor) -> None:
        told[names.index(name)] += torch.tensor([values.double().sum(), len(values)])

    for episode in episodes[together.rank() :: together.size()]:
        logit, none_logit, _ = answer(head, episode, mu, m_tokens)
        taught = episode.target < logit.shape[1]
        hit = (logit.argmax(dim=1) == episode.target)[taught]
        degraded = episode.domains[taught].bool()
        count("clean", hit[~degraded])
        count("degraded", hit[degraded])
        count(f"{episode.tok.shape[1] // CLEAN_VIEWS}-shot", hit)
        margin = (logit - none_logit).amax(dim=1)
        count("auroc", torch.tensor([auroc(margin[taught].numpy(), margin[~taught].numpy())]))
    sums, counts = together.add_up(told).T
    figures = dict(zip(names, (100 * sums / counts).tolist(), strict=True))
    return figures | {"score": (figures["clean"] + figures["degraded"] + figures["auroc"]) / 3}


def class_tokens(bank: Bank) -> Tensor:
    """Return the mean clean token of each taught class (M, d_token): the knowledge base before projection."""
    means = [bank.tok[bank.members[number], 0].astype(np.float32).mean(axis=(0, 1)) for number in bank.taught]
    return torch.from_numpy(np.stack(means))


def train_head(
    banks: tuple[Bank, Bank],
    out: Path,
    recipe: HeadRecipe,
    statistics: HeadStatistics,
    mu: Tensor,
    *,
    say: Say = print,
) -> Path:
    """Meta-train, or go on where a killed run stopped, and return the file of the best averaged weights.

    Args:
        banks: features of training and of tuning classes.
        out: folder for checkpoint, log and result.
        recipe: every number of it.
        statistics: what the head starts from.
        mu: centring vector (d,).
        say: called with a line now and then.
    """
    out.mkdir(parents=True, exist_ok=True)
    train, tune = banks
    training = MetaTraining(recipe, statistics, mu, class_tokens(train))
    weak_points = WeakPoints(len(train.classes))
    training.parts["practice"] = practice = Practice(weak_points)
    training.step = resume(out, training.parts, training.optimiser, asdict(recipe))
    judge = validation_episodes(tune, recipe.validation_episodes, recipe.seed, len(training.m_tokens))
    sampler = Sampler(train, weak_points)
    started, first = time.monotonic(), training.step
    while training.step <= recipe.steps:
        if training.step % recipe.validate_every == 0:
            _validate_and_save(training, judge, practice, out, say)
            a_step_s = (time.monotonic() - started) / max(1, training.step - first)
            say(f"    {a_step_s:.3f} s a step, {a_step_s * (recipe.steps - training.step) / 60:.0f} min left")
        if training.step == recipe.steps:
            break
        episode = sampler.draw(np.random.default_rng((recipe.seed, together.batch_number(training.step))))
        losses = training.advance(episode, weak_points)
        if together.rank() == 0:
            log_step(out, training.step, losses)
    for shown, taken_for, share in weak_points.worst(train.classes):
        say(f"weak point: {shown} is taken for {taken_for} with weight {share:.2f}")
    return out / WEIGHTS


def _validate_and_save(training: MetaTraining, judge: list[Episode], practice: Practice, out: Path, say: Say) -> None:
    figures = validate(training.average, judge, training.mu, training.m_tokens)
    together.average(practice.confusion)  # until now each practised by its own; a checkpoint has one
    together.average(practice.by_domain)
    if together.rank() > 0:
        return
    say(f"step {training.step}/{training.recipe.steps}  " + "  ".join(f"{k} {v:.2f}" for k, v in figures.items()))
    if figures["score"] > practice.best:
        practice.best.fill_(figures["score"])
        facts = {"recipe": json.dumps(asdict(training.recipe)), "processes": str(together.size())}
        facts |= {"step": str(training.step), **_text(figures)}
        save_weights(out / WEIGHTS, training.average.state_dict(), facts)
    save(out, training.parts, training.optimiser, training.step, asdict(training.recipe))


def _text(figures: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.3f}" for name, value in figures.items()}
