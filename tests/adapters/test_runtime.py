"""What becomes of a graph whose device fails while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from adapters import encoder, runtime
from adapters.encoder import Encoder
from adapters.errors import DeviceError
from adapters.runtime import MODELS, PROVIDERS, sums_bytes_exactly

CROP = np.random.default_rng(1).integers(0, 255, (80, 60, 3), np.uint8)


class LostGpu:
    """A session as onnxruntime makes it on a GPU that has fallen off the bus."""

    def __init__(self, session: Any) -> None:
        self.get_modelmeta, self.get_inputs = session.get_modelmeta, session.get_inputs

    def get_providers(self) -> list[str]:
        return [PROVIDERS["cuda"], PROVIDERS["cpu"]]

    def run(self, names: None, inputs: dict[str, Any], options: object = None) -> list[Any]:
        raise RuntimeError("CUDA failure 719: unspecified launch failure")


class CountingGpu(LostGpu):
    """A session that works, in the CPU's memory, and notes how many crops it planned for and how many it was given."""

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self._session, self.get_outputs, self.io_binding = session, session.get_outputs, session.io_binding

    def run(self, names: None, inputs: dict[str, Any], options: object = None) -> list[Any]:
        planned.append(len(inputs["image"]))
        return self._session.run(names, inputs)

    def run_with_iobinding(self, binding: Any, options: object) -> None:
        self._session.run_with_iobinding(binding, options)
        given.append(binding.get_outputs()[0].shape()[0])


planned: list[int] = []
given: list[int] = []


def pretend(monkeypatch: pytest.MonkeyPatch, make: Callable[[Any], Any]) -> None:
    """Every session that asks for a GPU is one that `make` makes of the CPU's."""
    real = runtime.ort.InferenceSession

    def opened(content: bytes, options: Any, *, providers: list[str], **settings: Any) -> Any:
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
    assert "the CPU goes on with the work: encode.onnx failed on CUDAExecutionProvider: CUDA failure 719" in caplog.text


def test_the_cpu_that_takes_over_runs_what_is_made_for_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, LostGpu)
    monkeypatch.setattr(encoder, "sums_bytes_exactly", lambda: True)
    encode = Encoder(MODELS, device="cuda", precision="auto")
    assert encode.precision == "fp16"

    features = encode([CROP])

    assert encode.precision == "int8"
    assert np.array_equal(features.glob, Encoder(MODELS, device="cpu", precision="int8")([CROP]).glob)


def test_a_gpu_that_can_not_be_used_is_left_alone_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(session: Any) -> Any:
        raise RuntimeError("CUDA driver version is insufficient")

    pretend(monkeypatch, refuse)
    monkeypatch.setattr(encoder, "proved_device", lambda device: "cuda")

    encode = Encoder(MODELS, device="auto")

    assert (encode.provider, encode.lost_device) == (PROVIDERS["cpu"], False)
    assert "the GPU is left alone, the CPU does the work: " in caplog.text
    assert "CUDA driver version is insufficient" in caplog.text
    with pytest.raises(DeviceError, match="insufficient"):
        Encoder(MODELS, device="cuda")


def test_a_mistake_of_our_own_is_no_lost_device() -> None:
    encode = Encoder(MODELS, device="cpu")

    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        encode._graph.run(image=np.zeros((1, 3, 7), np.float32))
    assert not encode.lost_device


def test_a_gpu_is_given_few_numbers_of_crops_and_the_answers_are_those_of_the_crops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, CountingGpu)
    monkeypatch.setattr(runtime, "BUFFERS", "cpu")
    given.clear()
    planned.clear()
    crops = [np.roll(CROP, shift, axis=1) for shift in range(21)]
    expected = Encoder(MODELS, device="cpu")(crops).glob
    encode = Encoder(MODELS, device="cuda", precision="fp32")

    for count in (1, 2, 3, 4, 5, 21):
        assert np.allclose(encode(crops[:count]).glob, expected[:count], atol=1e-4)
    assert given == [1, 4, 4, 4, 16, 16, 16]
    assert planned == [1, 4, 16]


def test_a_gpu_plans_for_every_number_of_crops_before_the_first_camera_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, CountingGpu)
    monkeypatch.setattr(runtime, "BUFFERS", "cpu")
    encode = Encoder(MODELS, device="cuda", precision="fp32")
    planned.clear()
    encode.warm_up()
    assert planned == [1, 4, 16]

    encode([CROP] * 21)

    assert planned == [1, 4, 16]


def test_threads_that_share_a_gpu_get_each_their_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, CountingGpu)
    monkeypatch.setattr(runtime, "BUFFERS", "cpu")
    crops = [np.roll(CROP, 9 * shift, axis=1) for shift in range(8)]
    expected = [Encoder(MODELS, device="cpu")([crop]).glob for crop in crops]
    encode = Encoder(MODELS, device="cuda", precision="fp32")

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: encode([crops[i % 8]]).glob, range(64)))

    assert all(np.allclose(glob, expected[i % 8], atol=1e-4) for i, glob in enumerate(found))


WITHOUT_VNNI = pytest.mark.skipif(not sums_bytes_exactly(), reason="this CPU has no VNNI: products of 8 bits saturate")


@pytest.mark.parametrize("precision", ["fp16", pytest.param("int8", marks=WITHOUT_VNNI)])
def test_a_variant_takes_the_pixels_and_answers_as_full_precision_does(precision: Literal["fp16", "int8"]) -> None:
    full, variant = Encoder(MODELS, device="cpu"), Encoder(MODELS, device="cpu", precision=precision)
    crops = [np.ascontiguousarray(np.roll(CROP, shift, axis=1)[: 80 - shift]) for shift in range(0, 40, 8)]

    assert (full.input_of(crops).dtype, variant.input_of(crops).dtype) == (np.float32, np.uint8)
    expected, found = full(crops).glob, variant(crops).glob
    cosines = (expected * found).sum(1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > {"fp16": 0.9999, "int8": 0.98}[precision]


def test_int8_that_is_asked_for_where_it_computes_something_else_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for has_vnni, warnings in ((True, 0), (False, 1)):
        monkeypatch.setattr(encoder, "sums_bytes_exactly", lambda has_vnni=has_vnni: has_vnni)
        caplog.clear()
        Encoder(MODELS, device="cpu", precision="int8")
        assert caplog.text.count("precision = 'int8': this CPU has no VNNI") == warnings


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
