"""Crops of many watchers meet in one run of the encoder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

from adapters.encoder import MAX_BATCH, Features, Image

Encode = Callable[[Sequence[Image]], Features]


class Batcher:
    """A thread that encodes what waits, as much at once as one run takes: nobody waits for a batch to fill."""

    def __init__(self, encode: Encode) -> None:
        """Begin."""
        self._encode, self._waiting = encode, SimpleQueue[tuple[Sequence[Image], Future[Features]] | None]()
        self.runs = self.crops = 0
        self._begun_s: float | None = None  # when the run that goes on began
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def __call__(self, crops: Sequence[Image]) -> Features:
        """Return the features of crops; called by many threads at once."""
        answer: Future[Features] = Future()
        self._waiting.put((crops, answer))
        return answer.result()

    @property
    def running_s(self) -> float:
        """For how long the run has gone on that goes on now."""
        return 0.0 if (begun_s := self._begun_s) is None else time.monotonic() - begun_s

    def close(self) -> None:
        """Encode what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            asked, last = self._gather(first)
            self._answer(asked)
            if last:
                return

    def _gather(
        self, first: tuple[Sequence[Image], Future[Features]]
    ) -> tuple[list[tuple[Sequence[Image], Future[Features]]], bool]:
        """Return what waits, up to one run; and whether it is time to end."""
        asked, count = [first], len(first[0])
        while count < MAX_BATCH and not self._waiting.empty():
            if (other := self._waiting.get()) is None:
                return asked, True
            asked.append(other)
            count += len(other[0])
        return asked, False

    def _answer(self, asked: Sequence[tuple[Sequence[Image], Future[Features]]]) -> None:
        crops = [crop for some, _ in asked for crop in some]
        self._begun_s = time.monotonic()
        try:
            features = self._encode(crops)
        except Exception as error:  # noqa: BLE001  # whoever asked is told; the thread goes on
            for _, answer in asked:
                answer.set_exception(error)
            return
        finally:
            self._begun_s = None
        self.runs, self.crops = self.runs + 1, self.crops + len(crops)
        done = 0
        for some, answer in asked:
            answer.set_result(features[done : done + len(some)])
            done += len(some)
