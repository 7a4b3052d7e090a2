"""Train the backbone to see through a bad camera: `wildlane model train`.

The frozen pretrained network is the teacher. It sees the clean crop; the student sees the same crop as a roadside
camera would deliver it, and must give the teacher's features. Beside that: the right picture among the others of the
batch, an episode of all training classes at once (teacher's prototypes, student's queries), and a domain critic behind
a Gradient Reversal Layer.

It goes in rounds: after each, the weights turn back a part of the way to the pretrained ones. What helps is learned
again in a few hundred steps, what was only learned by heart is not. Only the first blocks learn: a bad camera changes
what they see, while the last ones, with most of the weights, would learn the training classes by heart.

References:
    Hinton et al. 2015, https://arxiv.org/abs/1503.02531 (distillation)
    Wortsman et al. 2022, https://arxiv.org/abs/2109.01903 (averaging with the original weights)
    Lee et al. 2023, https://arxiv.org/abs/2210.11466 (only the first layers, for corrupted inputs)
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom
from torch import Tensor

from adapters.encoder import Encoder
from adapters.errors import InputError
from adapters.runtime import PRETRAINED, write_manifest
from adapters.training import together
from adapters.training.attention import unit
from adapters.training.averaging import average
from adapters.training.backbone import LITE1, EfficientNetLite, folded_lite, load_backbone
from adapters.training.checkpoint import log_step, resume, save, save_weights
from adapters.training.domains import DOMAIN_SHARES, DOMAINS, Picture, random_square, shoot
from adapters.training.export import export_encode
from adapters.training.gradient_reversal import DomainCritic, strength_at
from adapters.training.optimisation import as_numbers, begin, move_average, one_cycle, take_step
from adapters.training.pictures import read_for_training
from adapters.training.splits import class_folders
from adapters.workers import Say

WEIGHTS = "trained.safetensors"  # the running mean of the weights
TEACHER, TAUGHT = "teacher", "class_means.npy"
PROTOTYPE_PICTURES = 30  # of a class
# Trained small and used at 224: half the time a step, and a drawn crop shows things larger than they come later
# (Touvron et al. 2019, https://arxiv.org/abs/1906.06423).
TRAIN_PX = 160


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every number of the training, with its reason."""

    seed: int = 20261125
    start: str = ""  # SHA-256 of the weights that it goes on from; empty for the pretrained ones
    steps: int = 6000
    classes_a_batch: int = 8  # drawn by class, or the few pictures of the species would drown in mini-ImageNet's
    pictures_a_class: int = 3
    small_picture_share: float = 0.35  # of the classes in a batch: mini-ImageNet's 84 px can't teach what is crisp
    crop_share: float = 0.4  # smallest side of a crop: a patient teacher sees ever new crops (Beyer et al. 2022)
    trained_blocks: int = 14  # of 21; what comes later would learn the few training classes by heart
    round_steps: int = 800
    turned_back: float = 0.25  # of the way to the pretrained weights, after each round
    peak_rate: float = 2e-4  # AdamW, one cycle a round
    warm_up: float = 0.05  # share of a round
    weight_decay: float = 0.0  # pulls towards zero, not towards what was pretrained
    clean_share: float = 0.2  # of the views: what was known must not be lost
    match_weight: float = 0.3  # the right picture among the batch
    token_weight: float = 0.5
    episode_weight: float = 0.4  # what makes new classes easier to tell apart, at the cost of a looser fit
    domain_weight: float = 0.02  # of the critic's reversed gradient; more costs accuracy
    match_temperature: float = 0.07
    episode_temperature: float = 16.0  # multiplies the cosine
    average_decay: float = 0.99  # of the running mean of the weights
    checkpoint_every: int = 100
    threads: int = 2


@dataclass(frozen=True)
class Batch:
    """Clean crops for the teacher, the same crops through bad cameras for the student, classes and domains (B,)."""

    clean: list[Picture]
    shot: Tensor
    labels: Tensor
    domains: Tensor


