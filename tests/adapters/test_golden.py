from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.class_set import ClassSetStore
from adapters.classes import ClassAttributes
from adapters.classifier import Classifier
from adapters.crops import LabelledCrop, crop_hash
from adapters.errors import ConfigError, StoreError, TeachError
from adapters.golden import CROPS, FILE, MOST_FRAMES, GoldenSet
from adapters.teaching import teach

MOOSE = ClassAttributes(name="moose", size="large", origin="wild")
Crops = dict[str, NDArray[np.uint8]]


@pytest.fixture
def golden(tmp_path: Path) -> Iterator[GoldenSet]:
    opened = GoldenSet(tmp_path)
    yield opened
    opened.close()


def labelled(crop: NDArray[np.uint8]) -> LabelledCrop:
    return LabelledCrop(np.ascontiguousarray(crop))


def test_a_version_that_names_checked_frames_worse_is_kept_and_held_back(
    store: ClassSetStore, golden: GoldenSet, classifier: Classifier, demo_animals: Crops
) -> None:
    cattle = demo_animals["cattle"]
    golden.add("cattle", [("road 1", labelled(cattle)), ("road 2", labelled(cattle[:, ::-1]))], classifier)
    in_force = store.load(classifier).version

    wrong = [labelled(cattle), labelled(cattle[:, ::-1]), labelled(cattle[4:-4, 4:-4])]  # the cattle, called a moose
    lesson = teach(store, classifier, MOOSE, list("abc"), wrong, checked_on=golden)

    assert lesson.held_back is not None
    assert "of 2 checked frames 0 are named right, 2 before (road 1 as moose" in lesson.held_back
    assert store.load(classifier).version == in_force
    assert lesson.version in {record.version for record in store.versions()}
    assert store.rollback(lesson.version) == lesson.version  # a person may still make it live


def test_a_version_that_loses_nothing_goes_live(
    store: ClassSetStore, golden: GoldenSet, classifier: Classifier, demo_animals: Crops
) -> None:
    golden.add("cattle", [("road 1", labelled(demo_animals["cattle"]))], classifier)
    lesson = teach(store, classifier, MOOSE, ["a"], [labelled(demo_animals["caribou"])], checked_on=golden)

    assert lesson.held_back is None
    assert store.load(classifier).version == lesson.version


def test_frames_of_a_class_that_is_not_taught_say_nothing(
    store: ClassSetStore, golden: GoldenSet, classifier: Classifier, demo_animals: Crops
) -> None:
    golden.add("heron", [("road 1", labelled(demo_animals["cattle"]))], classifier)
    memory = store.load(classifier).memory

    assert golden.trial(classifier, memory, memory).frames == 0


def test_none_is_a_label_and_a_new_encoder_finds_the_frames_again(
    golden: GoldenSet, store: ClassSetStore, classifier: Classifier, tmp_path: Path
) -> None:
    road = np.random.default_rng(1).integers(80, 110, (60, 60, 3)).astype(np.uint8)
    golden.add("none", [("road 3", labelled(road))], classifier)
    golden._db.execute("UPDATE frame SET encoder = 'sha256:another'")
    memory = store.load(classifier).memory
    assert golden.trial(classifier, memory, memory).frames == 0

    assert golden.rebuild(classifier) == 1
    trial = golden.trial(classifier, memory, memory)
    assert (trial.frames, trial.before, trial.after) == (1, 1, 1)


def test_the_same_frame_counts_once_and_can_be_taken_out(
    golden: GoldenSet, classifier: Classifier, demo_animals: Crops
) -> None:
    frame = ("road 1", labelled(demo_animals["bear"]))
    assert golden.add("bear", [frame], classifier) == golden.add("wolf", [frame], classifier) == 1
    ((crop, label, source, _),) = golden.listed()
    assert (label, source) == ("wolf", "road 1")
    assert golden.png(crop) is not None

    golden.remove(crop)
    assert len(golden) == 0
    assert golden.png(crop) is None


def test_it_does_not_grow_without_end(golden: GoldenSet, classifier: Classifier, demo_animals: Crops) -> None:
    with pytest.raises(TeachError, match=f"at most {MOST_FRAMES}"):
        golden.add("bear", [("x", labelled(demo_animals["bear"]))] * (MOST_FRAMES + 1), classifier)


