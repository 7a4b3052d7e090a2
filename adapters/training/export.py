"""Turn torch modules into the three ONNX graphs and their manifest: encode.onnx, adapt.onnx, match.onnx."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from safetensors.torch import load, load_file
from torch import Tensor, nn
from torch.export import Dim

from adapters.errors import ModelError
from adapters.runtime import (
    ADAPT,
    ENCODE,
    ENCODE_FP16,
    ENCODE_INT8,
    HEAD,
    KNOWLEDGE,
    MATCH,
    PRETRAINED,
    SHIPPED,
    read_verified,
    write_manifest,
)
from adapters.training.attention import Adapt, AnimalWeights, Head, HeadStatistics, Match
from adapters.training.backbone import LITE1, Backbone, folded_lite, load_backbone
from adapters.training.checkpoint import save_weights
from adapters.training.variants import write_variants
from adapters.workers import Say

log = logging.getLogger(__name__)

OPSET = 18  # the newest that older JetPack parsers take
TOLERANCE = 1e-4  # largest absolute difference between torch and onnxruntime
# what a run leaves
BACKBONE, STATISTICS, KNOWLEDGE_ROWS = "backbone.safetensors", "statistics.npz", "knowledge.npz"
CALIBRATION = "calibration.npz"  # pictures to measure the ranges of activations on

Axes = dict[int, Dim]


def export_pretrained(backbone_name: str, out: Path, *, progress: Say = lambda line: None) -> None:
    """Write encode.onnx of a pretrained network and the manifest that names it: where a training may start.

    Raises:
        ModelError: the weights can't be had, or the graph differs from torch by more than `TOLERANCE`.
    """
    out.mkdir(parents=True, exist_ok=True)
    progress(f"{ENCODE}: {export_encode(load_backbone(backbone_name), out / ENCODE):.1e} from torch")
    write_manifest(out, [ENCODE])


def export_run(run: Path, out: Path, *, progress: Say = lambda line: None) -> None:
    """Write what a finished training deploys, each graph checked against torch, and the manifest.

    Args:
        run: folder of `wildlane model train`.
        out: folder to write to; what else it holds, such as class sets, stays.
        progress: called with one line a step.

    Raises:
        ModelError: the run is not finished, or a graph differs from torch by more than `TOLERANCE`.
    """
    for name in (BACKBONE, STATISTICS, CALIBRATION, HEAD, KNOWLEDGE_ROWS):
        if not (run / name).exists():
            raise ModelError(f"{run}: holds no {name}; let `wildlane model train` finish first")
    out.mkdir(parents=True, exist_ok=True)
    progress(f"{PRETRAINED}: {export_encode(load_backbone(LITE1), out / PRETRAINED, any_size=True):.1e} from torch")
    backbone = folded_lite(run / BACKBONE)
    progress(f"{ENCODE}: {export_encode(backbone, out / ENCODE):.1e} from torch")
    head = load_head(run / HEAD)
    export_head(head, out, progress=progress)
    with (
        np.load(run / STATISTICS, allow_pickle=False) as fitted,
        np.load(run / KNOWLEDGE_ROWS) as rows,
        torch.no_grad(),
    ):
        np.savez(
            out / KNOWLEDGE,
            keys=head.adapt.project(torch.from_numpy(rows["tokens"])).numpy(),
            labels=rows["labels"],
            counts=rows["counts"],
            projection=head.adapt.project.projection.numpy(),
            token_mean=head.adapt.project.token_mean.numpy(),
            mu=fitted["mu"],
            pretrained_mu=fitted["pretrained_mu"],
            animals=fitted["animals"],
            means=fitted["means"].astype(np.float16),
        )
    write_manifest(out, [ENCODE])
    with np.load(run / CALIBRATION, allow_pickle=False) as stored:
        write_variants(out, list(stored["pictures"]), seed=0)
    progress(f"{ENCODE_FP16}, {ENCODE_INT8}: the encoder in fewer bits")
    write_manifest(out, SHIPPED)


def export_head(head: Head, out: Path, *, progress: Say = lambda line: None) -> None:
    """Write adapt.onnx and match.onnx of a head, and its weights beside them; the manifest is the caller's to write."""
    progress(f"{ADAPT}: {export_adapt(head.adapt, out / ADAPT):.1e} from torch")
    progress(f"{MATCH}: {export_match(head.match, out / MATCH):.1e} from torch")
    save_weights(out / HEAD, head.state_dict())


def load_head(path: Path) -> Head:
    """Return the head of a training's file of weights, in evaluation mode."""
    return _head_of(load_file(path), path)


def deployed_head(models: Path) -> Head:
    """Return the head of a model folder, in evaluation mode.

    Raises:
        ModelError: its weights are missing or altered, or are those of another program version's head.
    """
    return _head_of(load(read_verified(models, HEAD)), models / HEAD)


