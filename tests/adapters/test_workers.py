"""Work in this process: in order, and no longer than somebody wants it."""

from __future__ import annotations

import threading

import pytest

from adapters.workers import Here


def test_results_come_in_order_with_their_numbers() -> None:
    assert list(Here().map(lambda item: item * item, range(50))) == [(n, n * n) for n in range(50)]


def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    begun, may_end = [], threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item > 0:
            may_end.wait(10)
        return item

    results = Here().map(work, range(1000))
    next(results)
    may_end.set()
    results.close()  # type: ignore[attr-defined]  # a generator

    assert len(begun) < 1000


def test_an_error_of_the_work_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        list(Here().map(lambda item: 1 / item, [1, 0]))
