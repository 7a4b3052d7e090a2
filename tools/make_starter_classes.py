"""Make the starter class set, adapters/models/starter.npz, from pictures that are at hand.

    python tools/make_starter_classes.py --data ../shared/data

Only the pictures' features are kept. Run it after every new encode.onnx.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from adapters.classes import ClassAttributes
from adapters.classifier import Classifier
from adapters.encoder import Features
from adapters.runtime import MODELS, SHIPPED, STARTER, write_manifest
from adapters.training.domains import degrade, random_square

SEED = 20261123
SHOTS = 12  # a class: half as they are, half degraded
CANDIDATES = 40  # the web-collected folders hold a few per cent of wrong pictures: the middle of these is taken
CLASSES = {
    "images/species/bos-taurus": ClassAttributes(
        name="cattle", size="large", origin="domestic", scientific_name="Bos taurus"
    ),
    "images/species/ovis-aries": ClassAttributes(
        name="sheep", size="large", origin="domestic", scientific_name="Ovis aries"
    ),
    "images/species/canis-lupus-familiaris": ClassAttributes(
        name="dog", size="small", origin="domestic", scientific_name="Canis lupus familiaris"
    ),
    "images/species/felis-catus": ClassAttributes(
        name="cat", size="small", origin="domestic", scientific_name="Felis catus"
    ),
    "images/species/ursus-arctos-horribilis": ClassAttributes(
        name="bear", size="large", origin="wild", scientific_name="Ursus arctos"
    ),
    "images/species/canis-lupus": ClassAttributes(
        name="wolf", size="large", origin="wild", scientific_name="Canis lupus"
    ),
    "images/species/loxodonta-africana": ClassAttributes(
        name="elephant", size="large", origin="wild", scientific_name="Loxodonta africana"
    ),
    "images/species/bison-bison": ClassAttributes(
        name="bison", size="large", origin="wild", scientific_name="Bison bison"
    ),
    "images/species/ovis-canadensis": ClassAttributes(
        name="bighorn", size="large", origin="wild", scientific_name="Ovis canadensis"
    ),
}
PROVENANCE = "features of web-collected species photographs; the pictures themselves are not distributed"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Make the starter class set, adapters/models/starter.npz, from pictures that are at hand; "
        "only their features are kept."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with images/")
    data = parser.parse_args().data
    classifier, rng = Classifier(device="cpu", precision="fp32"), np.random.default_rng(SEED)
    parts, owner = [], []
    for row, folder in enumerate(CLASSES):
        pictures = [cv2.imread(str(path)) for path in sorted((data / folder).iterdir())[:CANDIDATES]]
        chosen = most_typical(classifier.encode(pictures), SHOTS)
        crops = [
            picture if n % 2 else degrade(random_square(picture, rng), rng)
            for n, picture in enumerate(pictures[i] for i in chosen)
        ]
        parts += classifier.encode.shots(crops)
        owner += [row] * len(crops)
        print(CLASSES[folder].name, len(crops), flush=True)
    facts = {
        "encoder": classifier.encoder_hash,
        "classes": [asdict(attributes) for attributes in CLASSES.values()],
        "provenance": PROVENANCE,
    }
    np.savez_compressed(
        MODELS / STARTER,
        tok=np.stack([part.tok for part in parts]).astype(np.float16),
        glob=np.stack([part.glob for part in parts]).astype(np.float16),
        owner=np.array(owner, np.int32),
        facts=np.array(json.dumps(facts)),
    )
    write_manifest(MODELS, SHIPPED)


def most_typical(features: Features, count: int) -> list[int]:
    """Return the pictures nearest to the middle of their class, so that mislabelled ones stay out."""
    rows = features.glob / np.linalg.norm(features.glob, axis=1, keepdims=True)
    middle = np.median(rows, axis=0)
    return [int(i) for i in np.argsort(-(rows @ middle))[:count]]


if __name__ == "__main__":
    main()
