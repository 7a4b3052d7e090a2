from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.classes import ClassSet
from adapters.classifier import CANNOT_TELL, NONE, Classifier, ClassMemory
from adapters.encoder import LOOKS, SHOT_VIEWS, Encoder, Features, look_views
from adapters.errors import ModelError
from adapters.runtime import ADAPT, ENCODE, MANIFEST, MODELS, Graph, write_manifest


def unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def random_features(count: int, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    return Features(
        rng.normal(size=(count, 49, 320)).astype(np.float32), np.abs(rng.normal(size=(count, 1280))).astype(np.float32)
    )


@pytest.mark.parametrize("classes", [1, 2, 20, 100])
def test_weights_sum_to_one_for_any_number_of_classes(classifier: Classifier, classes: int) -> None:
    memory = classifier.adapt({f"class {n}": random_features(1, n) for n in range(classes)})

    weights, p_class, p_animal, similarity = classifier.match(random_features(3, 999), memory)

    assert weights.shape == (3, classes + 1)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)
    for output in (weights, p_class, p_animal, similarity):
        assert np.isfinite(output).all()


def test_a_labelled_crop_is_learned_in_three_views(
    classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    crop = demo_animals["bear"]

    (shot,) = classifier.encode.shots([crop])

    assert len(shot) == SHOT_VIEWS
    assert np.allclose(shot.glob[0], classifier.encode([crop]).glob[0], atol=1e-3)
    assert classifier.encode.shots([]) == []


def test_a_still_is_looked_at_twice_and_the_mean_of_both_answers_counts(
    classifier: Classifier, starter: ClassSet, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    crops = list(demo_animals.values())
    looks = [look_views(crop) for crop in crops]
    plain, closer = (
        classifier.match(classifier.encode([views[number] for views in looks]), starter.memory)
        for number in range(LOOKS)
    )

    answers = classifier.classify(crops, starter.memory)

    for row, answer in enumerate(answers):
        assert [*answer.weights.values()] == pytest.approx((plain[0][row] + closer[0][row]) / 2, abs=1e-3)
        assert answer.p_animal == pytest.approx((plain[2][row] + closer[2][row]) / 2, abs=1e-3)
    assert classifier.classify([], starter.memory) == []


def test_fewer_bits_give_similar_features_under_the_same_name(demo_animals: dict[str, NDArray[np.uint8]]) -> None:
    crops = list(demo_animals.values())
    whole = Encoder(MODELS, device="cpu", precision="fp32")
    fewer = Encoder(MODELS, device="cpu", precision="int8")

    cosine = (unit(whole(crops).glob) * unit(fewer(crops).glob)).sum(axis=1)

    assert (cosine > 0.9).all()  # too little for a default; see docs/recognition.md
    assert whole.hash == fewer.hash  # what one has learned the other understands
    assert fewer.precision == "int8"


def test_the_order_of_the_classes_changes_no_answer(classifier: Classifier) -> None:
    supports = {name: random_features(2, n) for n, name in enumerate("abcd")}
    query = random_features(5, 50)

    forward = classifier.match(query, classifier.adapt(supports))[0]
    backward = classifier.match(query, classifier.adapt(dict(reversed(supports.items()))))[0]

    assert np.allclose(forward[:, :4], backward[:, 3::-1], atol=1e-6)


def test_padding_of_a_class_with_fewer_shots_changes_no_answer(classifier: Classifier) -> None:
    adapt, known, shots = Graph(MODELS, ADAPT, "cpu", threads=1), classifier.knowledge, random_features(2, 1)

    def adapted(places: int) -> list[NDArray[np.float32]]:
        tok, glob = np.full((1, places, 49, 320), np.nan, np.float32), np.full((1, places, 1280), 7, np.float32)
        mask = np.zeros((1, places), np.float32)
        tok[0, :2], glob[0, :2], mask[0, :2] = shots.tok, shots.glob, 1
        return list(adapt.run(tok=tok, glob=glob, mask=mask, neg=known.negatives, mkey=known.keys, mu=known.mu))

    for alone, padded in zip(adapted(2), adapted(9), strict=True):
        assert np.allclose(alone, padded, atol=1e-5)


@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf, 1e38])
def test_what_is_no_number_goes_into_the_graphs_and_never_comes_out(classifier: Classifier, worst: float) -> None:
    spoiled = random_features(2, 1)
    spoiled.tok[0, 3], spoiled.glob[1, 5:9] = worst, worst
    sound = random_features(2, 2)

    for output in classifier.match(spoiled, classifier.adapt({"a": spoiled, "b": sound})):
        assert np.isfinite(output).all()
    learned = classifier.adapt({"a": sound, "b": random_features(1, 3)})
    for output in classifier.match(sound, learned):
        assert np.isfinite(output).all()


