"""Fine-tune the encoder on a folder of class folders: pretrained, a new last layer, all but the last blocks frozen.

First the new layer alone learns the classes, on augmented pictures; then the last blocks move with it, slowly, held
near the features that they gave before, so that what the head knows and what was taught elsewhere stays true.

References:
    Kumar et al. 2022, https://arxiv.org/abs/2202.10054 (the last layer first, then the rest)
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own custom
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from adapters.classifier import Classifier
from adapters.encoder import joined
from adapters.knowledge import KnowledgeBase
from adapters.runtime import ENCODE, MODELS, SHIPPED, copy_models, file_hash, write_manifest
from adapters.starter import hand_on
from adapters.training.attention import unit
from adapters.training.backbone import EfficientNetLite, deployed_backbone
from adapters.training.domains import DOMAIN_SHARES, DOMAINS, random_square, shoot
from adapters.training.export import export_encode
from adapters.training.optimisation import as_numbers, begin, one_cycle, take_step
from adapters.training.site_pictures import Labelled, site_pictures
from adapters.training.variants import write_variants
from adapters.workers import Say

LEAST_PICTURES = 5  # of a class
HELD_OUT = 0.25  # of each class's pictures: judge, before and after
MOST_SHOTS = 10  # of a class, that judging teaches


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Every number of the fine-tuning."""

    blocks: int = 3  # that move, of 16, counted from the last
    steps: int = 200
    first_steps: float = 0.3  # share of the steps in which the new layer learns alone
    batch: int = 16
    peak_rate: float = 1e-4  # of the blocks; the new layer learns a hundred times as fast
    degraded_share: float = 0.5  # of the views
    keep_weight: float = 1.0  # of staying near the features from before
    temperature: float = 16.0  # multiplies the cosine to the new layer's rows
    seed: int = 20261123
    threads: int = 2


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """Accuracy in per cent on held-out pictures, through the deployed graphs, before and after; and what came of it."""

    before: float
    after: float
    kept: bool


@dataclass(frozen=True)
class Lessons:
    """Pictures and labels (n,) to learn from and to be judged on."""

    classes: tuple[str, ...]
    pictures: list[NDArray[np.uint8]]
    labels: NDArray[np.int64]
    held_pictures: list[NDArray[np.uint8]]
    held_labels: NDArray[np.int64]


def finetune(images: Path, out: Path, tuning: Tuning, *, models: Path = MODELS, say: Say = print) -> Finetuned:
    """Fine-tune, judge on held-out pictures, and write a model folder where that gained; else write nothing.

    Args:
        images: a folder of class folders.
        out: receives a whole model folder. Class memories that name the old encoder are rebuilt from their crops.
        tuning: every number of it.
        models: where to start.
        say: called with a line now and then.

    Raises:
        InputError: too few classes or pictures, or a picture that can't be read.
    """
    begin(tuning.seed, tuning.threads)
    lessons = read_lessons(images, tuning.seed)
    before = held_out_accuracy(models, lessons)
    backbone = _train(deployed_backbone(models), models, lessons, tuning, say)
    with TemporaryDirectory() as folder:
        draft = Path(folder)
        copy_models(models, draft)
        say(f"{ENCODE}: {export_encode(backbone, draft / ENCODE):.1e} from torch")
        write_manifest(draft, [ENCODE])
        write_variants(draft, lessons.pictures, tuning.seed)
        write_manifest(draft, SHIPPED)
        after = held_out_accuracy(draft, lessons)
        kept = after > before
        if kept:
            hand_on(models, draft, file_hash(draft, ENCODE))
            write_manifest(draft, SHIPPED)
            shutil.copytree(draft, out, dirs_exist_ok=True)
    return Finetuned(before=before, after=after, kept=kept)


def read_lessons(images: Path, seed: int) -> Lessons:
    """Read a folder of class folders and hold a part of each class out."""
    rng = np.random.default_rng((seed, 31))
    site = site_pictures(
        images,
        rng,
        least=LEAST_PICTURES,
        purpose="fine-tuning",
        why_two="a new last layer needs 2 or more to tell apart",
    )
    learned: list[Labelled] = []
    held: list[Labelled] = []
    for label, rows in enumerate(site.shuffled):
        count = max(1, round(HELD_OUT * len(rows)))
        held += [(row, label) for row in rows[:count]]
        learned += [(row, label) for row in rows[count:]]
    return Lessons(site.pool.classes, *site.read(learned), *site.read(held))


