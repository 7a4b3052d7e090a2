"""`evaluate` measures the deployed graphs on any folder of class folders, the same way every time."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from adapters.classifier import Classifier
from adapters.encoder import unit
from adapters.errors import InputError
from adapters.evaluation.episodes import draw, generator, read_pool
from adapters.evaluation.evaluate import Task, evaluate
from adapters.evaluation.figures import auroc, expected_calibration_error, mean_and_ci95
from adapters.evaluation.methods import k_nearest, logistic_regression, nearest_centroid, tip_adapter
from tests.conftest import WILDLANE

PLAIN = {"wildlane", "simpleshot", "simpleshot-frozen", "logreg", "knn", "tip-adapter"}


@pytest.fixture(scope="session")
def folder(demo_animals: dict[str, NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of nine pictures: the animals of the demonstration clip in two colours, moved a little."""
    root = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(3)
    for name, crop in demo_animals.items():
        for label, colour in ((name, crop), (f"{name}-red", crop // np.uint8([3, 3, 1]))):
            (root / label).mkdir()
            for number in range(9):
                y, x = rng.integers(0, 8, 2)
                cv2.imwrite(str(root / label / f"{number}.png"), np.ascontiguousarray(colour[y : y - 9, x : x - 9]))
    return root


def test_the_same_seed_gives_the_same_episodes_and_support_is_never_asked(folder: Path) -> None:
    pool = read_pool(folder, generator(1, 0))
    first, again = (list(draw(pool, generator(1, 1), ways=3, shots=5, count=20, n_views=10)) for _ in range(2))
    assert first == again
    for episode in first:
        taught = {row for rows in episode.support for row in rows}
        asked = {row for items in (*episode.queries, episode.unknown) for row, _ in items}
        assert not taught & asked
        assert [len(rows) for rows in episode.support] == [5, 5, 5]
        own = [
            {i for i, members in enumerate(pool.of_class) if row in members} for row in (r[0] for r in episode.support)
        ]
        foreign = {i for i, members in enumerate(pool.of_class) for row, _ in episode.unknown if row in members}
        assert not set.union(*own) & foreign


def test_every_view_of_a_condition_is_asked_about_equally_often(folder: Path) -> None:
    pool = read_pool(folder, generator(1, 0))
    episodes = list(draw(pool, generator(1, 1), ways=3, shots=1, count=100, n_views=4))
    views = np.bincount([number for e in episodes for items in e.queries for _, number in items])
    assert views.min() > 0.9 * views.mean()


def test_wildlane_and_the_plain_methods_answer_the_same_episodes(folder: Path, classifier: Classifier) -> None:
    task = Task(images=folder, ways=3, shots=(1, 5), episodes=8, slow_episodes=1)
    rows = evaluate(classifier, task).rows
    assert {row.method for row in rows} >= PLAIN
    for row in rows:
        assert 0 <= row.accuracy <= 100
        if row.method in PLAIN:
            assert row.episodes == 8
            assert row.auroc is not None
            assert row.accuracy > 60  # chance is 33; the classes are easy
    again = evaluate(classifier, task).rows
    assert [row for row in again if row.method in PLAIN] == [row for row in rows if row.method in PLAIN]
    by_name = {(row.method, row.shots): row for row in rows}
    ours, frozen = by_name["wildlane", 1], by_name["simpleshot-frozen", 1]
    assert ours.paired_diff == frozen.paired_diff == pytest.approx(ours.accuracy - frozen.accuracy)


def test_without_other_classes_there_is_no_auroc_and_one_way_works(folder: Path, classifier: Classifier) -> None:
    rows = evaluate(classifier, Task(images=folder, ways=6, shots=(1,), episodes=2, slow_episodes=1)).rows
    assert all(row.auroc is None for row in rows)
    rows = evaluate(classifier, Task(images=folder, ways=1, shots=(1,), episodes=2, slow_episodes=1)).rows
    assert all(row.accuracy == 100 for row in rows)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda root: (root / "zebra").mkdir(), "zebra"),
        (lambda root: (root / "caribou" / "8.png").write_bytes(b"no picture"), "8.png"),
        (lambda root: [path.unlink() for path in (root / "caribou").glob("[2-9].png")], "caribou: 2 pictures"),
        (lambda root: Image.new("RGB", (1, 1)).save(root / "caribou" / "8.png"), r"8\.png: 1 x 1 pixels"),
        (
            lambda root: Image.new("1", (20_000, 20_000)).save(root / "caribou" / "8.png"),
            r"8\.png: .*20000|8\.png: .*pixels",
        ),
        (lambda root: [shutil.rmtree(path) for path in sorted(root.iterdir())[1:]], "classes: 1 class folders"),
    ],
    ids=[
        "an empty class folder",
        "an unreadable picture",
        "too few pictures",
        "one pixel",
        "20,000 pixels wide",
        "one class",
    ],
)
def test_bad_folders_are_named(folder: Path, tmp_path: Path, classifier: Classifier, spoil: object, named: str) -> None:
    root = tmp_path / "classes"
    shutil.copytree(folder, root)
    spoil(root)  # type: ignore[operator]
    with pytest.raises(InputError, match=named):
        evaluate(classifier, Task(images=root, ways=3, shots=(2,), episodes=30, slow_episodes=1))


