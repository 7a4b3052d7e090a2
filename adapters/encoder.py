"""Crops -> features: one encoder graph, its preprocessing, batches."""

from __future__ import annotations

import json
import logging
import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from adapters.errors import DeviceError, ModelError
from adapters.runtime import (
    ENCODE,
    ENCODE_FP16,
    ENCODE_INT8,
    Device,
    Graph,
    Precision,
    Proved,
    file_hash,
    proved_device,
    sums_bytes_exactly,
)

log = logging.getLogger(__name__)

SHOT_VIEWS = 3  # of a labelled crop; see `shot_views`
LOOKS = 2  # at a still; see `look_views`
MARGIN = 0.08  # left off each side of the third
MAX_BATCH = 16  # crops in one run; larger batches gain nothing on a CPU and fill a small GPU's memory
GPU_BATCHES = (1, 4, 16)  # a GPU plans anew for each number of crops: it gets one of these, filled up

Image = NDArray[np.uint8]  # (height, width, 3), BGR


@dataclass(frozen=True)
class Features:
    """What encode.onnx makes of n crops.

    Attributes:
        tok: tokens, float32 (n, T, d_token).
        glob: pooled vectors, float32 (n, d_pooled).
    """

    tok: NDArray[np.float32]
    glob: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.glob)

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[np.intp]) -> Features:
        return Features(self.tok[rows], self.glob[rows])


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a crop becomes the network's input: squeezed to a square, then `(rgb_0_to_255 - mean) / std`."""

    input_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def squares(self, crops: Sequence[Image]) -> NDArray[np.uint8]:
        """Return crops of any size and shape as uint8 (n, input_px, input_px, 3), BGR."""
        side = (self.input_px, self.input_px)
        squares = np.empty((len(crops), *side, 3), np.uint8)
        for square, crop in zip(squares, crops, strict=True):
            shrinks = min(crop.shape[:2]) > self.input_px
            cv2.resize(crop, side, dst=square, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        return squares

    def __call__(self, crops: Sequence[Image]) -> NDArray[np.float32]:
        """Return crops of any size and shape as float32 (n, 3, input_px, input_px), RGB, normalised."""
        squares = self.squares(crops)
        image = np.empty((len(crops), 3, self.input_px, self.input_px), np.float32)
        for channel in range(3):  # BGR to RGB; plane by plane is four times as fast as turning the whole around
            image[:, channel] = squares[..., 2 - channel]
        image -= np.array(self.mean, np.float32)[:, None, None]
        image /= np.array(self.std, np.float32)[:, None, None]
        return image


def unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x with its last dimension scaled to length 1; a zero vector stays zero."""
    return np.asarray(x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-6), np.float32)


def shot_views(crop: Image) -> tuple[Image, ...]:
    """Return what a labelled crop is learned as: itself, its mirror image, and the mirrored middle of it."""
    mirrored = crop[:, ::-1]
    dy, dx = round(MARGIN * crop.shape[0]), round(MARGIN * crop.shape[1])
    return crop, mirrored, mirrored[dy : crop.shape[0] - dy, dx : crop.shape[1] - dx]


def look_views(crop: Image) -> tuple[Image, ...]:
    """Return how a still is looked at: as it is, and the mirrored middle of it."""
    plain, _, mirrored_middle = shot_views(crop)
    return plain, mirrored_middle


VARIANTS = {"fp32": ENCODE, "fp16": ENCODE_FP16, "int8": ENCODE_INT8}


def _precision(wanted: Precision, device: Proved) -> Precision:
    if wanted != "auto":
        if wanted == "int8" and device == "cpu" and not sums_bytes_exactly():
            log.warning("precision = 'int8': this CPU has no VNNI, where names and p(animal) are others; set 'auto'")
        return wanted
    if device != "cpu":
        return "fp16"
    return "int8" if sums_bytes_exactly() else "fp32"


class Encoder:
    """An encoder graph of a model folder on one device.

    A GPU that fails while it runs is given up for the CPU: slower answers are better than none.

    Attributes:
        hash: SHA-256 of the graph in full precision; class memories name it.
        threads: CPU threads within an operator.
        precision: fp32, fp16 or int8.
        lost_device: the GPU failed, and the CPU has taken over.
    """

    def __init__(
        self,
        folder: Path,
        name: str = ENCODE,
        *,
        device: Device = "auto",
        precision: Precision = "fp32",
        threads: int = 2,
    ) -> None:
        """Load the graph and what its metadata says of its input.

        Args:
            folder: holds the graph and the manifest.
            name: the graph; only encode.onnx comes in several precisions.
            device: `auto` takes a GPU where one works, else the CPU.
            precision: `auto` takes fp16 on a GPU, int8 on a CPU with VNNI, else fp32.
            threads: CPU threads within an operator.

        Raises:
            ModelError: the file is missing or altered, lacks its metadata, or the device does not work.
        """
        self._folder, self._name, self._wanted, self.threads = folder, name, precision, threads
        self._device: Device = device
        self.took: Callable[[int, float], None] = lambda crops, seconds: None  # told of each run of the graph
        self.lost_device, self._change = False, threading.Lock()
        try:
            self._load(proved_device(device))
        except DeviceError as error:
            if device != "auto":
                raise
            log.warning("the GPU is left alone, the CPU does the work: %s", error)
            self._load("cpu")
        self.hash = file_hash(folder, name)  # the same in every precision: what one made the others understand
        try:
            metadata = self._graph.metadata
            self.prepare = Preprocessing(
                input_px=int(metadata["input_px"]),
                mean=tuple(json.loads(metadata["mean"])),
                std=tuple(json.loads(metadata["std"])),
            )
        except (KeyError, ValueError) as error:
            raise ModelError(
                f"{folder / name}: its metadata lacks a usable {error}; export it with `wildlane model export`"
            ) from None

    def __reduce__(self) -> tuple[object, ...]:
        """Travel to another process as where the graph lies; there it takes the device that it finds."""
        return _again, (self._folder.absolute(), self._name, self._device, self._wanted, self.threads, self.hash)

    def _load(self, device: Proved) -> None:
        self.precision = _precision(self._wanted, device)
        name = VARIANTS[self.precision] if self._name == ENCODE else self._name
        self._graph = Graph(self._folder, name, device, threads=self.threads)

    @property
    def provider(self) -> str:
        """Where it runs now."""
        return self._graph.provider

    def __call__(self, crops: Sequence[Image]) -> Features:
        """Return the features of n crops of any size and shape."""
        batches = [self._run(crops[i : i + MAX_BATCH]) for i in range(0, len(crops), MAX_BATCH)]
        return Features(np.concatenate([tok for tok, _ in batches]), np.concatenate([glob for _, glob in batches]))

    def warm_up(self) -> None:
        """Run every number of crops that a GPU will get: it plans seconds for each, and no camera should wait."""
        blank = np.zeros((self.prepare.input_px, self.prepare.input_px, 3), np.uint8)
        for size in GPU_BATCHES if self._graph.on_gpu else ():
            self._run([blank] * size)

    def _run(self, crops: Sequence[Image]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        graph, count = self._graph, len(crops)
        image = self.input_of(crops, graph)
        if graph.on_gpu:
            size = next(size for size in GPU_BATCHES if size >= count)
            image = np.concatenate([image, np.zeros((size - count, *image.shape[1:]), image.dtype)])
        began_s = time.perf_counter()
        try:
            tok, glob = graph.run(image=image)
        except DeviceError as error:
            self._give_up(graph, error)
            return self._run(crops)
        self.took(len(image), time.perf_counter() - began_s)
        return tok[:count], glob[:count]

    def input_of(self, crops: Sequence[Image], graph: Graph | None = None) -> NDArray[Any]:
        """Return crops as the graph takes them: bare pixels, or normalised planes where it is in full precision."""
        takes_pixels = (graph or self._graph).takes_pixels
        return self.prepare.squares(crops) if takes_pixels else self.prepare(crops)

    def _give_up(self, graph: Graph, error: DeviceError) -> None:
        with self._change:
            if self._graph is not graph:
                return  # another thread came first
            log.error("the CPU goes on with the work: %s", error)
            self._load("cpu")
            self.lost_device = True

    def shots(self, crops: Sequence[Image]) -> list[Features]:
        """Return the features of each labelled crop in its `SHOT_VIEWS` views."""
        if not crops:
            return []
        features = self([view for crop in crops for view in shot_views(crop)])
        return [features[i : i + SHOT_VIEWS] for i in range(0, len(features), SHOT_VIEWS)]

    def looks(self, crops: Sequence[Image]) -> Features:
        """Return the features of n stills in their `LOOKS` views, those of one after another: (n * LOOKS, ...)."""
        return self([view for crop in crops for view in look_views(crop)])


def _again(folder: Path, name: str, device: Device, precision: Precision, threads: int, expected: str) -> Encoder:
    encode = Encoder(folder, name, device=device, precision=precision, threads=threads)
    if encode.hash != expected:
        raise ModelError(f"{folder / name}: is another graph on {platform.node()} than where the work began")
    return encode


def joined(parts: Sequence[Features]) -> Features:
    """Return several features as one."""
    return Features(np.concatenate([part.tok for part in parts]), np.concatenate([part.glob for part in parts]))


def stored(features: Features) -> tuple[int, bytes, bytes]:
    """Return features as a store keeps them: how many tokens, the tokens in float16, the pooled vectors in float32."""
    tok, glob = features.tok.astype(np.float16), features.glob.astype(np.float32)
    return tok.shape[1], tok.tobytes(), glob.tobytes()