def _head_of(tensors: dict[str, Tensor], path: Path) -> Head:
    statistics = HeadStatistics(
        projection=tensors["adapt.project.projection"],
        token_mean=tensors["adapt.project.token_mean"],
        regions=tensors["adapt.partition.queries"],
        temperature=0.0,
        none_cosine=0.0,
        animal=AnimalWeights(*(tensors[f"match.animal.{name}"] for name in AnimalWeights._fields)),
    )
    head = Head(statistics)
    try:
        head.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"{path}: not the weights of this program's head ({error})") from None
    return head.eval()


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
    return export_graph(backbone, path, examples, ["image"], ["tok", "glob"], [axes], metadata)


def export_adapt(adapt: Adapt, path: Path) -> float:
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
    examples = [_adapt_example(adapt, *sizes) for sizes in ((5, 3, 49, 7, 64), (1, 1, 49, 1, 1), (20, 8, 25, 64, 100))]
    names = ["tok", "glob", "mask", "neg", "mkey", "mu"]
    outputs = ["Z", "proto", "W", "b", "none", "shots", "key"]
    return export_graph(adapt.eval(), path, examples, names, outputs, axes, {"graph": "adapt"})


def export_match(match: Match, path: Path) -> float:
    """Write match.onnx and return its largest difference to torch over several sizes, also one class and one crop."""
    batch, tokens, classes, keys = (Dim(name) for name in ("batch", "tokens", "classes", "keys"))
    per_class: Axes = {0: classes}
    memory = [per_class, per_class, per_class, per_class, {}, per_class, per_class]
    axes: list[Axes] = [{0: batch, 1: tokens}, {0: batch}, *memory, {0: keys}, {}]
    examples = [_match_example(match, *sizes) for sizes in ((4, 49, 5, 64), (1, 49, 1, 1), (16, 25, 100, 150))]
    names = ["tok", "glob", "Z", "proto", "W", "b", "none", "shots", "key", "mkey", "mu"]
    outputs = ["weights", "p_class", "p_animal", "similarity_m", "heat"]
    return export_graph(match.eval(), path, examples, names, outputs, axes, {"graph": "match"})


def export_graph(
    module: nn.Module,
    path: Path,
    examples: list[tuple[Tensor, ...]],
    inputs: list[str],
    outputs: list[str],
    axes: list[Axes],
    metadata: dict[str, str],
) -> float:
    """Write a module as ONNX and return its largest difference to torch over the examples.

    Args:
        module: in evaluation mode.
        path: file to write.
        examples: inputs of several sizes; the first one is traced, so its sizes are all different and above 1.
        inputs: their names.
        outputs: their names.
        axes: which dimensions of each input vary.
        metadata: kept in the file.

    Raises:
        ModelError: the difference is more than `TOLERANCE`; nothing was written.
    """
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
            outputs = module(*example)
        expected = outputs if isinstance(outputs, tuple) else (outputs,)
        got = session.run(None, {name: value.numpy() for name, value in zip(inputs, example, strict=True)})
        for ours, theirs in zip(expected, got, strict=True):
            scale = max(1.0, float(ours.abs().max()))  # of large numbers the last digits differ by more
            worst = max(worst, float(np.abs(ours.numpy() - theirs).max()) / scale)
    return worst


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _unit_noise(*shape: int) -> Tensor:
    return nn.functional.normalize(_noise(*shape), dim=-1)


def _adapt_example(
    adapt: Adapt, classes: int, shots: int, tokens: int, negatives: int, keys: int
) -> tuple[Tensor, ...]:
    d_token, d_pooled = len(adapt.project.token_mean), len(adapt.descend.dimension_factors)
    mask = torch.ones(classes, shots)
    mask[0, 1:] = 0  # the first class has one shot, the rest is padding
    return (
        _noise(classes, shots, tokens, d_token),
        _noise(classes, shots, d_pooled).abs(),
        mask,
        _noise(negatives, d_pooled).abs(),
        _unit_noise(keys, 192),
        _noise(d_pooled).abs(),
    )


def _match_example(match: Match, batch: int, tokens: int, classes: int, keys: int) -> tuple[Tensor, ...]:
    d_token, d_pooled = len(match.project.token_mean), len(match.animal.mean)
    return (
        _noise(batch, tokens, d_token),
        _noise(batch, d_pooled).abs(),
        _unit_noise(classes, 8, 192),
        _unit_noise(classes, d_pooled),
        _noise(classes, d_pooled),
        _noise(classes),
        _unit_noise(8, 192),
        torch.ones(classes),
        _unit_noise(classes, 192),
        _unit_noise(keys, 192),
        _noise(d_pooled).abs(),
    )