def held_out_accuracy(models: Path, lessons: Lessons) -> float:
    """Teach the classes to a model folder from pictures learned from, and return its accuracy on those held out.

    Half of the held-out pictures are asked as they are, half as a bad camera shows them.
    """
    classifier = Classifier(models, device="cpu")
    supports = {}
    for label, name in enumerate(lessons.classes):
        shown = [lessons.pictures[i] for i in np.flatnonzero(lessons.labels == label)[:MOST_SHOTS]]
        supports[name] = joined(classifier.encode.shots(shown))
    rng = np.random.default_rng(0)
    asked = [
        picture if number % 2 else _seen_badly(picture, rng) for number, picture in enumerate(lessons.held_pictures)
    ]
    weights = classifier.match(classifier.encode(asked), classifier.adapt(supports))[0]
    return 100 * float((weights[:, :-1].argmax(axis=1) == lessons.held_labels).mean())


def _train(backbone: EfficientNetLite, models: Path, lessons: Lessons, tuning: Tuning, say: Say) -> EfficientNetLite:
    mu = torch.from_numpy(KnowledgeBase.load(models).mu)
    before = copy.deepcopy(backbone).requires_grad_(requires_grad=False)
    last_layer = nn.Linear(backbone.d_pooled, len(lessons.classes), bias=False)
    moving = [*backbone.blocks[-tuning.blocks :].parameters(), *backbone.head.parameters()]
    backbone.requires_grad_(requires_grad=False)
    optimiser = torch.optim.AdamW(
        [{"params": last_layer.parameters(), "share": 100.0}, {"params": moving}],
        lr=tuning.peak_rate,
        weight_decay=0.0,
    )
    for step in range(tuning.steps):
        if step == round(tuning.first_steps * tuning.steps):
            for value in moving:
                value.requires_grad_(requires_grad=True)
        images, labels = _batch(lessons, backbone, tuning, step)
        with torch.no_grad():
            _, kept = before(images)
        _, pooled = backbone(images)
        losses = _losses(pooled, kept, labels, mu, last_layer, tuning)
        rate = tuning.peak_rate * one_cycle(step / tuning.steps, 0.1)
        take_step(optimiser, losses, rate=rate, clipped=last_layer, most_norm=5.0)
        if step % 20 == 19:
            told = " ".join(f"{name} {value:.3f}" for name, value in as_numbers(losses).items())
            say(f"step {step + 1}/{tuning.steps}  {told}")
    return backbone.eval()


def _losses(
    pooled: Tensor, kept: Tensor, labels: Tensor, mu: Tensor, last_layer: nn.Linear, tuning: Tuning
) -> dict[str, Tensor]:
    seen = unit(pooled - mu)
    logit = tuning.temperature * seen @ unit(last_layer.weight).T
    return {
        "classes": F.cross_entropy(logit, labels),
        "keep": tuning.keep_weight * (1 - (seen * unit(kept - mu)).sum(dim=1)).mean(),
    }


def _batch(lessons: Lessons, backbone: EfficientNetLite, tuning: Tuning, step: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng((tuning.seed, 32, step))
    labels, views = [], []
    for label in rng.integers(0, len(lessons.classes), tuning.batch):  # small classes as often as large ones
        row = rng.choice(np.flatnonzero(lessons.labels == label))
        crop = random_square(lessons.pictures[row], rng, share=(0.6, 1.0))
        crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        views.append(_seen_badly(crop, rng) if rng.random() < tuning.degraded_share else np.ascontiguousarray(crop))
        labels.append(int(label))
    return torch.from_numpy(backbone.preprocessing(views)), torch.tensor(labels)


def _seen_badly(picture: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    return shoot(picture, str(rng.choice(DOMAINS, p=DOMAIN_SHARES)), rng)
