"""The only module that knows onnxruntime: verified model files, the device that is proved to run, sessions."""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from adapters.errors import ModelError

log = logging.getLogger(__name__)

MODELS = Path(__file__).with_name("models")
ENCODE, ADAPT, MATCH, KNOWLEDGE, MANIFEST = "encode.onnx", "adapt.onnx", "match.onnx", "knowledge.npz", "manifest.json"
ENCODE_FP16, ENCODE_INT8 = "encode.fp16.onnx", "encode.int8.onnx"  # encode.onnx in fewer bits, for GPUs and CPUs
HEAD = "head.safetensors"  # weights of adapt.onnx and match.onnx, for those who train on
PRETRAINED = "pretrained.onnx"  # the encoder before our training: the teacher, and the baseline of `evaluate`
SHIPPED = (ENCODE, ENCODE_FP16, ENCODE_INT8, ADAPT, MATCH, KNOWLEDGE, PRETRAINED, HEAD)  # what a manifest names

STARTER = "starter.npz"  # a manifest names it where there is one; a model may come without

Device = Literal["auto", "cuda", "tensorrt", "cpu"]
Precision = Literal["auto", "fp32", "fp16", "int8"]
PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}
# an exhaustive search takes a second for every new batch size, and finds nothing faster (PaddlePaddle/PaddleX#5057)
CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}
VNNI = {"avx512_vnni", "avx_vnni"}  # as /proc/cpuinfo calls them
INSTALL_CUDA = "install the NVIDIA driver and run: pip install 'wildlane[cuda]'"


def write_manifest(folder: Path, names: Iterable[str]) -> None:
    """Write manifest.json with the SHA-256 and size of each named file of the folder, and of its starter class set."""
    names = [*names, *([STARTER] if (folder / STARTER).exists() else [])]
    files = {
        name: {"sha256": _sha256((folder / name).read_bytes()), "bytes": (folder / name).stat().st_size}
        for name in names
    }
    (folder / MANIFEST).write_text(json.dumps({"format": 1, "files": files}, indent=1) + "\n")


