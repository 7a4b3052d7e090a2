"""Checkpoints without pickle: tensors in safetensors, facts in its metadata; written whole or not at all."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from adapters.errors import InputError
from adapters.files import write_whole

CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"


def save_weights(path: Path, weights: Mapping[str, Tensor], facts: dict[str, str] | None = None) -> None:
    """Write weights, whole or not at all; parts that several names share are stored under each of them."""
    write_whole(path, save_tensors({name: value.contiguous().clone() for name, value in weights.items()}, facts))


def save_arrays(path: Path, **arrays: object) -> None:
    """Write arrays as .npz, whole or not at all."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_whole(path, content.getvalue())


def log_step(folder: Path, step: int, losses: Mapping[str, float]) -> None:
    """Write down the losses of a step."""
    with (folder / LOG).open("a") as file:
        file.write(json.dumps({"step": step, **losses}) + "\n")


def save(
    folder: Path, parts: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, step: int, recipe: dict[str, object]
) -> None:
    """Write the state of a training after a step; the recipe says which run it belongs to."""
    tensors = {f"{part}.{name}": value for part, m in parts.items() for name, value in m.state_dict().items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in state.items()}
    save_weights(folder / CHECKPOINT, tensors, {"step": str(step), "recipe": json.dumps(recipe)})


def resume(
    folder: Path, parts: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, recipe: dict[str, object]
) -> int:
    """Load the checkpoint of a folder, where there is one, and return the step that it was written after, else 0.

    Raises:
        InputError: it belongs to another recipe.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    with safe_open(path, "pt") as stored:
        facts = stored.metadata()
    if json.loads(facts["recipe"]) != json.loads(json.dumps(recipe)):
        raise InputError(f"{path}: was made with another recipe; give another --out, or remove it")
    tensors = load_file(path)
    for part, module in parts.items():
        own = {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}
        module.load_state_dict(own)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(facts["step"])
