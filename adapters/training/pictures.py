"""Folders of pictures and clips as training material."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from adapters.errors import InputError
from adapters.stills import PictureFile, read_learnable
from adapters.training.splits import SOURCES, Source, class_folders

# Kinds that no road camera will meet. They would only teach the probe that water, petals and sand are animals.
_NOT_ON_A_ROAD = """
architeuthis-dux balaenoptera-musculus betta-splendens carcharodon-carcharias centruroides-vittatus ceratitis-capitata
apis-mellifera danaus-plexippus delphinapterus-leucas dermochelys-coriacea dugong-dugon enteroctopus-dofleini formicidae
hapalochlaena-maculosa heterocera megaptera-novaeangliae monodon-monoceros musca-domestica papilio-glaucus
periplaneta-americana physalia-physalis physeter-macrocephalus pterois-mombasae salmo-salar sphyrna-mokarran
tursiops-truncatus chelonia-mydas hydrurga-leptonyx
crab crayfish hawksbill nautilus octopus sea_horse starfish
n01910747 n02165456 n02606052 n01770081 n02074367 n02174001 n09256479 n04275548 n01704323 n02966193
"""
NOT_ON_A_ROAD = frozenset(_NOT_ON_A_ROAD.split())

LARGEST_PX = 640  # the network sees 224

ROAD_CLIPS = (  # fixed cameras without an animal in view
    "aerial_car_intel.mp4",
    "cctv_night_ir_rfmanz.mp4",
    "highway_bgslibrary_video02.avi",
    "intersection_crosswalk_borislavy.mp4",
    "pedestrians_vtest_debian.avi",
    "road_bgslibrary_video.avi",
    "street_parked_ckuhn517.mp4",
)


@dataclass(frozen=True, kw_only=True)
class LabelledPicture:
    """A picture file with its class and source, and whether that class is an animal."""

    path: Path
    label: str
    source: Source
    animal: bool


def read_for_training(path: PictureFile) -> NDArray[np.uint8]:
    """Return a picture, uint8 (height, width, 3), BGR, no side above `LARGEST_PX`: a folder of them fits into memory.

    Raises:
        InputError: see `read_learnable`.
    """
    picture = read_learnable(path)
    scale = LARGEST_PX / max(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (max(1, round(scale * side)) for side in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]  # cv2 types it as any array


def base_pictures(data: Path, *, per_class: int) -> Iterator[LabelledPicture]:
    """Yield pictures of the training classes of every source, at most `per_class` of each class."""
    animals = {row["wnid"] for row in _rows(data / "images/mini-imagenet/classes.tsv") if row["animal"]}
    for source in SOURCES:
        for folder in class_folders(data, source, "train"):
            animal = source != "mini-imagenet" or folder.name in animals
            for path in folder.pictures[:per_class]:
                yield LabelledPicture(path=path, label=folder.name, source=source, animal=animal)


def cutouts(data: Path) -> list[NDArray[np.uint8]]:
    """Return the cut-outs of land animals, each uint8 (height, width, 4)."""
    return [cutout for _, group, cutout in stamps(data) if group != "aquatic"]


def stamps(data: Path) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    """Yield every cut-out as its file's name without suffix, its group, and uint8 (height, width, 4)."""
    for row in _rows(data / "stamps/stamps.tsv"):
        cutout = cv2.imread(str(data / "stamps" / row["file"]), cv2.IMREAD_UNCHANGED)
        if cutout is not None:
            yield Path(row["file"]).stem, row["group"], cutout


def clip_frames(path: Path, *, every: int) -> Iterator[NDArray[np.uint8]]:
    """Yield every n-th frame of a clip, uint8 (height, width, 3), BGR."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise InputError(f"{path}: not a video that FFmpeg can open")
    index = 0
    while capture.grab():
        index += 1
        if index % every == 0:
            ok, frame = capture.retrieve()
            if ok:
                yield frame  # type: ignore[misc]  # cv2 types a frame as any integer or float array
    capture.release()


def frame_rate(path: Path) -> float:
    """Return the frames a second that a clip says it has."""
    return float(cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FPS))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
