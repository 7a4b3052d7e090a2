from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.class_set import ClassSetStore
from adapters.classes import ClassAttributes
from adapters.classifier import Classifier
from adapters.crops import LabelledCrop
from adapters.errors import ConfigError, TeachError
from adapters.frames import LEAST_SHARPNESS, LEAST_TAUGHT_PX, blurred, sharpness
from adapters.teaching import Lesson, teach
from tests.conftest import DEMO_CLIP, DEMO_TRUTH

MOOSE = ClassAttributes(name="moose", size="large", origin="wild")


def learn(
    store: ClassSetStore,
    classifier: Classifier,
    attributes: ClassAttributes,
    images: list[str],
    crops: list[NDArray[np.uint8] | str],
) -> Lesson:
    labelled = [crop if isinstance(crop, str) else LabelledCrop(crop) for crop in crops]
    return teach(store, classifier, attributes, images, labelled)


def views(crop: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The animal, mirrored, nearer, and in infra-red."""
    grey = np.repeat(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)[:, :, None], 3, axis=2)
    return [crop, crop[:, ::-1].copy(), crop[6:-6, 6:-6].copy(), grey]


def test_a_class_taught_from_a_few_frames_is_recognised(
    store: ClassSetStore, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    lesson = learn(store, classifier, MOOSE, list("abcd"), views(demo_animals["caribou"]))

    answer = classifier.classify([np.roll(demo_animals["caribou"], 3, axis=1)], store.load(classifier).memory)[0]
    assert lesson.used == 4
    assert lesson.refused == []
    assert answer.label == "moose"
    assert lesson.leave_one_out == 1.0
    assert set(lesson.answer()) == {"class", "version", "frames", "used", "refused", "seconds", "report"}


def test_frames_that_teach_nothing_are_refused_with_the_reason(
    store: ClassSetStore, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    crop = demo_animals["caribou"]
    crops = [crop, crop.copy(), np.zeros((5, 5, 3), np.uint8), "no such picture"]

    lesson = learn(store, classifier, MOOSE, ["a", "b", "c", "d"], crops)

    assert lesson.used == 1
    assert {entry["image"]: entry["why"].split(":")[0] for entry in lesson.refused} == {
        "b": "shows the same as a",
        "c": "too small or too flat",
        "d": "no such picture",
    }


def test_a_frame_that_looks_like_none_of_the_others_is_refused_and_taught_when_it_comes_alone(
    store: ClassSetStore, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    sign = np.full((90, 200, 3), 255, np.uint8)
    cv2.putText(sign, "STOP 50", (5, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.6, (0, 0, 200), 5)
    lesson = learn(store, classifier, MOOSE, list("abcde"), [*views(demo_animals["caribou"]), sign])
    alone = learn(store, classifier, MOOSE, ["e"], [sign])

    assert lesson.refused == [
        {"image": "e", "why": "looks like none of the other frames; if it is one, teach it alone"}
    ]
    assert (lesson.used, alone.used) == (4, 1)


def test_a_blurred_animal_is_refused_where_its_box_is_blurred_whatever_is_behind_it(
    store: ClassSetStore, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    crop = cv2.resize(demo_animals["caribou"], (120, 120))
    smeared = crop.copy()
    smeared[10:110, 10:110] = cv2.GaussianBlur(crop, (0, 0), 5)[10:110, 10:110]
    lesson = teach(
        store,
        classifier,
        MOOSE,
        ["a", "b", "c"],
        [
            LabelledCrop(crop),
            LabelledCrop(cv2.GaussianBlur(crop[:, ::-1], (0, 0), 5)),
            LabelledCrop(smeared, (10, 10, 110, 110)),
        ],
    )

    assert lesson.used == 1
    assert [entry["image"] for entry in lesson.refused] == ["b", "c"]
    assert all("too blurred: sharpness 0." in entry["why"] for entry in lesson.refused)


def test_no_animal_of_the_demonstration_and_hardly_any_picture_of_a_species_is_too_blurred(data: Path) -> None:
    boxes: dict[int, list[list[int]]] = {}
    for event in json.loads(DEMO_TRUTH.read_text())["events"]:
        for frame, *box in event["boxes"]:
            boxes.setdefault(frame, []).append(box)
    capture, shown = cv2.VideoCapture(str(DEMO_CLIP), cv2.CAP_FFMPEG), []
    for index in range(max(boxes) + 1):
        _, image = capture.read()
        shown += [image[max(0, y) : y + h, max(0, x) : x + w] for x, y, w, h in boxes.get(index, [])]
    capture.release()
    shown = [crop for crop in shown if min(crop.shape[:2]) >= LEAST_TAUGHT_PX]
    pictures = sorted((data / "images/species").glob("*/*.*"))[::4]
    refused = [path for path in pictures if sharpness(LabelledCrop(cv2.imread(str(path)))) < LEAST_SHARPNESS]

    assert len(shown) > 500
    assert [crop.shape for crop in shown if blurred(LabelledCrop(crop))] == []
    assert len(refused) / len(pictures) <= 1 / 200, refused


def test_without_a_usable_frame_nothing_is_changed(store: ClassSetStore, classifier: Classifier) -> None:
    before = store.versions()

    with pytest.raises(TeachError, match="nothing of 'moose' can be taught, nothing was changed"):
        learn(store, classifier, MOOSE, ["a"], [np.zeros((5, 5, 3), np.uint8)])

    assert store.versions() == before


def test_the_report_says_what_would_help(
    store: ClassSetStore, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    large = cv2.resize(demo_animals["bear"], (200, 200))

    lesson = learn(store, classifier, MOOSE, ["a"], [large])

    assert lesson.leave_one_out is None
    assert lesson.missing == [
        "4 more frames, from other angles",
        "frames at night or in infra-red",
        "frames from far away, 48 pixels or less",
        f"frames that tell it from 'bear': the two are {lesson.nearest['bear']:.2f} alike",
    ]


def test_the_report_counts_the_frames_of_earlier_lessons_and_looks_at_their_pictures(
    store: ClassSetStore, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    plain, mirrored, nearer, grey = views(cv2.resize(demo_animals["caribou"], (90, 90)))
    far = cv2.resize(demo_animals["caribou"], (40, 40))
    alone = learn(store, classifier, MOOSE, ["a"], [grey])
    second = learn(store, classifier, MOOSE, ["b", "c"], [mirrored, far])
    third = learn(store, classifier, MOOSE, ["d", "e"], [nearer, plain])

    assert alone.missing[:2] == ["4 more frames, from other angles", "frames from far away, 48 pixels or less"]
    assert second.missing[:1] == ["2 more frames, from other angles"]
    assert [wish for wish in third.missing if "tell it from" not in wish] == []


def test_a_starter_class_counts_the_frames_that_it_came_with(
    store: ClassSetStore, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    cattle = ClassAttributes(name="cattle", size="large", origin="domestic")
    lesson = learn(store, classifier, cattle, ["a"], [demo_animals["cattle"]])

    assert [wish for wish in lesson.missing if "more frames" in wish] == []


def test_old_classes_keep_their_answers_when_another_is_taught(
    store: ClassSetStore, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    before = store.load(classifier)
    learn(store, classifier, MOOSE, list("abcd"), views(demo_animals["caribou"]))
    after = store.load(classifier)

    rows = [after.memory.names.index(name) for name in before.memory.names]
    assert np.allclose(before.memory.arrays["proto"], after.memory.arrays["proto"][rows], atol=1e-5)


def test_a_known_class_keeps_what_alerts_are_coded_by(
    store: ClassSetStore, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    small = ClassAttributes(name="cattle", size="small", origin="domestic")
    with pytest.raises(ConfigError, match="'cattle' is taught as large and domestic, this says small and domestic"):
        learn(store, classifier, small, ["a"], [demo_animals["cattle"]])

    learn(
        store,
        classifier,
        ClassAttributes(name="cattle", size="large", origin="domestic"),
        ["a"],
        [demo_animals["cattle"]],
    )

    assert store.attributes()["cattle"].scientific_name == "Bos taurus"


def test_a_picture_of_an_earlier_lesson_does_not_count_twice(
    store: ClassSetStore, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    learn(store, classifier, MOOSE, ["a"], [demo_animals["caribou"]])

    lesson = learn(
        store, classifier, MOOSE, ["a", "b"], [demo_animals["caribou"], demo_animals["caribou"][:, ::-1].copy()]
    )

    assert lesson.refused == [{"image": "a", "why": "was taught before"}]


def test_what_is_kept_shows_the_animal_and_a_mosaic_around_it(
    store: ClassSetStore, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    crop = cv2.resize(demo_animals["caribou"], (120, 120))
    cv2.putText(crop, "AB 123", (2, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    teach(store, classifier, MOOSE, ["a"], [LabelledCrop(crop, (20, 24, 100, 96))])

    ((kept,),) = [[shot.png for shot in shots] for a, shots in store.kept(classifier).items() if a == MOOSE]
    assert kept is not None
    picture = cv2.imdecode(np.frombuffer(kept, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(picture[24:96, 20:100], crop[24:96, 20:100])
    outside = np.ones((120, 120), bool)
    outside[24:96, 20:100] = False
    assert len({tuple(pixel) for pixel in picture[outside].tolist()}) <= 100  # one colour a block


def test_a_crop_too_small_to_be_compared_to_is_refused(
    store: ClassSetStore, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]
) -> None:
    small = cv2.resize(demo_animals["caribou"], (12, 12), interpolation=cv2.INTER_AREA)

    with pytest.raises(TeachError, match="12 x 12 pixels, at least 16"):
        learn(store, classifier, MOOSE, ["a"], [small])
