"""The conditions of `evaluate` are the published ones, fixed by their seed, and unknown to training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.evaluation.conditions import SIDE_PX, VIEWS, view
from adapters.evaluation.corruptions import CORRUPTIONS, corrupt

ROOT = Path(__file__).parents[3]
FIXED = ("defocus_blur", "brightness", "contrast", "pixelate", "jpeg_compression")  # these draw nothing
DRAWN = tuple(name for name in CORRUPTIONS if name not in FIXED)


@pytest.fixture(scope="module")
def pictures(demo_animals: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    return [cv2.resize(crop, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC) for crop in demo_animals.values()]


def published(picture: NDArray[np.uint8], name: str) -> NDArray[np.float64]:
    from imagecorruptions import corrupt as reference

    rgb = np.ascontiguousarray(picture[:, :, ::-1])
    return reference(rgb, severity=3, corruption_name=name)[:, :, ::-1].astype(float)


@pytest.mark.filterwarnings("ignore")  # of numba, which the reference compiles with
@pytest.mark.parametrize("name", FIXED)
def test_corruptions_without_chance_equal_the_published_code(name: str, pictures: list[NDArray[np.uint8]]) -> None:
    for picture in pictures:
        ours = corrupt(picture, name, np.random.default_rng(0)).astype(float)
        assert np.abs(ours - published(picture, name)).mean() < 0.3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DRAWN)
def test_corruptions_with_chance_match_the_published_code_on_average(
    name: str, pictures: list[NDArray[np.uint8]]
) -> None:
    np.random.seed(0)  # the reference draws from the global generator
    draws = range(80 if name == "frost" else 24)  # frost: which of six photographs, and where
    for picture in pictures[:1]:
        ours = [corrupt(picture, name, np.random.default_rng(i)).astype(float) for i in draws]
        theirs = [published(picture, name) for _ in draws]
        for figure in (np.mean, np.std, lambda x: np.abs(np.diff(x, axis=1)).mean()):
            assert np.mean([figure(x) for x in ours]) == pytest.approx(np.mean([figure(x) for x in theirs]), rel=0.1)


@pytest.mark.parametrize("name", [name for views in VIEWS.values() for name in views])
@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (224, 224)])
def test_a_view_depends_on_its_seed_alone_and_takes_any_size(name: str, shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (*shape, 3), dtype=np.uint8)
    first, again = (view(picture, name, np.random.default_rng(5)) for _ in range(2))
    assert first.dtype == np.uint8
    assert first.shape == ((*shape, 3) if name == "clean" else (SIDE_PX, SIDE_PX, 3))
    assert np.array_equal(first, again)


def test_infrared_is_grey_flat_and_noisy(pictures: list[NDArray[np.uint8]]) -> None:
    seen = view(pictures[0], "infrared", np.random.default_rng(0)).astype(float)
    assert np.ptp(seen, axis=2).max() == 0
    assert seen.max() < 0.45 * 255 + 20 + 40
    assert cv2.Laplacian(seen[:, :, 0], cv2.CV_64F).std() > 2


def test_training_knows_none_of_the_recipes() -> None:
    for path in (ROOT / "adapters/training").glob("*.py"):
        text = path.read_text()
        assert "evaluation.conditions" not in text
        assert "evaluation.corruptions" not in text
        assert "imagecorruptions" not in text
