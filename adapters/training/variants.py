"""The same encoder in fewer bits: encode.fp16.onnx for GPUs, encode.int8.onnx for CPUs.

References:
    Nagel et al. 2021, https://arxiv.org/abs/2106.08295 (post-training quantisation; weights by channel)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from adapters.encoder import Encoder, Image
from adapters.runtime import ENCODE, ENCODE_FP16, ENCODE_INT8

N_CALIBRATION = 96  # pictures that the ranges of the activations are measured on


def write_variants(models: Path, pictures: Sequence[Image], seed: int) -> None:
    """Write encode.fp16.onnx and encode.int8.onnx beside encode.onnx; the manifest is the caller's to write.

    Args:
        models: folder with encode.onnx and a manifest that names it.
        pictures: material as the encoder meets it, clean and degraded; some of it is drawn.
        seed: of that draw.
    """
    chosen = np.random.default_rng((seed, 41)).permutation(len(pictures))[:N_CALIBRATION]
    prepare = Encoder(models, device="cpu").prepare
    graph = onnx.load(str(models / ENCODE))
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    onnx.save(_with(convert_float_to_float16(graph, keep_io_types=True), facts), str(models / ENCODE_FP16))
    logging.getLogger().setLevel(logging.WARNING)  # the quantiser tells every step to the root logger
    with TemporaryDirectory() as folder:
        prepared = Path(folder) / ENCODE
        quant_pre_process(str(models / ENCODE), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(models / ENCODE_INT8),
            _Calibration(prepare([pictures[i]]) for i in chosen),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    onnx.save(_with(onnx.load(str(models / ENCODE_INT8)), facts), str(models / ENCODE_INT8))


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, batches: Iterator[NDArray[np.float32]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def _with(model: onnx.ModelProto, facts: dict[str, str]) -> onnx.ModelProto:
    del model.metadata_props[:]
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    return model
