"""How a training moves: how it begins, the step that backbone and head share, its rate, the running mean of weights."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from adapters.training import together

KEPT_BYTES = 1 << 30  # blocks up to this size, and as much free memory, stay with the process
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def begin(seed: int, threads: int) -> None:
    """Make what follows the same at every run, and fast on a CPU."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a tenth of a step, to find a fault we have not
    if sys.platform == "linux":  # or glibc gives large blocks back and takes them again at every layer
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def take_step(
    optimiser: torch.optim.Optimizer, losses: Mapping[str, Tensor], *, rate: float, clipped: nn.Module, most_norm: float
) -> None:
    """Descend on the sum of the losses, with all who learn together.

    Args:
        optimiser: a parameter group with a `share` learns at that multiple of the rate.
        losses: weighted losses by name.
        rate: learning rate of this step.
        clipped: module whose gradient is scaled down to `most_norm`.
        most_norm: largest norm of that gradient.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("share", 1.0)
    optimiser.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    together.average_gradients(value for group in optimiser.param_groups for value in group["params"])
    nn.utils.clip_grad_norm_(clipped.parameters(), most_norm)
    optimiser.step()


def as_numbers(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the losses for the log."""
    return {name: float(loss.detach()) for name, loss in losses.items()}


def one_cycle(progress: float, warm_up: float) -> float:
    """Return the share of the peak rate at a progress of 0 to 1: up in a line, down in a cosine."""
    if progress < warm_up:
        return 0.04 + 0.96 * progress / warm_up
    return max(1e-3, 0.5 + 0.5 * float(np.cos(np.pi * (progress - warm_up) / (1 - warm_up))))


def move_average(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    """Move a running mean of the weights; early steps count more, so that the start is soon forgotten."""
    decay = min(decay, step / (step + 10))
    with torch.no_grad():
        for mean, value in zip(average.parameters(), module.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
