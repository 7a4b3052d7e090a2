"""The same encoder in fewer bits and of bare pixels: encode.fp16.onnx for GPUs, encode.int8.onnx for CPUs.

References:
    Nagel et al. 2021, https://arxiv.org/abs/2106.08295 (post-training quantisation; weights by channel)
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
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
    half = convert_float_to_float16(graph, keep_io_types=True)
    onnx.save(of_pixels(_with(half, facts)), str(models / ENCODE_FP16))
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
    onnx.save(of_pixels(_with(onnx.load(str(models / ENCODE_INT8)), facts)), str(models / ENCODE_INT8))


def of_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an encoder that takes the square as OpenCV holds it: `image`, uint8 (n, input_px, input_px, 3), BGR.

    A quarter of the bytes go to a GPU. On a CPU the pixels are the first convolution's bytes: the normalisation is the
    scale and zero point that they are quantised with, so no float picture is ever made.

    Raises:
        ValueError: mean or standard deviation differ between the channels, or the mean is no whole number.
    """
    graph, facts = model.graph, {entry.key: entry.value for entry in model.metadata_props}
    means, stds, side = set(json.loads(facts["mean"])), set(json.loads(facts["std"])), int(facts["input_px"])
    if len(means) > 1 or len(stds) > 1 or not all(mean.is_integer() for mean in means):
        raise ValueError(f"a zero point stands for one whole mean and one deviation, not for {means} and {stds}")
    _take_bgr(graph)
    for node in graph.node:
        node.input[:] = ["normalised" if name == "image" else name for name in node.input]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["batch", side, side, 3]))
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.float32(1 / stds.pop()), "pixel_scale"),
            numpy_helper.from_array(np.uint8(means.pop()), "pixel_zero_point"),
        ]
    )
    readers = [node for node in graph.node if "normalised" in node.input]  # may stand anywhere; the checker wants order
    others = [node for node in graph.node if node not in readers]
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=(0, 3, 1, 2)),
        helper.make_node("DequantizeLinear", ["planes", "pixel_scale", "pixel_zero_point"], ["normalised"]),
        *readers,
        *others,
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def _take_bgr(graph: onnx.GraphProto) -> None:
    """Turn the first convolution's weights around, from RGB to BGR."""
    name = next(node for node in graph.node if node.op_type == "Conv").input[1]
    quantised = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    weights = next(part for part in graph.initializer if part.name == quantised.get(name, name))
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights)[:, ::-1].copy(), weights.name))


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
