"""The only module that knows onnxruntime: verified model files, the device that is proved to run, sessions."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from adapters.errors import DeviceError, ModelError

MODELS = Path(__file__).with_name("models")
ENCODE, ADAPT, MATCH, KNOWLEDGE, MANIFEST = "encode.onnx", "adapt.onnx", "match.onnx", "knowledge.npz", "manifest.json"
ENCODE_FP16, ENCODE_INT8 = "encode.fp16.onnx", "encode.int8.onnx"  # encode.onnx in fewer bits, for GPUs and CPUs
HEAD = "head.safetensors"  # weights of adapt.onnx and match.onnx, for those who train on
PRETRAINED = "pretrained.onnx"  # the encoder before our training: the teacher, and the baseline of `evaluate`
SHIPPED = (ENCODE, ENCODE_FP16, ENCODE_INT8, ADAPT, MATCH, KNOWLEDGE, PRETRAINED, HEAD)  # what a manifest names

STARTER = "starter.npz"  # a manifest names it where there is one; a model may come without

Device = Literal["auto", "cuda", "tensorrt", "cpu"]
Proved = Literal["cuda", "tensorrt", "cpu"]
Precision = Literal["auto", "fp32", "fp16", "int8"]
PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider", "cpu": "CPUExecutionProvider"}
# An exhaustive search takes a second more for every new number of crops, and what it finds is slower than convolutions
# over channels last (16 crops on an H200: 1.8 ms and 1.6).
CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "prefer_nhwc": "1", "enable_cuda_graph": "1"}
BUFFERS = "cuda"  # where the inputs and outputs of a captured graph lie
CAPTURED, NOT_CAPTURED = "1", "-1"  # a run whose kernels are captured, and one that only plans
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


def verified_files(folder: Path) -> dict[str, bytes]:
    """Return the files that a model's manifest names.

    Raises:
        ModelError: see `read_verified`; or a name is a path.
    """
    names = _manifest(folder)
    if strange := [name for name in names if Path(name).name != name]:
        raise ModelError(f"{folder / MANIFEST}: '{strange[0]}' is no name of a file")
    return {name: read_verified(folder, name) for name in names}


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
    """One ONNX graph on one device, proved by the provider that the session really holds."""

    def __init__(self, folder: Path, name: str, device: Proved, *, threads: int) -> None:
        """Load and verify `folder/name`.

        Args:
            folder: holds the file and its manifest.
            name: the file.
            device: where to run it.
            threads: CPU threads within an operator.

        Raises:
            ModelError: see `read_verified`.
            DeviceError: the device does not work; with what to install.
        """
        self._content, self._name, self._threads = read_verified(folder, name), name, threads
        self._providers = _providers(device)
        self._session = self._open()
        self._launches: dict[tuple[object, ...], _Launch] = {}
        self._turn = threading.Lock()  # a launch's buffers hold one run's numbers
        if device != "cpu" and not self.on_gpu:
            raise DeviceError(f"device = '{device}' is asked for, but {name} runs on {self.provider}; {INSTALL_CUDA}")
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def _open(self) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # warnings about fallen-back nodes are told once, by us
        # A spinning worker would take the cores that decode the video.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings = [_settings_of(provider, self._content) for provider in self._providers]
        try:
            # without its own fallback: it tells nobody but the standard output, and runs 16 bits on a CPU
            return ort.InferenceSession(
                self._content, options, providers=self._providers, provider_options=settings, enable_fallback=0
            )
        except Exception as error:  # noqa: BLE001  # onnxruntime raises half a dozen private classes here
            if self._providers[0] == PROVIDERS["cpu"]:
                raise ModelError(f"{self._name}: onnxruntime refuses it: {error}") from None
            raise DeviceError(f"{self._name} can't run on {self._providers[0]}: {error}") from None

    @property
    def takes_pixels(self) -> bool:
        """Its first input is bytes."""
        return str(self._session.get_inputs()[0].type) == "tensor(uint8)"

    @property
    def provider(self) -> str:
        """Where it runs."""
        return str(self._session.get_providers()[0])

    @property
    def on_gpu(self) -> bool:
        """It runs on a GPU."""
        return self.provider != PROVIDERS["cpu"]

    def run(self, **inputs: NDArray[Any]) -> Sequence[NDArray[np.float32]]:
        """Run the graph on named inputs and return its outputs in order; its buffers stay for the next run.

        Raises:
            DeviceError: the GPU fails (a driver that was updated, a card that fell off the bus).
        """
        if not self.on_gpu:
            return self._session.run(None, inputs)  # type: ignore[no-any-return]  # onnxruntime has no types
        with self._turn:
            try:
                return self._launched(inputs)
            except Exception as error:  # noqa: BLE001  # onnxruntime raises half a dozen private classes here
                raise DeviceError(f"{self._name} failed on {self.provider}: {error}") from None

    def run_once(self, **inputs: NDArray[Any]) -> Sequence[NDArray[np.float32]]:
        """Run the graph on the CPU as `run` does, and give its buffers back to the system."""
        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return self._session.run(None, inputs, options)  # type: ignore[no-any-return]  # onnxruntime has no types

    def _launched(self, inputs: dict[str, NDArray[Any]]) -> Sequence[NDArray[np.float32]]:
        if self.provider != PROVIDERS["cuda"]:
            return self._session.run(None, inputs)  # type: ignore[no-any-return]  # onnxruntime has no types
        shapes = tuple((name, array.shape) for name, array in inputs.items())
        if shapes not in self._launches:
            self._launches[shapes] = _Launch(self._open(), inputs)
        return self._launches[shapes].run(inputs)


class _Launch:
    """A graph for inputs of given shapes as one launch on the GPU: buffers at fixed addresses, kernels captured once.

    A crop's 130 kernels take 0.5 ms so; launched one by one they take 1.4. The session serves these shapes alone: for
    others onnxruntime would plan every convolution anew, which takes seconds, and drop the plans that the captured
    kernels belong to.

    Reference:
        onnxruntime, "CUDA Execution Provider", on CUDA graphs and I/O binding.
    """

    def __init__(self, session: ort.InferenceSession, inputs: dict[str, NDArray[Any]]) -> None:
        planning, self._capturing = ort.RunOptions(), ort.RunOptions()
        planning.add_run_config_entry("gpu_graph_id", NOT_CAPTURED)
        self._capturing.add_run_config_entry("gpu_graph_id", CAPTURED)
        self._session, outputs = session, session.run(None, inputs, planning)
        self._inputs = {name: ort.OrtValue.ortvalue_from_numpy(array, BUFFERS) for name, array in inputs.items()}
        self._outputs = [
            ort.OrtValue.ortvalue_from_shape_and_type(output.shape, output.dtype, BUFFERS) for output in outputs
        ]
        self._binding = session.io_binding()
        for name, buffer in self._inputs.items():
            self._binding.bind_ortvalue_input(name, buffer)
        for output, buffer in zip(session.get_outputs(), self._outputs, strict=True):
            self._binding.bind_ortvalue_output(output.name, buffer)

    def run(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        for name, array in inputs.items():
            self._inputs[name].update_inplace(array)
        self._session.run_with_iobinding(self._binding, self._capturing)
        return [buffer.numpy().copy() for buffer in self._outputs]  # no promise that it is not the buffer itself


def proved_device(device: Device) -> Proved:
    """Return where to run: what is asked for, or for `auto` a GPU where there is a driver and a provider."""
    if device != "auto":
        return device
    return "cuda" if _has_nvidia_driver() and PROVIDERS["cuda"] in ort.get_available_providers() else "cpu"


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


def _providers(device: Proved) -> list[str]:
    """Return the providers to ask for, best first."""
    cpu = [PROVIDERS["cpu"]]
    if device == "cpu":
        return cpu
    usable = [name for name in ort.get_available_providers() if name in (PROVIDERS["cuda"], PROVIDERS["tensorrt"])]
    if not _has_nvidia_driver() or PROVIDERS["cuda"] not in usable:
        raise DeviceError(
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
