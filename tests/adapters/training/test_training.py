"""Training on a small world: the same seed gives the same bits, a killed run goes on, results can be deployed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from adapters.classifier import Classifier
from adapters.encoder import Encoder
from adapters.errors import InputError, ModelError
from adapters.runtime import MODELS, STARTER
from adapters.starter import read_starter
from adapters.training import bank, robust
from adapters.training.attention import Head, HeadStatistics
from adapters.training.averaging import average
from adapters.training.bank import Bank, Source, build
from adapters.training.evolve import N_GENES, Breeding, evolve, express
from adapters.training.export import export_run
from adapters.training.finetune import Tuning, finetune
from adapters.training.meta_train import HeadRecipe, train_head
from adapters.training.splits import Role, class_folders
from adapters.training.train import Plan, train
from adapters.workers import Here
from tests.adapters.training.conftest import drawn, write_class

ROOT = Path(__file__).parents[3]
RECIPE = robust.Recipe(steps=3, round_steps=2, classes_a_batch=3, pictures_a_class=2, checkpoint_every=1)
HEAD_RECIPE = HeadRecipe(steps=4, validate_every=2, validation_episodes=4)


TRAIN = """
import sys
from pathlib import Path
from adapters.training import robust
recipe = robust.Recipe(steps=3, round_steps=2, classes_a_batch=3, pictures_a_class=2, checkpoint_every=1)
robust.train(Path(sys.argv[1]), Path(sys.argv[2]), recipe)
"""


class PowerCutError(Exception):
    pass


def killer(when: str) -> Callable[[str], None]:
    def say(line: str) -> None:
        if line.startswith(when):
            raise PowerCutError

    return say


def same(a: Path, b: Path) -> bool:
    left, right = load_file(a), load_file(b)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def silent(line: str) -> None:
    pass


def test_classes_are_held_back_for_tuning_and_reporting(small_data: Path) -> None:
    roles = {
        role: {
            folder.name for source in ("species", "mini-imagenet") for folder in class_folders(small_data, source, role)
        }
        for role in ("train", "tune", "report")
    }

    assert not roles["train"] & roles["tune"]
    assert not roles["train"] & roles["report"]
    assert len(roles["tune"]) == 10 + 16


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Make folders of runs that have exported the pretrained network already: that takes longer than the steps."""
    teacher = tmp_path_factory.mktemp("pretrained") / robust.TEACHER
    robust.pretrained_encoder(teacher, 2)

    def make(folder: Path) -> Path:
        shutil.copytree(teacher, folder / robust.TEACHER)
        return folder

    return make


def test_the_backbone_training_gives_the_same_bits_again_and_after_a_kill(
    small_data: Path, tmp_path: Path, run_folder: Callable[[Path], Path]
) -> None:
    whole = robust.train(small_data, run_folder(tmp_path / "whole"), RECIPE, say=silent)
    killed = run_folder(tmp_path / "killed")
    run = subprocess.Popen([sys.executable, "-c", TRAIN, str(small_data), str(killed)], cwd=ROOT)
    while not (killed / "checkpoint.safetensors").exists():
        assert run.poll() is None
        time.sleep(0.02)
    run.kill()
    run.wait()

    resumed = robust.train(small_data, killed, RECIPE, say=silent)

    assert same(whole, resumed)


def test_a_checkpoint_of_another_recipe_is_refused(
    small_data: Path, tmp_path: Path, run_folder: Callable[[Path], Path]
) -> None:
    run = run_folder(tmp_path / "run")
    robust.train(small_data, run, replace(RECIPE, steps=1), say=silent)

    with pytest.raises(InputError, match="made with another recipe"):
        robust.train(small_data, run, replace(RECIPE, steps=2), say=silent)


def test_without_training_classes_the_folder_is_named(tmp_path: Path) -> None:
    for folder in ("species", "mini-imagenet/train", "mini-imagenet/val", "caltech-animals"):
        (tmp_path / "images" / folder).mkdir(parents=True)

    with pytest.raises(InputError, match="no training classes"):
        robust.train(tmp_path, tmp_path / "run", RECIPE, say=silent)


def test_an_average_lies_between_its_ends_from_the_first_layer_to_the_last() -> None:
    a, b = ({name: torch.tensor([value]) for name in ("stem", "block", "head")} for value in (0.0, 4.0))

    mean = average(a, b, (1.0, 0.5))

    assert [float(mean[name]) for name in ("stem", "block", "head")] == [4.0, 3.0, 2.0]


