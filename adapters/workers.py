"""Where heavy work is done: in this process, or wherever a cluster has room. The work is the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Say = Callable[[str], None]


class Workers(Protocol):
    """Who works. What is given to them must be able to travel to another process."""

    def map(
        self, work: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, cpus: int = 1, gpu: bool = False
    ) -> Iterator[tuple[int, ResultT]]:
        """Yield the result of each item with the item's number, in any order.

        Args:
            work: is given an item.
            items: what to work on.
            cpus: how many of them an item keeps busy.
            gpu: whether a GPU, where there is one, does most of it.
        """

    def train(self, learn: Callable[[Say], object], checkpoint: Path, say: Say) -> None:
        """Let each of them run a training with the others, as `adapters.training.together` says, until all are done.

        Args:
            learn: is given where to tell of the progress; goes on from its checkpoint where it is called again.
            checkpoint: the file.
            say: is told of the progress of one of them.
        """


class Here:
    """This process alone."""

    def map(
        self, work: Callable[[ItemT], ResultT], items: Sequence[ItemT], *, cpus: int = 1, gpu: bool = False
    ) -> Iterator[tuple[int, ResultT]]:
        """See `Workers`; in order."""
        del gpu  # who shares one here waits for the other, and decodes meanwhile
        threads = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // cpus))
        try:
            yield from enumerate(threads.map(work, items))
        finally:
            threads.shutdown(cancel_futures=True)

    def train(self, learn: Callable[[Say], object], checkpoint: Path, say: Say) -> None:
        """See `Workers`."""
        del checkpoint  # it is known to `learn`
        learn(say)
