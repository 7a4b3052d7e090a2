"""Fit anew what stands on the encoder and needs no training by episodes: p(animal), and the animals of M.

    python tools/refit.py --data ../shared/data

To be run after a change of what a camera's pictures are cut into (`monitor/training_crops.py`), or of either fit; about
five minutes on two cores. Writes match.onnx, head.safetensors and knowledge.npz of adapters/models, and the manifest.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np

from adapters.encoder import Encoder
from adapters.runtime import HEAD, KNOWLEDGE, MATCH, MODELS, PRETRAINED, SHIPPED, read_verified, write_manifest
from adapters.training.animal_probe import add_clips
from adapters.training.checkpoint import save_arrays, save_weights
from adapters.training.export import deployed_head, export_match
from adapters.training.statistics import SEED, fit_base
from monitor.training_crops import cutout_crops, road_crops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with images/, clips/ and stamps/")
    data, rng = parser.parse_args().data, np.random.default_rng(SEED)
    encode, head = Encoder(MODELS), deployed_head(MODELS)
    with np.load(io.BytesIO(read_verified(MODELS, KNOWLEDGE)), allow_pickle=False) as stored:
        knowledge = dict(stored)
    fitted, _, probe = fit_base(encode, Encoder(MODELS, PRETRAINED), data, rng)
    add_clips(probe, encode, data, road_crops, cutout_crops, rng, print)
    head.match.animal.load_state_dict(probe.fit()._asdict())
    print(f"{MATCH}: {export_match(head.match, MODELS / MATCH):.1e} from torch")
    save_weights(MODELS / HEAD, head.state_dict())
    rivals = {"animals": fitted["animals"], "means": fitted["means"].astype(np.float16)}
    save_arrays(MODELS / KNOWLEDGE, **knowledge | rivals)
    write_manifest(MODELS, SHIPPED)


if __name__ == "__main__":
    main()