@pytest.fixture(scope="module")
def banks(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bank, Bank]:
    folder, encode = tmp_path_factory.mktemp("banks"), Encoder(MODELS, device="cpu")
    return (
        build(Source(data=small_data, role="train"), folder / "train", encode, 1, Here(), silent),
        build(Source(data=small_data, role="tune"), folder / "tune", encode, 1, Here(), silent),
    )


class KilledAfter(Here):
    """Gives up after some batches; tells how many pictures were asked for."""

    def __init__(self, most: int) -> None:
        self.most, self.asked = most, 0

    def map(self, work, items, **needs):
        self.asked = sum(len(item) for item in items)
        for number, result in super().map(work, items, **needs):
            if number == self.most:
                raise PowerCutError
            yield number, result


def test_a_feature_bank_that_was_killed_is_gone_on_with(
    banks: tuple[Bank, Bank], small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bank, "KEPT_EVERY", 1)
    source, encode = Source(data=small_data, role="tune"), Encoder(MODELS, device="cpu")
    killed, again = KilledAfter(1), KilledAfter(1_000_000)
    with pytest.raises(PowerCutError):
        build(source, tmp_path, encode, 1, killed, silent)
    with pytest.raises(InputError, match="no feature bank"):
        Bank.load(tmp_path)

    resumed = build(source, tmp_path, encode, 1, again, silent)

    assert again.asked == killed.asked - bank.BATCH
    assert resumed.classes == banks[1].classes
    for name in bank.ARRAYS:
        assert np.array_equal(getattr(resumed, name), getattr(banks[1], name))


def test_a_feature_bank_of_other_pictures_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank, "KEPT_EVERY", 1)
    monkeypatch.setattr(bank, "BATCH", 2)
    work, again = bank.EncodeViews(Encoder(MODELS, device="cpu"), 1), KilledAfter(1_000_000)

    def material(count: int) -> bank.Material:
        pictures = [drawn(number, np.random.default_rng(number)) for number in range(count)]
        return bank.Material(list(pictures), np.zeros(count, np.int64), ["one"])

    with pytest.raises(PowerCutError):
        bank.fill(material(4), tmp_path, work, {}, KilledAfter(1), silent)
    filled = bank.fill(material(5), tmp_path, work, {}, again, silent)

    assert again.asked == len(filled.labels) == len(filled.tok) == 5


def test_further_classes_are_practised_on(small_data: Path, class_folders_of_site: Path, tmp_path: Path) -> None:
    source = Source(data=small_data, role="train", more=(class_folders_of_site,))

    wider = build(source, tmp_path, Encoder(MODELS, device="cpu"), 1, Here(), silent)

    assert [wider.classes[number] for number in wider.taught[-4:]] == [f"animal-{number}" for number in range(4)]
    assert all(len(wider.members[number]) == 14 for number in wider.taught[-4:])


@pytest.mark.parametrize(
    ("role", "told"),
    [
        ("tune", "is held back"),
        ("report", "is held back"),
        ("train", "there is a class .* already"),
        (None, "has 2 pictures, training needs 3"),
    ],
)
def test_a_further_class_that_is_held_back_or_there_already_or_too_small_is_refused(
    small_data: Path, tmp_path: Path, role: Role | None, told: str
) -> None:
    called = "new" if role is None else class_folders(small_data, "species", role)[0].name
    write_class(tmp_path / "more" / called, 1, 2)
    source = Source(data=small_data, role="train", more=(tmp_path / "more",))

    with pytest.raises(InputError, match=told) as refused:
        build(source, tmp_path / "bank", Encoder(MODELS, device="cpu"), 1, Here(), silent)
    assert called in str(refused.value)
    assert not (tmp_path / "bank").exists()


def train_small_head(
    banks: tuple[Bank, Bank], start: HeadStatistics, out: Path, say: Callable[[str], None] = silent
) -> Path:
    return train_head(banks, out, HEAD_RECIPE, start, torch.full((1280,), 0.4), say=say)


def test_meta_training_gives_the_same_bits_again_and_after_a_kill(
    banks: tuple[Bank, Bank], statistics: HeadStatistics, tmp_path: Path
) -> None:
    whole = train_small_head(banks, statistics, tmp_path / "whole")
    with pytest.raises(PowerCutError):
        train_small_head(banks, statistics, tmp_path / "killed", killer("step 4/4"))

    resumed = train_small_head(banks, statistics, tmp_path / "killed")

    assert same(whole, resumed)


