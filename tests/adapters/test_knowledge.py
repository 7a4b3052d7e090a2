from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.classifier import Classification, Classifier
from adapters.encoder import Features
from adapters.errors import StoreError
from adapters.knowledge import Row
from adapters.site_knowledge import FILE, KEPT_VERSIONS, SAMPLE, Background, Sample, SiteKnowledge, cluster


def crops_around(centres: NDArray[np.float32], count: int, seed: int) -> Features:
    """Features of crops that gather around a few centres."""
    rng = np.random.default_rng(seed)
    glob = centres[rng.integers(len(centres), size=count)] + rng.normal(0, 0.05, (count, 1280))
    tok = rng.normal(size=(count, 49, 320)).astype(np.float32)
    return Features(tok, glob.astype(np.float32))


@pytest.fixture
def sample(classifier: Classifier) -> Sample:
    centres = np.abs(np.random.default_rng(1).normal(size=(3, 1280))).astype(np.float32)
    filled = Sample(np.random.default_rng(2))
    filled.offer(crops_around(centres, 200, 3))
    return filled


def test_a_sites_background_becomes_rows_of_m(classifier: Classifier, sample: Sample) -> None:
    rows = cluster(sample, classifier.knowledge)
    known = classifier.knowledge.with_rows(rows)

    assert {row.kind for row in rows} == {"background"}
    assert sum(row.count for row in rows) == 200
    assert np.allclose(np.linalg.norm(known.keys, axis=1), 1, atol=1e-4)
    assert known.negatives.shape == (len(rows), 1280)
    assert not classifier.knowledge.negatives.any()  # the base itself knows no site


def test_crops_of_one_kind_fall_into_the_same_clusters(classifier: Classifier, sample: Sample) -> None:
    rows = cluster(sample, classifier.knowledge)

    centred = np.stack([row.mean - classifier.knowledge.mu for row in rows])
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = centred @ centred.T
    near = cosine > 0.9
    assert np.linalg.matrix_rank(near) == 3  # as many groups as there were centres


def test_the_sample_stays_bounded_and_remembers_old_and_new_alike() -> None:
    sample = Sample(np.random.default_rng(4))
    for batch in range(40):
        sample.offer(Features(np.full((50, 1, 2), batch, np.float32), np.full((50, 3), batch, np.float32)))

    _, pooled = sample.vectors()
    assert len(sample) == SAMPLE
    assert sample.offered == 2000
    assert 15 < pooled[:, 0].mean() < 24  # 0 to 39 were offered equally often


def test_what_was_learned_survives_and_belongs_to_its_encoder(
    classifier: Classifier, sample: Sample, tmp_path: Path
) -> None:
    rows = cluster(sample, classifier.knowledge)
    store = SiteKnowledge(tmp_path)
    store.save(rows, "sha256:a", sample.offered)
    store.close()

    again = SiteKnowledge(tmp_path)
    loaded = again.load("sha256:a")

    assert [row.label for row in loaded] == [row.label for row in rows]
    assert all(np.array_equal(a.key, b.key) for a, b in zip(loaded, rows, strict=True))
    assert again.load("sha256:another") == []
    again.close()


def test_old_versions_are_dropped(tmp_path: Path) -> None:
    store = SiteKnowledge(tmp_path)
    row = Row(kind="background", label="x", key=np.ones(3, np.float32), count=1, mean=np.ones(4, np.float32))
    for _ in range(KEPT_VERSIONS + 5):
        store.save([row], "sha256:a", 1)
    store.close()

    with sqlite3.connect(tmp_path / FILE) as db:
        assert db.execute("SELECT count(*) FROM version").fetchone() == (KEPT_VERSIONS,)
        assert db.execute("SELECT count(*) FROM row").fetchone() == (KEPT_VERSIONS,)


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")

    with pytest.raises(StoreError, match=r"knowledge\.sqlite3: can't be opened as a knowledge base"):
        SiteKnowledge(tmp_path / "state")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("not a database, but long enough to look like a file" * 10)

    with pytest.raises(StoreError, match="is no knowledge base"):
        SiteKnowledge(tmp_path)


