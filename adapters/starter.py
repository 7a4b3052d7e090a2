"""The starter class set: what a new site knows before its operator teaches anything; features only, no pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from adapters.classes import ClassAttributes, Shot
from adapters.encoder import Features
from adapters.errors import StoreError
from adapters.runtime import STARTER, read_verified


def read_starter(models: Path, encoder_hash: str) -> dict[ClassAttributes, Sequence[Shot]]:
    """Return the classes of a model folder's starter file.

    It holds arrays `tok` (n, V, T, d_token) and `glob` (n, V, d) of n shots in V views, `owner` (n,) and JSON `facts`.

    Raises:
        ModelError: it is missing, or not the one that the folder's manifest names.
        StoreError: it belongs to another encoder, or is no such file.
    """
    path, content = models / STARTER, read_verified(models, STARTER)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            tok, glob, owner = stored["tok"], stored["glob"], stored["owner"]
        if facts["encoder"] != encoder_hash:
            raise StoreError(
                f"{path}: was made for encoder {facts['encoder']}, this is {encoder_hash}; "
                "run tools/make_starter_classes.py"
            )
        classes = [ClassAttributes(**entry) for entry in facts["classes"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not a starter class set ({error})") from None
    return {
        attributes: [
            Shot(
                features=Features(tok[i].astype(np.float32), glob[i].astype(np.float32)),
                crop=None,
                source=facts["provenance"],
            )
            for i in np.flatnonzero(owner == row)
        ]
        for row, attributes in enumerate(classes)
    }


def hand_on(old: Path, new: Path, encoder_hash: str) -> None:
    """Write a model folder's starter class set for an encoder that was fine-tuned close to the one that made it.

    Its pictures may not be kept, so that the features stay those of the encoder before; the file says so.
    """
    with np.load(io.BytesIO(read_verified(old, STARTER)), allow_pickle=False) as stored:
        arrays = dict(stored)
    facts = json.loads(str(arrays.pop("facts")))
    facts |= {"encoder": encoder_hash, "provenance": f"{facts['provenance']}; encoded before fine-tuning"}
    np.savez_compressed(new / STARTER, **arrays, facts=np.array(json.dumps(facts)))