class Pictures:
    """All training pictures in memory, by class; every batch depends on the seed and its number alone."""

    def __init__(self, data: Path, recipe: Recipe) -> None:
        large = class_folders(data, "species", "train") + class_folders(data, "caltech-animals", "train")
        small = class_folders(data, "mini-imagenet", "train")
        if not large or not small:
            raise InputError(f"{data}: no training classes under images/species or images/mini-imagenet/train")
        for folder in large + small:
            if len(folder.pictures) < recipe.pictures_a_class:
                raise InputError(
                    f"{data}: class {folder.name} has {len(folder.pictures)} pictures, "
                    f"training needs {recipe.pictures_a_class}"
                )
        self.classes = [[read_for_training(path) for path in folder.pictures] for folder in large + small]
        share = recipe.small_picture_share
        self._chance = np.repeat([(1 - share) / len(large), share / len(small)], [len(large), len(small)])
        self._recipe = recipe
        self.count = sum(len(pictures) for pictures in self.classes)

    def batch(self, number: int) -> Batch:
        """Return a batch by its number."""
        rng, recipe = np.random.default_rng((self._recipe.seed, number)), self._recipe
        clean, shot, labels, domains = [], [], [], []
        for label in rng.choice(len(self.classes), recipe.classes_a_batch, replace=False, p=self._chance):
            for row in rng.choice(len(self.classes[label]), recipe.pictures_a_class, replace=False):
                crop = random_square(self.classes[label][row], rng, share=(recipe.crop_share, 1.0))
                crop = crop[:, ::-1].copy() if rng.random() < 0.5 else crop
                domain = 0 if rng.random() < recipe.clean_share else int(rng.choice(len(DOMAINS), p=DOMAIN_SHARES))
                clean.append(shoot(crop, "clean", rng))
                shot.append(shoot(crop, DOMAINS[domain], rng))
                labels.append(int(label))
                domains.append(domain)
        prepare = replace(EfficientNetLite.preprocessing, input_px=TRAIN_PX)
        seen = torch.from_numpy(prepare(shot)).to(memory_format=torch.channels_last)  # which the CPU likes best
        return Batch(clean, seen, torch.tensor(labels), torch.tensor(domains))


def pretrained_encoder(folder: Path, threads: int) -> Encoder:
    """Return the network before our training, from a folder that it is written to where it isn't there yet."""
    if not (folder / PRETRAINED).exists():
        folder.mkdir(parents=True, exist_ok=True)
        export_encode(load_backbone(LITE1), folder / PRETRAINED, any_size=True)
        write_manifest(folder, [PRETRAINED])
    return Encoder(folder, PRETRAINED, device="cpu", threads=threads)  # three times as fast as torch here


