"""A program's output where nobody reads it."""

from __future__ import annotations

import fcntl
import logging
import os
import select
from collections.abc import Iterator

import pytest

from monitor.outlet import Outlet
from tests.conftest import wait_until


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe that holds 4 KiB."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    yield ends
    for end in ends:
        os.close(end)


def opened(descriptor: int, most_waiting: int) -> Outlet:
    stream = os.fdopen(descriptor, "w", closefd=False)
    return Outlet(stream, "standard output", most_waiting)


def test_who_does_not_read_holds_nobody_up_and_is_told_what_was_dropped(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    outlet = opened(pipe[1], 100)

    with caplog.at_level(logging.WARNING):
        for number in range(2_000):
            outlet.write(f"line {number:03} {'x' * 100}\n")
        got = b""
        while "is read again" not in caplog.text:
            if select.select([pipe[0]], [], [], 0.1)[0]:
                got += os.read(pipe[0], 4096)
    outlet.write("the last one\n")
    outlet.stop()

    lines = (got + os.read(pipe[0], 65536)).decode().splitlines()
    dropped = int(caplog.records[-1].args[1])  # type: ignore[index, arg-type]  # what the warning counts
    assert dropped > 0
    assert caplog.text.count("is not read") == 1
    assert [line for line in lines if not (line.startswith("line ") and line.endswith("x" * 100))] == ["the last one"]
    assert len(lines) == 2_000 - dropped + 1


def test_what_waits_at_the_end_is_still_written(pipe: tuple[int, int]) -> None:
    outlet = opened(pipe[1], 100)
    for number in range(20):
        outlet.write(f"{number}\n")

    outlet.stop()

    assert os.read(pipe[0], 4096).decode().split() == [str(number) for number in range(20)]


def test_who_is_gone_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    outlet = opened(writing, 100)

    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            outlet.write("into the void\n")
        wait_until(lambda: "is gone" in caplog.text, seconds=5, what="it is told")
        outlet.stop()

    assert caplog.text.count("is gone") == 1
    os.close(writing)
