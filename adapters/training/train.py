"""The whole training, stage by stage: backbone, statistics, head, export. What is done already is not done again.

A run's folder afterwards holds `backbone.safetensors`, `statistics.npz`, `head.safetensors`, `knowledge.npz`, and under
`models/` what is deployed; each stage's checkpoint and log lie in a folder of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from adapters.encoder import Encoder
from adapters.runtime import ENCODE, HEAD, MANIFEST, write_manifest
from adapters.training import meta_train, robust
from adapters.training.animal_probe import CutoutCrops, RoadCrops, add_clips
from adapters.training.averaging import best_average
from adapters.training.backbone import EfficientNetLite, folded_lite
from adapters.training.bank import Bank, Source, build
from adapters.training.calibration import calibrate
from adapters.training.checkpoint import CHECKPOINT, save_arrays, save_weights
from adapters.training.export import (
    BACKBONE,
    CALIBRATION,
    KNOWLEDGE_ROWS,
    STATISTICS,
    export_encode,
    export_run,
    load_head,
)
from adapters.training.meta_train import HeadRecipe, class_tokens, train_head
from adapters.training.splits import SOURCES, Role, class_folders
from adapters.training.statistics import SEED, fit_base, head_statistics
from adapters.workers import Here, Say, Workers

HEAD_RUN = "head"  # folder of the head's checkpoint, log and banks


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to train with.

    Attributes:
        data: folder with images/, clips/ and stamps/.
        out: the run's folder.
        road_crops, cutout_crops: what the daemon would crop out of a road clip, without and with animals pasted in.
        start: weights of an earlier backbone to go on from.
        more: folders of further classes, for the head alone.
        workers: who works.
        backbone, head: every number of the two trainings.
    """

    data: Path
    out: Path
    road_crops: RoadCrops
    cutout_crops: CutoutCrops
    start: Path | None = None
    more: tuple[Path, ...] = ()
    workers: Workers = field(default_factory=Here)
    backbone: robust.Recipe = field(default_factory=robust.Recipe)
    head: HeadRecipe = field(default_factory=HeadRecipe)


def train(plan: Plan, say: Say = print) -> Path:
    """Train, or go on where a killed run stopped, and return the folder of what can be deployed."""
    for source in SOURCES:
        class_folders(plan.data, source, "train")  # nothing is written where there is nothing to learn from
    plan.out.mkdir(parents=True, exist_ok=True)
    models = plan.out / "models"
    backbone = _backbone(plan, say)
    if not (models / MANIFEST).exists():  # it is written last
        models.mkdir(exist_ok=True)
        say(f"{ENCODE}: {export_encode(backbone, models / ENCODE):.1e} from torch")
        write_manifest(models, [ENCODE])
    encode = Encoder(models, threads=plan.head.threads)
    mu = _statistics(plan, encode, say)
    train_bank, tune_bank = (
        build(source, bank_of(plan.out, source.role), encode, plan.head.seed, plan.workers, say)
        for source in (
            Source(data=plan.data, role="train", more=plan.more),
            Source(data=plan.data, role="tune"),
        )
    )
    _head(plan, train_bank, tune_bank, mu, say)
    export_run(plan.out, models, progress=say)
    return models


def _backbone(plan: Plan, say: Say) -> EfficientNetLite:
    path = plan.out / BACKBONE
    if not path.exists():
        folder = plan.out / "backbone"
        plan.workers.train(
            partial(robust.train, plan.data, folder, plan.backbone, plan.start), folder / CHECKPOINT, say
        )
        shares, weights = best_average(plan.data, load_file(folder / robust.WEIGHTS), plan.backbone.seed, say)
        save_weights(path, weights, {"shares_of_trained": str(shares)})
    return folded_lite(path)


def _statistics(plan: Plan, encode: Encoder, say: Say) -> Tensor:
    path = plan.out / STATISTICS
    if not path.exists():
        rng = np.random.default_rng(SEED)
        pretrained = robust.pretrained_encoder(plan.out / "backbone" / robust.TEACHER, plan.head.threads)
        fitted, samples, probe = fit_base(encode, pretrained, plan.data, rng)
        add_clips(probe, encode, plan.data, plan.road_crops, plan.cutout_crops, rng, say)
        save_arrays(plan.out / CALIBRATION, pictures=samples)
        animal = {f"animal_{name}": value.numpy() for name, value in probe.fit()._asdict().items()}
        save_arrays(path, **fitted, **animal)
    return _mu(plan.out)


def bank_of(out: Path, role: Role) -> Path:
    """Return the folder of a run's feature bank."""
    return out / HEAD_RUN / f"bank-{role}"


def _practise(out: Path, recipe: HeadRecipe, say: Say) -> None:
    """Meta-train the head of a run whose banks are there."""
    banks = Bank.load(bank_of(out, "train")), Bank.load(bank_of(out, "tune"))
    start = head_statistics(out / STATISTICS)
    train_head(banks, out / HEAD_RUN, recipe, start, _mu(out), say=say)


def _mu(out: Path) -> Tensor:
    with np.load(out / STATISTICS, allow_pickle=False) as stored:
        return torch.from_numpy(stored["mu"])


def _head(plan: Plan, train_bank: Bank, tune_bank: Bank, mu: Tensor, say: Say) -> None:
    path, m_tokens = plan.out / HEAD, class_tokens(train_bank)
    if path.exists():
        return
    plan.workers.train(partial(_practise, plan.out, plan.head), plan.out / HEAD_RUN / CHECKPOINT, say)
    head = load_head(plan.out / HEAD_RUN / meta_train.WEIGHTS)
    before, after = calibrate(head, tune_bank, mu, m_tokens, plan.head.seed)
    say(f"expected calibration error on tuning classes: {before:.3f}, calibrated {after:.3f}")
    counts = [len(train_bank.members[number]) for number in train_bank.taught]
    save_arrays(
        plan.out / KNOWLEDGE_ROWS,
        tokens=m_tokens.numpy(),
        labels=np.array([train_bank.classes[number] for number in train_bank.taught]),
        counts=np.array(counts, np.int32),
    )
    save_weights(path, head.state_dict())
