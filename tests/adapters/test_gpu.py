"""What only a machine with an NVIDIA GPU can tell; left out elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.encoder import Encoder
from adapters.errors import ModelError
from adapters.runtime import ENCODE, MODELS, PRETRAINED, PROVIDERS
from tests.conftest import ROOT

CROPS = [np.random.default_rng(seed).integers(0, 255, (90, 120, 3), np.uint8) for seed in range(5)]


def on_the_gpu(name: str, precision: Literal["fp32", "fp16"]) -> Encoder:
    try:
        return Encoder(MODELS, name, device="cuda", precision=precision)
    except ModelError as error:
        pytest.skip(str(error))


def likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The least cosine of rows."""
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min())


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_gpu_answers_as_the_cpu_does(precision: Literal["fp32", "fp16"]) -> None:
    encode = on_the_gpu(ENCODE, precision)
    expected, found = Encoder(MODELS, device="cpu")(CROPS).glob, encode(CROPS).glob

    assert encode.provider == PROVIDERS["cuda"]
    assert not encode.lost_device
    assert likeness(expected, found) > 0.999


@pytest.mark.gpu
def test_any_number_of_crops_is_answered_as_on_the_cpu_in_any_order() -> None:
    encode = on_the_gpu(ENCODE, "fp16")
    encode.warm_up()
    crops = [np.random.default_rng(seed).integers(0, 255, (90, 120, 3), np.uint8) for seed in range(40)]
    expected = Encoder(MODELS, device="cpu")(crops).glob

    for count in (40, 1, 3, 17, 16, 2, 40):
        found = encode(crops[:count]).glob
        assert likeness(expected[:count], found) > 0.999
    assert not encode.lost_device


@pytest.mark.gpu
def test_a_graph_that_takes_any_size_runs_on_the_gpu_too() -> None:
    encode = on_the_gpu(PRETRAINED, "fp32")
    expected, found = Encoder(MODELS, PRETRAINED, device="cpu")(CROPS).glob, encode(CROPS).glob

    assert not encode.lost_device
    assert np.allclose(expected, found, atol=0.05)


@pytest.mark.gpu
def test_the_benchmark_says_how_near_the_gpu_comes_to_bare_onnxruntime() -> None:
    ended = subprocess.run(
        [sys.executable, "benchmarks/gpu.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == 3:
        pytest.skip(ended.stdout.strip())
    print(ended.stdout)

    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 7