def test_taught_classes_count_as_known(classifier: Classifier) -> None:
    rng = np.random.default_rng(5)
    features = Features(
        rng.normal(size=(2, 49, 320)).astype(np.float32), np.abs(rng.normal(size=(2, 1280))).astype(np.float32)
    )

    similarity = classifier.match(features, classifier.adapt({"moose": features}))[3]
    strange = classifier.match(features, classifier.adapt({"moose": Features(-features.tok, features.glob)}))[3]

    assert (similarity > 0.7).all()
    assert (similarity > strange).all()


@pytest.fixture
def own_classifier() -> Classifier:
    """A classifier whose knowledge a test may change."""
    return Classifier(threads=1)


def found(*, p_animal: float, none: float = 0.95, legible: bool = True) -> Classification:
    weights = {"moose": 1 - none, "none": none}
    return Classification(
        weights=weights, p_class={"moose": 1 - none}, p_animal=p_animal, similarity_m=0.3, legible=legible
    )


def road_features(count: int) -> Features:
    centres = np.abs(np.random.default_rng(1).normal(size=(3, 1280))).astype(np.float32)
    return crops_around(centres, count, 6)


def test_what_surely_shows_no_animal_becomes_the_sites_background_and_stays(
    own_classifier: Classifier, tmp_path: Path
) -> None:
    background = Background(own_classifier, tmp_path)
    features = road_features(SAMPLE)
    background.offer(features, [found(p_animal=0.02)] * (SAMPLE - 1) + [found(p_animal=0.5)])
    assert background.learn() == 0  # one too few that is sure

    background.offer(features[:3], [found(p_animal=0.02, none=0.5), found(p_animal=0.02, legible=False)] * 2)
    assert background.learn() == 0
    background.offer(features[:1], [found(p_animal=0.02)])
    rows = background.learn()
    background.close()

    assert rows > 0
    assert own_classifier.knowledge.negatives.shape == (rows, 1280)
    again = Classifier(threads=1)
    Background(again, tmp_path).close()
    assert np.array_equal(again.knowledge.negatives, own_classifier.knowledge.negatives)


def test_with_its_background_known_a_site_takes_less_of_it_for_an_animal(
    own_classifier: Classifier, tmp_path: Path
) -> None:
    road, moose = road_features(SAMPLE + 40), road_features(SAMPLE + 50)[-3:]
    moose.glob[:] = 0.6 * moose.glob + 0.8 * np.abs(np.random.default_rng(9).normal(size=1280)).astype(np.float32)
    before = own_classifier.match(road[-40:], own_classifier.adapt({"moose": moose}))
    background = Background(own_classifier, tmp_path)
    background.offer(road[:SAMPLE], [found(p_animal=0.02)] * SAMPLE)
    background.learn()
    background.close()

    after = own_classifier.match(road[-40:], own_classifier.adapt({"moose": moose}))

    assert after[1].mean() < before[1].mean()  # p(moose) of the road
    assert (after[3] > before[3]).all()  # and all of it is better known


@pytest.mark.parametrize("damage", [b"not a database" * 100, b""])
def test_a_damaged_background_is_begun_anew(own_classifier: Classifier, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / FILE).write_bytes(damage)

    background = Background(own_classifier, tmp_path)
    background.offer(road_features(SAMPLE), [found(p_animal=0.02)] * SAMPLE)

    assert background.learn() > 0
    background.close()


@pytest.mark.parametrize("key", [np.full(192, np.nan, np.float32), np.ones(7, np.float32)])
def test_rows_that_are_no_rows_are_begun_anew(
    own_classifier: Classifier, tmp_path: Path, key: NDArray[np.float32]
) -> None:
    store = SiteKnowledge(tmp_path)
    row = Row(kind="background", label="x", key=key, count=1, mean=np.ones(1280, np.float32))
    store.save([row], own_classifier.encoder_hash, 1)
    store.close()

    Background(own_classifier, tmp_path).close()

    assert not own_classifier.knowledge.negatives.any()