def test_a_genome_of_zeros_is_the_head_itself(statistics: HeadStatistics) -> None:
    head = Head(statistics).eval()
    child = express(head, np.zeros(N_GENES))

    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), child.parameters(), strict=True))
    assert express(head, np.full(N_GENES, 1.0)).adapt.temperature == 2 * head.adapt.temperature


def test_evolving_writes_a_model_that_can_be_deployed_or_nothing(class_folders_of_site: Path, tmp_path: Path) -> None:
    breeding = Breeding(generations=2, population=4, episodes=2)

    result = evolve(class_folders_of_site, tmp_path / "site", breeding, say=silent)

    assert result.kept == (tmp_path / "site").exists()
    if result.kept:
        assert Classifier(tmp_path / "site", device="cpu").encoder_hash == Classifier(device="cpu").encoder_hash


def test_fine_tuning_writes_a_model_that_can_be_deployed_or_nothing(
    class_folders_of_site: Path, tmp_path: Path
) -> None:
    result = finetune(class_folders_of_site, tmp_path / "site", Tuning(steps=4, batch=4), say=silent)

    assert 0 <= result.before <= 100
    assert result.kept == (tmp_path / "site").exists()
    if result.kept:
        tuned = Classifier(tmp_path / "site", device="cpu")
        assert tuned.encoder_hash != Classifier(device="cpu").encoder_hash


def test_what_fine_tuning_gained_is_a_whole_model_with_its_starter_classes(
    class_folders_of_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy = iter([50.0, 60.0])
    monkeypatch.setattr("adapters.training.finetune.held_out_accuracy", lambda *_: next(accuracy))

    finetune(class_folders_of_site, tmp_path / "site", Tuning(steps=1, batch=4), say=silent)

    tuned = Classifier(tmp_path / "site", device="cpu")
    assert len(read_starter(tmp_path / "site", tuned.encoder_hash)) == 9
    (tmp_path / "site" / STARTER).write_bytes(b"another's")
    with pytest.raises(ModelError, match=r"starter\.npz: SHA-256 is .* altered"):
        read_starter(tmp_path / "site", tuned.encoder_hash)


@pytest.mark.parametrize("learn", [evolve, finetune])
def test_a_folder_that_can_not_be_learned_from_is_named_and_nothing_written(
    learn: Callable[..., object], tmp_path: Path
) -> None:
    plan = Breeding() if learn is evolve else Tuning()
    (tmp_path / "pictures/deer").mkdir(parents=True)

    with pytest.raises(InputError, match="deer: holds no picture"):
        learn(tmp_path / "pictures", tmp_path / "out", plan)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda path: path.write_bytes(b"no picture"), "not a picture"),
        (lambda path: cv2.imwrite(str(path), np.zeros((1, 1, 3), np.uint8)), "1 x 1 pixels"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "can't be decoded"),
    ],
    ids=["text", "one pixel", "cut short"],
)
@pytest.mark.parametrize("learn", [evolve, finetune, robust.train])
def test_a_picture_that_can_not_be_learned_from_is_named_and_nothing_written(
    learn: Callable[..., object],
    small_data: Path,
    class_folders_of_site: Path,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    named: str,
) -> None:
    plan: dict[object, object] = {evolve: Breeding(), finetune: Tuning(), robust.train: RECIPE}
    source = small_data if learn is robust.train else class_folders_of_site
    root = Path(shutil.copytree(source, tmp_path / "pictures"))
    bad = next(
        iter(class_folders(root, "species", "train")[0].pictures if learn is robust.train else root.rglob("*.png"))
    )
    spoil(bad)

    with pytest.raises(InputError, match=f"{bad.name}: .*{named}"):
        learn(root, tmp_path / "out", plan[learn])
    assert not (tmp_path / "out").exists()


def test_training_without_data_names_the_folder_and_writes_nothing(tmp_path: Path) -> None:
    plan = Plan(data=tmp_path / "nowhere", out=tmp_path / "out", road_crops=None, cutout_crops=None)

    with pytest.raises(InputError, match="nowhere/images/species: no such folder"):
        train(plan, silent)
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no backbone\.safetensors"):
        export_run(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
