"""How well p(animal) tells animals from what else a road shows, on clips and cut-outs that took no part in its fit.

    WILDLANE_DATA=../shared/data python benchmarks/animal_at_all.py

Each clip without animals is left out in turn; the animals pasted into it are of cut-outs that no fit saw. The stills of
camera traps took no part in any fit: boxed animals against what the same pictures show elsewhere. Beside the network
that is shipped stands the sum of the pretrained network's 398 animal classes, which needs no fit. Needs the
extra `train`; about five minutes on two cores.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from adapters.encoder import Encoder
from adapters.evaluation.figures import auroc
from adapters.runtime import MODELS, PRETRAINED
from adapters.stills import read_picture
from adapters.training.animal_probe import evidence
from adapters.training.backbone import load_lite
from adapters.training.pictures import ROAD_CLIPS, cutouts
from adapters.training.statistics import SEED, fit_base
from monitor.regions import crop_box
from monitor.training_crops import cutout_crops, road_crops
from monitor.values import Box

ANIMAL_CLASSES = 398  # the first ones of ImageNet's thousand
JUDGED = 3  # every third cut-out takes no part in a fit
EMPTY_TILES = 6  # of a still, beside its animals
STILLS = Path(__file__).with_name("camera_trap_boxes.json")

Crops = list[NDArray[np.uint8]]


def still_crops(folder: Path, rng: Generator) -> tuple[Crops, Crops]:
    """Return boxed animals of the camera traps, and tiles beside them of the same sizes."""
    animals, nothing = [], []
    for picture, boxes in _boxed(folder):
        size = (picture.shape[1], picture.shape[0])
        for box in boxes:
            animals.append(_cut(picture, crop_box(box, size)))
            for _ in range(EMPTY_TILES):
                width, height = min(box.width, size[0] / 2), min(box.height, size[1] / 2)
                x, y = rng.uniform(0, size[0] - width), rng.uniform(0, size[1] - height)
                tile = crop_box(Box(x, y, x + width, y + height), size)
                if not any(_overlap(tile, other) for other in boxes):
                    nothing.append(_cut(picture, tile))
    return animals, nothing


def _boxed(folder: Path) -> Iterator[tuple[NDArray[np.uint8], list[Box]]]:
    for name, shares in json.loads(STILLS.read_text()).items():
        if name != "about":
            picture = read_picture(folder / name)
            height, width = picture.shape[:2]
            yield picture, [Box(x1 * width, y1 * height, x2 * width, y2 * height) for x1, y1, x2, y2 in shares]


def _overlap(tile: Box, other: Box) -> bool:
    return max(tile.x1, other.x1) < min(tile.x2, other.x2) and max(tile.y1, other.y1) < min(tile.y2, other.y2)


def _cut(picture: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    x1, y1, x2, y2 = (round(value) for value in box)
    return picture[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]


def summed(pretrained: Encoder, crops: Crops) -> NDArray[np.float32]:
    """Return the weight that the pretrained network gives to all animals of ImageNet together, (n,)."""
    classifier = load_lite().classifier
    with torch.no_grad():
        weights = torch.softmax(classifier(torch.from_numpy(pretrained(crops).glob)), dim=1)
    return weights[:, :ANIMAL_CLASSES].sum(dim=1).numpy()


def main() -> None:
    data, rng = Path(os.environ["WILDLANE_DATA"]), np.random.default_rng(SEED)
    encode, pretrained = Encoder(MODELS), Encoder(MODELS, PRETRAINED)
    _, _, probe = fit_base(encode, pretrained, data, rng)
    all_cutouts = cutouts(data)
    judged_cutouts = all_cutouts[::JUDGED]
    fitted_cutouts = [cutout for number, cutout in enumerate(all_cutouts) if number % JUDGED]
    judged: dict[str, tuple[Crops, Crops]] = {}
    for name in ROAD_CLIPS:
        path = data / "clips" / name
        road = list(road_crops(path, rng))
        probe.add(name, encode(road).glob, animal=False)
        probe.add(name, encode(list(cutout_crops(path, fitted_cutouts, rng))).glob, animal=True)
        judged[name] = (list(cutout_crops(path, judged_cutouts, rng)), road)
    judged["stills of camera traps"] = still_crops(data / "camera-traps/ena24", rng)
    print("| left out | animals, others | sum of 398 classes | p(animal) |\n| --- | --- | --- | --- |")
    for name, (animals, others) in judged.items():
        fitted = probe.fit(without=name)
        by_sum = auroc(summed(pretrained, animals), summed(pretrained, others))
        by_network = auroc(evidence(fitted, encode(animals).glob), evidence(fitted, encode(others).glob))
        print(f"| {name} | {len(animals)}, {len(others)} | {by_sum:.3f} | {by_network:.3f} |", flush=True)


if __name__ == "__main__":
    main()
