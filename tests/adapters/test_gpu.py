"""What only a machine with an NVIDIA GPU can tell; left out elsewhere."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import numpy as np
import pytest

from adapters.encoder import Encoder
from adapters.errors import ModelError
from adapters.runtime import MODELS, PROVIDERS
from tests.conftest import ROOT

CROPS = [np.random.default_rng(seed).integers(0, 255, (90, 120, 3), np.uint8) for seed in range(5)]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_gpu_answers_as_the_cpu_does(precision: Literal["fp32", "fp16"]) -> None:
    try:
        encode = Encoder(MODELS, device="cuda", precision=precision)
    except ModelError as error:
        pytest.skip(str(error))
    expected, found = Encoder(MODELS, device="cpu")(CROPS).glob, encode(CROPS).glob

    assert encode.provider == PROVIDERS["cuda"]
    assert not encode.lost_device
    cosines = (expected * found).sum(1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.999


@pytest.mark.gpu
def test_the_benchmark_says_how_near_the_gpu_comes_to_bare_onnxruntime() -> None:
    ended = subprocess.run(
        [sys.executable, "benchmarks/gpu.py"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == 3:
        pytest.skip(ended.stdout.strip())
    print(ended.stdout)

    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 6