def test_constant_and_empty_features_give_no_nan(classifier: Classifier) -> None:
    blank = Features(np.zeros((2, 49, 320), np.float32), np.zeros((2, 1280), np.float32))

    for output in classifier.match(blank, classifier.adapt({"a": blank, "b": random_features(2, 1)})):
        assert np.isfinite(output).all()


def test_nothing_taught_leaves_all_the_weight_to_none(
    classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    answer = classifier.classify([demo_animals["bear"]], ClassMemory.empty())[0]

    assert answer.weights == {NONE: 1.0}
    assert answer.label == "unknown-animal"


def test_animals_are_told_from_a_road(
    classifier: Classifier, starter: ClassSet, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    road = np.full((80, 80, 3), 115, np.uint8) + np.random.default_rng(1).integers(0, 12, (80, 80, 3), dtype=np.uint8)
    road[30:36, :] = 210  # a lane marking

    animals = classifier.classify(list(demo_animals.values()), starter.memory)
    nothing = classifier.classify([road], starter.memory)[0]

    assert all(answer.p_animal > 0.7 for answer in animals)
    assert nothing.p_animal < 0.2
    assert nothing.label == NONE


def test_a_tiny_or_flat_crop_can_not_be_told(classifier: Classifier, starter: ClassSet) -> None:
    tiny, flat = np.zeros((4, 4, 3), np.uint8), np.full((60, 60, 3), 128, np.uint8)

    assert [answer.label for answer in classifier.classify([tiny, flat], starter.memory)] == [CANNOT_TELL, CANNOT_TELL]


def test_a_batch_gives_the_answers_of_its_crops_one_by_one(
    classifier: Classifier, starter: ClassSet, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    crops = list(demo_animals.values()) * 7  # more than one run takes

    together = classifier.classify(crops, starter.memory)
    alone = [classifier.classify([crop], starter.memory)[0] for crop in crops[:3]]

    for one, same in zip(alone, together[:3], strict=True):
        assert one.p_animal == pytest.approx(same.p_animal, abs=1e-4)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODELS, tmp_path / "models"))


def test_an_altered_model_file_is_refused(models: Path) -> None:
    content = bytearray((models / ENCODE).read_bytes())
    content[len(content) // 2] ^= 1
    (models / ENCODE).write_bytes(content)

    with pytest.raises(ModelError, match=r"encode\.onnx: SHA-256 is .* the manifest says"):
        Classifier(models, device="cpu", precision="fp32")


def test_a_missing_model_file_is_named(models: Path) -> None:
    (models / ENCODE).unlink()

    with pytest.raises(ModelError, match=r"encode\.onnx: can't be read"):
        Classifier(models, device="cpu", precision="fp32")


@pytest.mark.parametrize("text", ["", "[]", '{"files": {"encode.onnx": 3}}'])
def test_a_manifest_of_another_shape_is_refused(models: Path, text: str) -> None:
    (models / MANIFEST).write_text(text)

    with pytest.raises(ModelError, match=r"manifest\.json: expected"):
        Classifier(models, device="cpu", precision="fp32")


def test_a_file_that_is_no_model_is_refused(models: Path) -> None:
    (models / ENCODE).write_bytes(b"not a model")
    write_manifest(models, [ENCODE])

    with pytest.raises(ModelError, match="onnxruntime refuses it"):
        Graph(models, ENCODE, "cpu", threads=1)


def test_a_gpu_that_is_demanded_and_missing_says_what_to_install() -> None:
    try:
        Classifier(device="cuda")
    except ModelError as error:
        assert "wildlane[cuda]" in str(error)
    else:
        pytest.skip("this machine has a usable GPU")


def test_the_model_names_its_provenance() -> None:
    graph = Graph(MODELS, ENCODE, "cpu", threads=1)

    assert graph.metadata["trained_on"] == "ImageNet-1k"
    assert json.loads(graph.metadata["mean"]) == [127.0, 127.0, 127.0]
    assert graph.metadata["input_px"] == "224"


@pytest.mark.parametrize("path", sorted(MODELS.iterdir()), ids=lambda path: path.name)
def test_a_model_file_names_no_file_of_the_machine_that_made_it(path: Path) -> None:
    content = path.read_bytes()

    assert b"site-packages" not in content
    assert b"/adapters/training" not in content


def test_a_classifier_that_travels_refuses_another_model(classifier: Classifier) -> None:
    state = classifier.__getstate__()

    Classifier.__new__(Classifier).__setstate__(dict(state))
    with pytest.raises(ModelError, match="holds another model on"):
        Classifier.__new__(Classifier).__setstate__(state | {"hashes": ["sha256:of-another"]})
