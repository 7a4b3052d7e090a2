"""Crops a second on a GPU beside bare onnxruntime on the same graph: python benchmarks/gpu.py [--device tensorrt]

Says which device, driver and provider; ends with status 3 where there is none.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import onnxruntime as ort

from adapters.encoder import VARIANTS, Encoder
from adapters.errors import ModelError
from adapters.runtime import MODELS, PROVIDERS, read_verified

BATCHES = (1, 8, 32, 128)
ROUNDS, LEAST_S = 5, 0.5


def rate(run: Callable[[], object], count: int) -> float:
    """Return crops a second: the median of some rounds, after one that warms up."""
    run()
    rates = []
    for _ in range(ROUNDS):
        started, runs = time.perf_counter(), 0
        while time.perf_counter() - started < LEAST_S:
            run()
            runs += 1
        rates.append(count * runs / (time.perf_counter() - started))
    return median(rates)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cuda", "tensorrt"), default="cuda")
    device = parser.parse_args().device
    try:
        encode = Encoder(MODELS, device=device, precision="fp16")
    except ModelError as error:
        print(f"no GPU: {error}")
        return 3
    began_s = time.perf_counter()
    encode.warm_up()
    print(f"planned in {time.perf_counter() - began_s:.1f} s")
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    print(subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip(), encode.provider)  # noqa: S603
    bare = ort.InferenceSession(
        read_verified(MODELS, VARIANTS["fp16"]), providers=[PROVIDERS[device], PROVIDERS["cpu"]]
    )
    rng = np.random.default_rng(1)
    print("batch  crops/s  bare crops/s  share")
    for count in BATCHES:
        crops = [rng.integers(0, 255, (120, 160, 3), np.uint8) for _ in range(count)]
        image = encode.input_of(crops)
        ours, theirs = rate(lambda: encode(crops), count), rate(lambda: bare.run(None, {"image": image}), count)  # noqa: B023
        print(f"{count:5}  {ours:7.0f}  {theirs:12.0f}  {ours / theirs:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
