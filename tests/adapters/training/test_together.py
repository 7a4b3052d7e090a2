"""Processes that learn together take the step that one would take with all of their batches."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import torch

from adapters.training import together

ROOT = Path(__file__).parents[3]
ONE_OF_TWO = """
import sys
import torch, torch.distributed as dist
from adapters.training import together
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=sys.argv[2], rank=rank, world_size=2)
used, unused, of_one = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
(used * torch.tensor([1.0, 3.0 + 4 * rank])).sum().backward()
if rank == 1:
    of_one.sum().backward()
with together.first_alone():
    order = 1 + rank
together.average_gradients([used, unused, of_one])
sum_of_all = together.add_up(torch.tensor([float(order)]))
print(used.grad.tolist(), unused.grad, of_one.grad.tolist(), sum_of_all.tolist(), together.batch_number(5))
dist.destroy_process_group()
"""


def test_gradients_are_averaged_and_what_nobody_used_has_none() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"tcp://127.0.0.1:{free.getsockname()[1]}"

    two = [
        subprocess.Popen([sys.executable, "-c", ONE_OF_TWO, rank, where], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in two]

    same = "[1.0, 5.0] None [0.5, 0.5] [3.0]"
    assert said == [f"{same} 10", f"{same} 11"]


def test_alone_nothing_changes() -> None:
    value = torch.nn.Parameter(torch.ones(2))
    value.sum().backward()

    together.average_gradients([value])

    assert value.grad is not None
    assert value.grad.tolist() == [1.0, 1.0]
    assert together.add_up(torch.ones(1)).tolist() == together.average(torch.ones(1)).tolist() == [1.0]
    assert (together.size(), together.rank(), together.batch_number(5)) == (1, 0, 5)