def test_frames_of_a_class_that_is_not_taught_or_that_show_nothing_are_not_taken(
    store: ClassSetStore, golden: GoldenSet, classifier: Classifier, demo_animals: Crops, tmp_path: Path
) -> None:
    bear = ("road 1", labelled(demo_animals["bear"]))
    with pytest.raises(ConfigError, match="no class 'beer' is taught; there are: cattle"):
        golden.add("beer", [bear], classifier, taught=store.class_names())
    small = ("road 2", labelled(demo_animals["bear"][:12, :12]))
    flat = ("road 3", labelled(np.full((60, 60, 3), 90, np.uint8)))
    with pytest.raises(TeachError, match=r"road 2: too small or too flat: 12 x 12 pixels.*; road 3: too small or"):
        golden.add("bear", [bear, small, flat], classifier, taught=store.class_names())

    assert len(golden) == 0
    assert not (tmp_path / CROPS).exists()
    assert golden.add("none", [bear], classifier, taught=store.class_names()) == 1


def test_frames_that_are_added_and_taken_out_at_once_keep_their_pictures_or_leave_none(
    golden: GoldenSet, classifier: Classifier, demo_animals: Crops, tmp_path: Path
) -> None:
    another = GoldenSet(tmp_path)  # as of another program
    wanted = [labelled(np.roll(demo_animals["bear"], 2 * n, axis=1)) for n in range(12)]
    unwanted = [labelled(np.roll(demo_animals["cattle"], 2 * n, axis=1)) for n in range(12)]

    def add(at: GoldenSet, name: str, crops: list[LabelledCrop]) -> None:
        for crop in crops:
            at.add(name, [("road", crop)], classifier)

    def take_out(at: GoldenSet, crops: list[LabelledCrop]) -> None:
        for crop in crops:
            at.remove(crop_hash(crop.masked()))

    add(golden, "cattle", unwanted)
    with ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(add, golden, "bear", wanted[:6]),
            pool.submit(add, another, "bear", wanted[6:]),
            pool.submit(take_out, golden, unwanted[:6]),
            pool.submit(take_out, another, unwanted[6:]),
        ]
    for one in asked:
        one.result()
    another.close()

    named = {crop for crop, *_ in golden.listed()}
    assert named == {crop_hash(crop.masked()) for crop in wanted}
    assert {path.stem for path in (tmp_path / CROPS).iterdir()} == named


def test_the_checked_frames_of_a_class_that_is_forgotten_go_with_it(
    golden: GoldenSet, classifier: Classifier, demo_animals: Crops, tmp_path: Path
) -> None:
    golden.add("bear", [("road 1", labelled(demo_animals["bear"]))], classifier)
    golden.add("cattle", [("road 2", labelled(demo_animals["cattle"]))], classifier)
    golden.forget("bear")

    ((crop, label, *_),) = golden.listed()
    assert label == "cattle"
    assert [path.stem for path in (tmp_path / CROPS).iterdir()] == [crop]


def test_a_picture_that_no_frame_names_is_erased_when_the_set_is_opened(
    golden: GoldenSet, classifier: Classifier, demo_animals: Crops, tmp_path: Path
) -> None:
    golden.add("bear", [("road 1", labelled(demo_animals["bear"]))], classifier)
    ((crop, *_),) = golden.listed()
    (tmp_path / CROPS / f"{'0' * 64}.png").write_bytes(b"of a frame that was taken out just before the power failed")
    GoldenSet(tmp_path).close()

    assert [path.stem for path in (tmp_path / CROPS).iterdir()] == [crop]


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database, but long enough to look at" * 40)
    with pytest.raises(StoreError, match=FILE):
        GoldenSet(tmp_path)


def test_an_encoder_that_names_checked_frames_worse_than_the_former_one_is_told_once(
    golden: GoldenSet, store: ClassSetStore, classifier: Classifier, demo_animals: Crops
) -> None:
    frames = [("road 1", labelled(demo_animals["cattle"])), ("road 2", labelled(demo_animals["cattle"][:, ::-1]))]
    golden.add("cattle", frames, classifier)
    memory = store.load(classifier).memory
    assert golden.trial_of_encoder(classifier, memory).frames == 0  # there was none before

    golden._db.execute("UPDATE frame SET encoder = 'sha256:former'")
    golden._db.execute("UPDATE verdict SET encoder = 'sha256:former'")
    blind = store.load(classifier, only=["bear"]).memory  # what a worse encoder would make of it
    trial = golden.trial_of_encoder(classifier, blind)

    assert (trial.frames, trial.before, trial.after, trial.is_worse) == (2, 2, 0, True)
    assert trial.lost[0][0] == "road 1"
    assert golden.trial_of_encoder(classifier, memory).frames == 0


def test_a_frame_that_is_taken_out_leaves_no_verdict(
    golden: GoldenSet, store: ClassSetStore, classifier: Classifier, demo_animals: Crops
) -> None:
    golden.add("bear", [("road 1", labelled(demo_animals["bear"]))], classifier)
    golden.trial_of_encoder(classifier, store.load(classifier).memory)
    golden.remove(golden.listed()[0][0])

    assert golden._rows("SELECT * FROM verdict") == []