def test_grey_cmyk_and_16_bit_pictures_are_judged_like_others(
    folder: Path, tmp_path: Path, classifier: Classifier
) -> None:
    root = tmp_path / "classes"
    shutil.copytree(folder, root)
    for number, mode in enumerate(("L", "CMYK", "I;16")):
        path = root / "caribou" / f"{number}.png"
        picture = Image.open(path)
        picture.load()
        path.unlink()
        picture.convert("I" if mode == "I;16" else mode).save(path.with_suffix(".tif"))

    rows = evaluate(classifier, Task(images=root, ways=3, shots=(2,), episodes=8, slow_episodes=1)).rows

    assert all(row.accuracy > 60 for row in rows if row.method in PLAIN)


def test_the_verb_prints_rows_as_json_and_stores_its_episodes(folder: Path, tmp_path: Path) -> None:
    command = [*WILDLANE, "evaluate", "--images", str(folder), "--ways", "2", "--shots", "1", "--episodes", "3"]
    done = subprocess.run(
        [*command, "--json", "--out", str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    rows = json.loads(done.stdout)["rows"]
    assert {row["method"] for row in rows} >= PLAIN
    assert set(rows[0]) == {
        "condition",
        "ways",
        "shots",
        "method",
        "accuracy",
        "ci95",
        "paired_diff",
        "paired_ci95",
        "auroc",
        "ece",
        "episodes",
    }
    assert len(json.loads((tmp_path / "out/episodes.json").read_text())["episodes"]) == 3
    refused = subprocess.run([*command, "--condition", "fog"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "expected one of clean, imagenet-c, 32px, infrared" in refused.stderr
    nowhere = [*WILDLANE, "evaluate", "--images", str(tmp_path / "nowhere")]
    assert subprocess.run(nowhere, capture_output=True, check=False).returncode == 5


def test_figures_equal_their_definitions() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1, 1, 200).round(1), rng.normal(0, 1, 300).round(1)  # rounded: ties
    truth = [1] * 200 + [0] * 300
    assert auroc(inside, outside) == pytest.approx(roc_auc_score(truth, np.concatenate([inside, outside])))
    confidence = rng.uniform(0, 1, 60_000).astype(np.float32)
    assert expected_calibration_error(confidence, rng.random(60_000) < confidence) < 0.01
    assert expected_calibration_error(confidence, rng.random(60_000) < confidence / 2) == pytest.approx(0.25, abs=0.01)
    assert mean_and_ci95(np.array([1.0, 3.0])) == pytest.approx((2.0, 1.96))


def test_plain_methods_find_separated_classes() -> None:
    rng = np.random.default_rng(0)
    centres = unit(rng.normal(size=(4, 64)).astype(np.float32))
    shots = [unit(centre + 0.05 * rng.normal(size=(3, 64)).astype(np.float32)) for centre in centres]
    queries = unit(np.repeat(centres, 5, axis=0) + 0.05 * rng.normal(size=(20, 64)).astype(np.float32))
    for method in (nearest_centroid, logistic_regression, k_nearest, tip_adapter):
        assert (method(shots, queries).argmax(axis=1) == np.repeat(np.arange(4), 5)).all()
