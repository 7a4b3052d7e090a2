"""Data-parallel training: several processes take each step together, from the mean of their gradients.

Each draws batches of its own, so a step sees as many as there are processes. All begin with the same weights and take
the same steps, so all hold the same weights ever after. In a process alone, nothing of this does anything.

Reference:
    Li et al. 2020, https://arxiv.org/abs/2006.15704 (of which this is the plain form: one all-reduce a step)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter


def size() -> int:
    """Return how many learn together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return which of them this is; the one with 0 writes what all need."""
    return dist.get_rank() if size() > 1 else 0


def batch_number(step: int) -> int:
    """Return the number of the batch that this process draws for a step: no two draw the same."""
    return step * size() + rank()


class PeerLostError(ConnectionError):
    """Another process of the training is gone."""


@contextmanager
def first_alone() -> Iterator[None]:
    """Let the first go through a block before the others: it writes what they will find."""
    if size() > 1 and rank() > 0:
        _wait_for_all()
    yield
    if size() > 1 and rank() == 0:
        _wait_for_all()


def add_up(tensor: Tensor) -> Tensor:
    """Return the sum over all, in place.

    Raises:
        PeerLostError: one of them is gone.
    """
    if size() > 1:
        with _between_processes():
            dist.all_reduce(tensor)
    return tensor


def average(tensor: Tensor) -> Tensor:
    """Return the mean over all, in place."""
    return add_up(tensor).div_(size())


def average_gradients(parameters: Iterable[Parameter]) -> None:
    """Replace every gradient by its mean over all; a parameter that none of them used keeps none."""
    if size() == 1:
        return
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    used = torch.tensor([float(parameter.grad is not None) for parameter in learning])
    flat = torch.cat(
        [
            torch.zeros(parameter.numel()) if parameter.grad is None else parameter.grad.flatten()
            for parameter in learning
        ]
    )
    shared = average(torch.cat([used, flat]))
    used, flat = shared[: len(learning)], shared[len(learning) :]
    parts = flat.split([parameter.numel() for parameter in learning])
    for parameter, in_use, part in zip(learning, used.tolist(), parts, strict=True):
        parameter.grad = part.view_as(parameter).clone() if in_use > 0 else None


def _wait_for_all() -> None:
    with _between_processes():
        dist.barrier()


@contextmanager
def _between_processes() -> Iterator[None]:
    """Tell a peer that is gone from a mistake of our own: gloo has one kind of error for all."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(str(error)) from error
