"""What becomes of a graph whose device fails while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import runtime
from adapters.encoder import Encoder
from adapters.runtime import MODELS, PROVIDERS

CROP = np.random.default_rng(1).integers(0, 255, (80, 60, 3), np.uint8)


class LostGpu:
    """A session as onnxruntime makes it on a GPU that has fallen off the bus."""

    def __init__(self, session: Any) -> None:
        self.get_modelmeta = session.get_modelmeta

    def get_providers(self) -> list[str]:
        return [PROVIDERS["cuda"], PROVIDERS["cpu"]]

    def run(self, names: None, inputs: dict[str, Any], options: object) -> list[Any]:
        raise RuntimeError("CUDA failure 719: unspecified launch failure")


class CountingGpu(LostGpu):
    """A session that works and notes how many crops it was given."""

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self._session = session

    def run(self, names: None, inputs: dict[str, Any], options: object) -> list[Any]:
        given.append(len(inputs["image"]))
        return self._session.run(names, inputs)


given: list[int] = []


def pretend(monkeypatch: pytest.MonkeyPatch, make: Callable[[Any], Any]) -> None:
    """Every session that asks for a GPU is one that `make` makes of the CPU's."""
    real = runtime.ort.InferenceSession

    def opened(content: bytes, options: Any, providers: list[str], provider_options: Any) -> Any:
        session = real(content, options, providers=[PROVIDERS["cpu"]])
        return session if providers == [PROVIDERS["cpu"]] else make(session)

    monkeypatch.setattr(runtime.ort, "InferenceSession", opened)
    monkeypatch.setattr(
        runtime,
        "_providers",
        lambda device: [PROVIDERS["cpu"]] if device == "cpu" else [PROVIDERS["cuda"], PROVIDERS["cpu"]],
    )


def test_an_encoder_whose_gpu_fails_goes_on_on_the_cpu_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, LostGpu)
    encode = Encoder(MODELS, device="cuda", precision="fp32")
    assert (encode.provider, encode.lost_device) == (PROVIDERS["cuda"], False)

    features = encode([CROP])

    assert np.array_equal(features.glob, Encoder(MODELS, device="cpu")([CROP]).glob)
    assert (encode.provider, encode.lost_device) == (PROVIDERS["cpu"], True)
    assert "failed on CUDAExecutionProvider, it goes on on the CPU: CUDA failure 719" in caplog.text


def test_a_mistake_of_our_own_is_no_lost_device() -> None:
    encode = Encoder(MODELS, device="cpu")

    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        encode._graph.run(image=np.zeros((1, 3, 7), np.float32))
    assert not encode.lost_device


def test_a_gpu_is_given_few_numbers_of_crops_and_the_answers_are_those_of_the_crops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, CountingGpu)
    given.clear()
    crops = [np.roll(CROP, shift, axis=1) for shift in range(21)]
    expected = Encoder(MODELS, device="cpu")(crops).glob
    encode = Encoder(MODELS, device="cuda", precision="fp32")

    for count in (1, 2, 3, 4, 5, 21):
        assert np.allclose(encode(crops[:count]).glob, expected[:count], atol=1e-4)
    assert given == [1, 4, 4, 4, 16, 16, 16]


def test_engines_are_kept_by_model_where_the_service_may_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    first, again, other = (
        runtime._settings_of(PROVIDERS["tensorrt"], model)["trt_engine_cache_path"] for model in (b"a", b"a", b"b")
    )

    assert first == again != other
    assert Path(first).is_dir()
    assert tmp_path in Path(first).parents


def test_onnxruntime_reports_to_nobody(tmp_path: Path) -> None:
    program = "from adapters.classifier import Classifier; print(Classifier(device='cpu').provider)"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for quieting in ("ORT_DISABLE_TELEMETRY", "CI"):
        environment.pop(quieting, None)
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert ran.stdout == "CPUExecutionProvider\n"
    assert "telemetry" not in ran.stderr.lower()
    assert not list(tmp_path.rglob("*"))  # it would keep an id of this machine, and a queue of what it has to tell
