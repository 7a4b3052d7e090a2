"""A small world to train on: coloured shapes in noise, laid out as the shared data is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from adapters.training.attention import AnimalWeights, HeadStatistics, unit
from adapters.training.pictures import ROAD_CLIPS

N_SPECIES, N_MINI, N_PICTURES = 44, 20, 6  # 30 + 10 species and 16 mini classes are held back


def drawn(number: int, rng: Generator, side: int = 48) -> NDArray[np.uint8]:
    """A picture of class `number`: its own colour, its own shape, somewhere, in noise."""
    colour = np.random.default_rng(number).integers(40, 255, 3).tolist()
    picture = rng.integers(60, 120, (side, side, 3)).astype(np.uint8)
    x, y = (int(value) for value in rng.integers(side // 3, 2 * side // 3, 2))
    size = side // 4
    if number % 3 == 0:
        cv2.circle(picture, (x, y), size, colour, -1)
    elif number % 3 == 1:
        cv2.rectangle(picture, (x - size, y - size // 2), (x + size, y + size // 2), colour, -1)
    else:
        cv2.fillPoly(picture, [np.array([[x, y - size], [x - size, y + size], [x + size, y + size]])], colour)
    return picture


def write_class(folder: Path, number: int, count: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng((number, 5))
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:02}.png"), drawn(number, rng))


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    for number in range(N_SPECIES):
        write_class(data / f"images/species/kind-{number:02}", number, N_PICTURES)
    for number in range(N_MINI):
        write_class(data / f"images/mini-imagenet/train/n{number:08}", 100 + number, N_PICTURES)
    (data / "images/mini-imagenet/val").mkdir()
    for number in range(2):
        write_class(data / f"images/caltech-animals/thing-{number}", 200 + number, N_PICTURES)
    (data / "clips").mkdir()
    for number, name in enumerate(ROAD_CLIPS):
        write_clip(data / "clips" / name, number)
    return data


def write_clip(path: Path, number: int) -> None:
    rng, size = np.random.default_rng((number, 6)), (96, 64)
    codec = cv2.VideoWriter.fourcc(*("mp4v" if path.suffix == ".mp4" else "MJPG"))
    writer = cv2.VideoWriter(str(path), codec, 10, size)
    for _ in range(10):
        writer.write(rng.integers(90, 140, (size[1], size[0], 3)).astype(np.uint8))
    writer.release()


@pytest.fixture
def statistics() -> HeadStatistics:
    """A head's start that was fitted on nothing."""
    draw = torch.Generator().manual_seed(3)
    return HeadStatistics(
        projection=torch.randn(320, 192, generator=draw) / 18,
        token_mean=torch.randn(320, generator=draw),
        regions=unit(torch.randn(8, 192, generator=draw)),
        temperature=12.0,
        none_cosine=0.3,
        animal=AnimalWeights(
            mean=torch.zeros(1280),
            hidden=torch.randn(1280, 8, generator=draw) / 100,
            hidden_bias=torch.zeros(8),
            out=torch.randn(8, generator=draw),
            bias=torch.tensor(0.1),
        ),
    )


@pytest.fixture(scope="session")
def class_folders_of_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of fourteen pictures, as an operator might collect them."""
    folder = tmp_path_factory.mktemp("site")
    for number in range(4):
        write_class(folder / f"animal-{number}", 300 + number, 14)
    return folder
