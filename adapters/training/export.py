"""Turn torch modules into the three ONNX graphs and their manifest: encode.onnx, adapt.onnx, match.onnx."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn
from torch.export import Dim

from adapters.errors import ModelError
from adapters.runtime import ADAPT, ENCODE, KNOWLEDGE, MATCH, PRETRAINED, write_manifest
from adapters.training.attention import Adapt, Head, HeadStatistics, Match
from adapters.training.backbone import LITE0, Backbone, load_backbone

log = logging.getLogger(__name__)

OPSET = 18  # the newest that older JetPack parsers take
TOLERANCE = 1e-4  # largest absolute difference between torch and onnxruntime
STATISTICS = Path(__file__).with_name("head_statistics.npz")

Axes = dict[int, Dim]


def export_models(backbone_name: str, out: Path, *, progress: Callable[[str], None] = lambda line: None) -> None:
    """Write the three graphs, each checked against torch, and the manifest that names their SHA-256.

    Args:
        backbone_name: see `load_backbone`.
        out: folder to write to; it must hold the knowledge base, whose hash enters the manifest too.
        progress: called with one line a step.

    Raises:
        ModelError: the weights can't be had, the head's statistics belong to another backbone, or a graph
            differs from torch by more than `TOLERANCE`.
    """
    backbone = load_backbone(backbone_name)
    out.mkdir(parents=True, exist_ok=True)
    progress(f"{ENCODE}: {export_encode(backbone, out / ENCODE):.1e} from torch")
    if backbone_name != LITE0:
        progress(f"{ADAPT}, {MATCH}: left out, the head's statistics are those of {LITE0}; fit them anew first")
        return
    statistics = load_statistics()
    progress(f"{PRETRAINED}: {export_encode(backbone, out / PRETRAINED, any_size=True):.1e} from torch")
    head = Head(statistics, backbone.d_pooled).eval()
    progress(f"{ADAPT}: {export_adapt(head.adapt, backbone, out / ADAPT):.1e} from torch")
    progress(f"{MATCH}: {export_match(head.match, backbone, out / MATCH):.1e} from torch")
    write_manifest(out, [ENCODE, ADAPT, MATCH, KNOWLEDGE, PRETRAINED])


def load_statistics(path: Path = STATISTICS) -> HeadStatistics:
    """Read what tools/fit_head_statistics.py wrote."""
    with np.load(path, allow_pickle=False) as stored:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(stored[name])) for name in stored.files}
    return HeadStatistics(
        projection=tensors["projection"],
        token_mean=tensors["token_mean"],
        regions=tensors["regions"],
        temperature=float(tensors["temperature"]),
        none_cosine=float(tensors["none_cosine"]),
        animal_mean=tensors["animal_mean"],
        animal_weight=tensors["animal_weight"],
        animal_bias=float(tensors["animal_bias"].reshape(())),
    )


def export_encode(backbone: Backbone, path: Path, *, any_size: bool = False) -> float:
    """Write encode.onnx and return its largest difference to torch at batch sizes 1 and 5.

    With `any_size` the graph takes pictures of any height and width; training wants that, TensorRT does not.
    """
    side = backbone.preprocessing.input_px
    expects = backbone.preprocessing
    metadata = {
        **backbone.provenance,
        "graph": "encode",
        "input_px": str(side),
        "mean": json.dumps(expects.mean),
        "std": json.dumps(expects.std),
        "channel_order": "RGB",
        "d_token": str(backbone.d_token),
        "d_pooled": str(backbone.d_pooled),
    }
    examples = [(_noise(batch, 3, side, side),) for batch in (2, 1, 5)]
    axes: Axes = {0: Dim("batch")} | ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC} if any_size else {})
    return _export(backbone, path, examples, ["image"], ["tok", "glob"], [axes], metadata)


def export_adapt(adapt: Adapt, backbone: Backbone, path: Path) -> float:
    """Write adapt.onnx and return its largest difference to torch over several sizes, also one class and one shot."""
    classes, shots, tokens, negatives, keys = (
        Dim(name) for name in ("classes", "shots", "tokens", "negatives", "keys")
    )
    axes = [
        {0: classes, 1: shots, 2: tokens},
        {0: classes, 1: shots},
        {0: classes, 1: shots},
        {0: negatives},
        {0: keys},
        {},
    ]
    examples = [
        _adapt_example(backbone, *sizes) for sizes in ((5, 3, 49, 7, 64), (1, 1, 49, 1, 1), (20, 8, 25, 64, 100))
    ]
    names = ["tok", "glob", "mask", "neg", "mkey", "mu"]
    return _export(
        adapt.eval(), path, examples, names, ["Z", "proto", "W", "b", "none", "shots"], axes, {"graph": "adapt"}
    )


def export_match(match: Match, backbone: Backbone, path: Path) -> float:
    """Write match.onnx and return its largest difference to torch over several sizes, also one class and one crop."""
    batch, tokens, classes, keys = (Dim(name) for name in ("batch", "tokens", "classes", "keys"))
    per_class: Axes = {0: classes}
    axes = [{0: batch, 1: tokens}, {0: batch}, per_class, per_class, per_class, per_class, {}, per_class, {0: keys}, {}]
    examples = [_match_example(backbone, *sizes) for sizes in ((4, 49, 5, 64), (1, 49, 1, 1), (16, 25, 100, 150))]
    names = ["tok", "glob", "Z", "proto", "W", "b", "none", "shots", "mkey", "mu"]
    outputs = ["weights", "p_class", "p_animal", "similarity_m", "heat"]
    return _export(match.eval(), path, examples, names, outputs, axes, {"graph": "match"})


def _export(
    module: nn.Module,
    path: Path,
    examples: list[tuple[Tensor, ...]],
    inputs: list[str],
    outputs: list[str],
    axes: list[Axes],
    metadata: dict[str, str],
) -> float:
    with warnings.catch_warnings():  # torch's own exporter warns of its own deprecated parts
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            examples[0],
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple(axes),
            verbose=False,
        )
    model = program.model_proto  # type: ignore[union-attr]  # None only without dynamo
    _strip_traces(model)
    for key, value in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    difference = _difference(module, model, examples, inputs)
    if difference > TOLERANCE:
        raise ModelError(
            f"{path.name}: differs from torch by {difference:.1e}, more than {TOLERANCE:.0e}; nothing was written"
        )
    path.write_bytes(model.SerializeToString())
    return difference


def _strip_traces(model: onnx.ModelProto) -> None:
    """Remove the exporter's stack traces: they name files of the machine, and change bytes where nothing changed."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _difference(
    module: nn.Module, model: onnx.ModelProto, examples: list[tuple[Tensor, ...]], inputs: list[str]
) -> float:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    worst = 0.0
    for example in examples:
        with torch.no_grad():
            expected = module(*example)
        got = session.run(None, {name: value.numpy() for name, value in zip(inputs, example, strict=True)})
        worst = max(worst, *(float(np.abs(e.numpy() - g).max()) for e, g in zip(expected, got, strict=True)))
    return worst


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _unit_noise(*shape: int) -> Tensor:
    return nn.functional.normalize(_noise(*shape), dim=-1)


def _adapt_example(
    backbone: Backbone, classes: int, shots: int, tokens: int, negatives: int, keys: int
) -> tuple[Tensor, ...]:
    mask = torch.ones(classes, shots)
    mask[0, 1:] = 0  # the first class has one shot, the rest is padding
    return (
        _noise(classes, shots, tokens, backbone.d_token),
        _noise(classes, shots, backbone.d_pooled).abs(),
        mask,
        _noise(negatives, backbone.d_pooled).abs(),
        _unit_noise(keys, 192),
        _noise(backbone.d_pooled).abs(),
    )


def _match_example(backbone: Backbone, batch: int, tokens: int, classes: int, keys: int) -> tuple[Tensor, ...]:
    return (
        _noise(batch, tokens, backbone.d_token),
        _noise(batch, backbone.d_pooled).abs(),
        _unit_noise(classes, 8, 192),
        _unit_noise(classes, backbone.d_pooled),
        _noise(classes, backbone.d_pooled),
        _noise(classes),
        _unit_noise(8, 192),
        torch.ones(classes),
        _unit_noise(keys, 192),
        _noise(backbone.d_pooled).abs(),
    )