def copy_models(source: Path, target: Path) -> None:
    """Copy the graphs and what belongs to them to another folder; the caller alters them and writes its manifest.

    Raises:
        ModelError: a file is missing or altered: it must not get a sound manifest.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in SHIPPED:
        (target / name).write_bytes(read_verified(source, name))


def read_verified(folder: Path, name: str) -> bytes:
    """Return the bytes of a model file after checking them against the folder's manifest.

    Raises:
        ModelError: the file or the manifest is missing, or the bytes are not those that the manifest names.
    """
    expected = _named(folder, name)
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ModelError(f"{folder / name}: can't be read ({error.strerror})") from None
    if _sha256(content) != expected:
        raise ModelError(
            f"{folder / name}: SHA-256 is {_sha256(content)}, the manifest says {expected}; "
            "the file was altered or cut short"
        )
    return content


def file_hash(folder: Path, name: str) -> str:
    """Return the SHA-256 that the manifest gives for a file, as `sha256:...`.

    Raises:
        ModelError: the manifest can't be read, or does not name the file.
    """
    return f"sha256:{_named(folder, name)}"


def _named(folder: Path, name: str) -> str:
    known = _manifest(folder)
    if name not in known:
        raise ModelError(f"{folder / MANIFEST}: does not name {name}")
    return known[name]


def _manifest(folder: Path) -> dict[str, str]:
    try:
        listed = json.loads((folder / MANIFEST).read_text())
        return {name: entry["sha256"] for name, entry in listed["files"].items()}
    except OSError as error:
        raise ModelError(f"{folder / MANIFEST}: can't be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f'{folder / MANIFEST}: expected {{"files": {{name: {{"sha256": ...}}}}}}') from None


class Graph:
    """One ONNX graph on the device that was asked for, proved by the provider that the session really holds.

    A GPU that fails while it runs (a driver that was updated, a card that fell off the bus) is given up for the CPU:
    slower answers are better than none.
    """

    def __init__(self, folder: Path, name: str, device: Device, *, threads: int) -> None:
        """Load and verify `folder/name`.

        Args:
            folder: holds the file and its manifest.
            name: the file.
            device: `auto` takes a GPU where one works, else the CPU.
            threads: CPU threads within an operator.

        Raises:
            ModelError: see `read_verified`; or the device asked for does not work, with what to install.
        """
        self._content, self._name, self._threads = read_verified(folder, name), name, threads
        providers = _providers(device)
        try:
            self._session = self._open(providers)
        except Exception as error:  # noqa: BLE001  # onnxruntime raises half a dozen private classes here
            raise ModelError(f"{folder / name}: onnxruntime refuses it: {error}") from None
        self.lost_device = False
        if device in ("cuda", "tensorrt") and self.provider == PROVIDERS["cpu"]:
            raise ModelError(f"device = '{device}' is asked for, but {name} runs on {self.provider}; {INSTALL_CUDA}")
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def _open(self, providers: list[str]) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # warnings about fallen-back nodes are told once, by us
        # A spinning worker would take the cores that decode the video.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings = [_settings_of(provider, self._content) for provider in providers]
        return ort.InferenceSession(self._content, options, providers=providers, provider_options=settings)

    @property
    def provider(self) -> str:
        """Where it runs now."""
        return str(self._session.get_providers()[0])

    @property
    def on_gpu(self) -> bool:
        """It runs on a GPU now."""
        return self.provider != PROVIDERS["cpu"]

    def run(self, **inputs: NDArray[Any]) -> Sequence[NDArray[np.float32]]:
        """Run the graph on named inputs and return its outputs in order; its buffers stay for the next run."""
        return self._run(inputs, None)

    def run_once(self, **inputs: NDArray[Any]) -> Sequence[NDArray[np.float32]]:
        """Run the graph as `run` does, and give its buffers on the CPU back to the system."""
        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return self._run(inputs, options)

    def _run(self, inputs: dict[str, NDArray[Any]], options: ort.RunOptions | None) -> Sequence[NDArray[np.float32]]:
        outputs: Sequence[NDArray[np.float32]]
        try:
            outputs = self._session.run(None, inputs, options)
        except Exception as error:
            if not self.on_gpu:
                raise
            log.error("%s failed on %s, it goes on on the CPU: %s", self._name, self.provider, error)  # noqa: TRY400
            self._session, self.lost_device = self._open([PROVIDERS["cpu"]]), True
            outputs = self._session.run(None, inputs, options)
        return outputs


def proved_device(device: Device) -> Literal["cpu", "gpu"]:
    """Return where a graph will run; the device is the one that `Graph` is asked for."""
    return "cpu" if _providers(device)[0] == PROVIDERS["cpu"] else "gpu"


def sums_bytes_exactly() -> bool:
    """Tell whether the CPU has VNNI: without it products of 8 bits saturate, and an int8 graph computes something else.

    Reference:
        onnxruntime, "Quantize ONNX models", on U8S8 and AVX2.
    """
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & VNNI)


def _providers(device: Device) -> list[str]:
    """Return the providers to ask for, best first; one whose driver is absent is never tried, it only writes noise."""
    cpu = [PROVIDERS["cpu"]]
    if device == "cpu":
        return cpu
    usable = [name for name in ort.get_available_providers() if name in (PROVIDERS["cuda"], PROVIDERS["tensorrt"])]
    if not _has_nvidia_driver() or PROVIDERS["cuda"] not in usable:
        if device == "auto":
            return cpu
        raise ModelError(
            f"device = '{device}' is asked for, but there is no usable NVIDIA GPU here; "
            f"{INSTALL_CUDA}, or set device = 'auto'"
        )
    ort.preload_dlls()  # takes CUDA and cuDNN from the pip packages of the `cuda` extra
    wanted = [PROVIDERS["tensorrt"], PROVIDERS["cuda"]] if device == "tensorrt" else [PROVIDERS["cuda"]]
    return [name for name in wanted if name in usable] + cpu


def _settings_of(provider: str, model: bytes) -> dict[str, str]:
    if provider == PROVIDERS["tensorrt"]:
        # minutes to build, and good for this model, driver and library only; TensorRT adds the GPU's kind to the name
        path = str(_engine_cache(model))
        timing = {"trt_timing_cache_enable": "1", "trt_timing_cache_path": path}
        return {"trt_engine_cache_enable": "1", "trt_engine_cache_path": path, **timing}
    return CUDA_OPTIONS if provider == PROVIDERS["cuda"] else {}


def _engine_cache(model: bytes) -> Path:
    """Return the folder of the engines of a model: below what systemd names, else in the user's cache."""
    roots = (os.environ.get("CACHE_DIRECTORY"), os.environ.get("XDG_CACHE_HOME"))
    root = next((Path(root) for root in roots if root), Path.home() / ".cache")
    driver = Path("/proc/driver/nvidia/version")
    key = model + ort.__version__.encode() + (driver.read_bytes() if driver.exists() else b"")
    folder = root / "wildlane" / "tensorrt" / _sha256(key)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _has_nvidia_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
