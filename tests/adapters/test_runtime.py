"""What becomes of a graph whose device fails while it runs."""

from __future__ import annotations

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

    def run(self, names: None, inputs: dict[str, Any]) -> list[Any]:
        raise RuntimeError("CUDA failure 719: unspecified launch failure")


@pytest.fixture
def lost_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every session that asks for a GPU is one that fails at its first run."""
    real = runtime.ort.InferenceSession

    def opened(content: bytes, options: Any, providers: list[str]) -> Any:
        session = real(content, options, providers=[PROVIDERS["cpu"]])
        return session if providers == [PROVIDERS["cpu"]] else LostGpu(session)

    monkeypatch.setattr(runtime.ort, "InferenceSession", opened)
    monkeypatch.setattr(
        runtime,
        "_providers",
        lambda device: [PROVIDERS["cpu"]] if device == "cpu" else [PROVIDERS["cuda"], PROVIDERS["cpu"]],
    )


@pytest.mark.usefixtures("lost_gpu")
def test_an_encoder_whose_gpu_fails_goes_on_on_the_cpu_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
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
