"""Which classes are for training, which for tuning, which for reporting; disjoint by class, and the same for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from adapters.class_folders import ClassFolder
from adapters.errors import InputError

Role = Literal["train", "tune", "report"]
Source = Literal["species", "mini-imagenet", "caltech-animals"]
SOURCES: tuple[Source, ...] = get_args(Source)

N_SPECIES_REPORT, N_SPECIES_TUNE = 30, 10
N_MINI_TUNE = 16  # of mini-ImageNet's 64 train classes; its 16 validation classes are for reporting
NEAR_HELD_BACK = frozenset({"rhino", "scorpion", "wild_cat"})  # Caltech's, whose kind is a tune or report class


def class_folders(data: Path, source: Source, role: Role) -> list[ClassFolder]:
    """Return the classes of a source that play a role, sorted by name.

    Raises:
        InputError: a folder of the source is missing.
    """
    if source == "species":
        folders = _by_hash(_folders(data / "images/species"))
        report, tune = folders[:N_SPECIES_REPORT], folders[N_SPECIES_REPORT : N_SPECIES_REPORT + N_SPECIES_TUNE]
        train = folders[N_SPECIES_REPORT + N_SPECIES_TUNE :]
    elif source == "caltech-animals":  # for training alone
        report, tune = [], []
        train = [folder for folder in _folders(data / "images/caltech-animals") if folder.name not in NEAR_HELD_BACK]
    else:
        folders = _by_hash(_folders(data / "images/mini-imagenet/train"))
        tune, train = folders[:N_MINI_TUNE], folders[N_MINI_TUNE:]
        report = _folders(data / "images/mini-imagenet/val")
    chosen = {"train": train, "tune": tune, "report": report}[role]
    return [ClassFolder(name=folder.name, pictures=tuple(sorted(folder.iterdir()))) for folder in sorted(chosen)]


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        raise InputError(f"{parent}: no such folder; training expects the layout of data/README.md")
    return [path for path in parent.iterdir() if path.is_dir()]


def _by_hash(folders: Iterable[Path]) -> list[Path]:
    """Return folders in an order that depends on nothing but their names."""
    return sorted(folders, key=lambda folder: hashlib.sha256(folder.name.encode()).digest())
