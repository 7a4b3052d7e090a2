"""A state folder that can't be written: what was taught stays in force, what was learned is not thrown away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.class_set import ClassSetStore
from adapters.classes import ClassAttributes
from adapters.classifier import Classifier
from adapters.crops import LabelledCrop
from adapters.errors import StoreError
from adapters.knowledge import Row
from adapters.site_knowledge import FILE, SiteKnowledge
from adapters.teaching import teach
from monitor.assembly import open_classes
from monitor.in_force import InForce
from tests.faults.disk import fill, mounted, remount

MOOSE = ClassAttributes(name="moose", size="large", origin="wild")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "64m") as folder:
        yield folder


def one_row(classifier: Classifier) -> Row:
    key = np.zeros(classifier.knowledge.keys.shape[1], np.float32)
    return Row(
        kind="background", label="kerb", key=key, count=1, mean=np.ones(len(classifier.knowledge.mu), np.float32)
    )


def learned(classifier: Classifier, folder: Path) -> None:
    knowledge = SiteKnowledge(folder)
    knowledge.save([one_row(classifier)], classifier.encoder_hash, 600)
    knowledge.close()


def rows_kept(classifier: Classifier, folder: Path) -> int:
    knowledge = SiteKnowledge(folder)
    rows = knowledge.load(classifier.encoder_hash)
    knowledge.close()
    return len(rows)


def test_a_read_only_folder_leaves_in_force_what_was_taught(
    classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]], disk: Path
) -> None:
    store = open_classes(classifier, disk)
    teach(store, classifier, MOOSE, ["a"], [LabelledCrop(demo_animals["caribou"])])
    store.close()
    learned(classifier, disk)
    remount(disk, "ro")

    in_force = InForce(classifier, disk)

    assert "moose" in in_force.class_set().attributes
    assert "nothing can be taught" in in_force.problem
    in_force.close()
    remount(disk, "rw")
    assert rows_kept(classifier, disk) == 1


def test_a_full_disk_starts_with_the_starter_classes_and_keeps_what_the_site_has_learned(
    classifier: Classifier, disk: Path
) -> None:
    learned(classifier, disk)
    ballast = fill(disk)

    in_force = InForce(classifier, disk)

    assert "cattle" in in_force.class_set().attributes
    assert in_force.problem
    in_force.close()
    ballast.unlink()
    assert rows_kept(classifier, disk) == 1


def test_a_damaged_class_store_is_told_and_a_damaged_knowledge_base_begun_anew(
    classifier: Classifier, tmp_path: Path
) -> None:
    (tmp_path / FILE).write_bytes(b"no database at all, " * 400)
    in_force = InForce(classifier, tmp_path)
    assert in_force.problem == ""
    in_force.close()
    assert rows_kept(classifier, tmp_path) == 0

    ClassSetStore(tmp_path).close()
    (tmp_path / "classes.sqlite3").write_bytes(b"no database at all, " * 400)
    with pytest.raises(StoreError, match="can't be opened as a class store"):
        InForce(classifier, tmp_path)