class Teacher:
    """The frozen pretrained network, and where it sees the training classes.

    Attributes:
        mu: mean pooled vector, float32 (d_pooled,); centres student and teacher.
        prototypes: unit mean of each class's centred pooled vectors, float32 (C, d_pooled).
    """

    def __init__(self, folder: Path, classes: list[list[Picture]], threads: int) -> None:
        self._encode = pretrained_encoder(folder, threads)
        if not (folder / TAUGHT).exists():
            means = [self._encode(pictures[:PROTOTYPE_PICTURES]).glob.mean(axis=0) for pictures in classes]
            np.save(folder / TAUGHT, np.stack(means))
        means = torch.from_numpy(np.load(folder / TAUGHT, allow_pickle=False))
        self.mu = means.mean(dim=0)
        self.prototypes = unit(means - self.mu)
        self._encode.prepare = replace(self._encode.prepare, input_px=TRAIN_PX)

    def __call__(self, crops: list[Picture]) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T, d_token) and pooled vectors (B, d_pooled) of crops at `TRAIN_PX`."""
        seen = self._encode(crops)
        return torch.from_numpy(seen.tok), torch.from_numpy(seen.glob)


class Training:
    """Student, teacher, critic, optimiser and average, and the step that moves them."""

    def __init__(self, recipe: Recipe, teacher: Teacher, start: Path | None) -> None:
        begin(recipe.seed, recipe.threads)
        self.recipe, self.teacher, self.step = recipe, teacher, 0
        self._pretrained = folded_lite().state_dict()
        self.student = folded_lite(start).to(memory_format=torch.channels_last)
        self.average = folded_lite(start).requires_grad_(requires_grad=False)
        self.critic = DomainCritic(self.student.d_pooled)
        self.parts = {"student": self.student, "average": self.average, "critic": self.critic}
        self.student.requires_grad_(requires_grad=False)
        seeing = (self.student.stem, self.student.blocks[: recipe.trained_blocks])
        trained = [value.requires_grad_() for part in seeing for value in part.parameters()]
        self.optimiser = torch.optim.AdamW(
            [{"params": trained}, {"params": self.critic.parameters()}],
            lr=recipe.peak_rate,
            weight_decay=recipe.weight_decay,
        )

    def advance(self, batch: Batch) -> dict[str, float]:
        """Take one step and return its losses."""
        recipe, step_of_round = self.recipe, self.step % self.recipe.round_steps
        if self.step > 0 and step_of_round == 0:
            self._turn_back()
        losses = self.losses(batch, self.step / recipe.steps)
        rate = recipe.peak_rate * one_cycle(step_of_round / recipe.round_steps, recipe.warm_up)
        take_step(self.optimiser, losses, rate=rate, clipped=self.student, most_norm=5.0)
        self.step += 1
        move_average(self.average, self.student, self.recipe.average_decay, self.step)
        return as_numbers(losses)

    def _turn_back(self) -> None:
        """Begin a round: from the running mean of the last one, moved towards the pretrained weights."""
        kept = 1 - self.recipe.turned_back
        weights = average(self._pretrained, self.average.state_dict(), (kept, kept))
        for network in (self.student, self.average):
            network.load_state_dict(weights)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the weighted losses by name."""
        recipe, mu = self.recipe, self.teacher.mu
        taught_tokens, taught = self.teacher(batch.clean)
        tokens, pooled = self.student(batch.shot)
        goal, seen = unit(taught - mu), unit(pooled - mu)  # (B, d_pooled)
        return {
            "feature": (1 - (goal * seen).sum(dim=1)).mean(),
            "token": recipe.token_weight * (1 - F.cosine_similarity(tokens, taught_tokens, dim=2)).mean(),
            "match": recipe.match_weight
            * F.cross_entropy(seen @ goal.T / recipe.match_temperature, torch.arange(len(seen))),
            "episode": recipe.episode_weight
            * F.cross_entropy(recipe.episode_temperature * seen @ self.teacher.prototypes.T, batch.labels),
            "domain": recipe.domain_weight * F.cross_entropy(self.critic(seen, strength_at(progress)), batch.domains),
        }


def train(data: Path, out: Path, recipe: Recipe, start: Path | None = None, say: Say = print) -> Path:
    """Train, or go on where a killed run stopped, and return the file of the averaged weights.

    Args:
        data: folder with images/.
        out: folder for checkpoint, log and result.
        recipe: every number of it.
        start: weights to go on from, as an earlier training wrote them; default the pretrained ones.
        say: called with a line now and then.

    Raises:
        InputError: no training pictures, or a checkpoint of another recipe.
    """
    if start is not None:
        recipe = replace(recipe, start=hashlib.sha256(start.read_bytes()).hexdigest())
    pictures = Pictures(data, recipe)
    out.mkdir(parents=True, exist_ok=True)
    with together.first_alone():
        teacher = Teacher(out / TEACHER, pictures.classes, recipe.threads)
    training = Training(recipe, teacher, start)
    training.step = resume(out, training.parts, training.optimiser, asdict(recipe))
    say(f"{pictures.count} pictures; from step {training.step} to {recipe.steps}")
    started, first = time.monotonic(), training.step
    for losses in _steps(training, pictures, out):
        if training.step % 20 == 0:
            a_step_s = (time.monotonic() - started) / (training.step - first)
            told = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            left_min = a_step_s * (recipe.steps - training.step) / 60
            say(f"step {training.step}/{recipe.steps}  {told}  {a_step_s:.2f} s a step, {left_min:.0f} min left")
    if together.rank() == 0:
        facts = {"recipe": json.dumps(asdict(recipe)), "backbone": LITE1, "processes": str(together.size())}
        save_weights(out / WEIGHTS, training.average.state_dict(), facts)
    return out / WEIGHTS


def _steps(training: Training, pictures: Pictures, out: Path) -> Iterator[dict[str, float]]:
    while training.step < training.recipe.steps:
        losses = training.advance(pictures.batch(together.batch_number(training.step)))
        if together.rank() == 0:
            log_step(out, training.step, losses)
        if training.step % training.recipe.checkpoint_every == 0 and together.rank() == 0:
            save(out, training.parts, training.optimiser, training.step, asdict(training.recipe))
        yield losses
