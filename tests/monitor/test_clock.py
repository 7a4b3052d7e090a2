from __future__ import annotations

import pytest

from monitor.clock import SETTLE_S, Clock, kernel_error_ms

NOW = 1_795_000_000.0  # November 2026


class FakeTime:
    """A wall clock that somebody sets, and a monotonic one that nobody can."""

    def __init__(self, wall_s: float = NOW) -> None:
        self.wall_s, self.monotonic_s, self.error_ms = wall_s, 50.0, None

    def go(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.wall_s, monotonic=lambda: self.monotonic_s, kernel=lambda: self.error_ms)


def test_a_clock_that_nothing_keeps_is_trusted_but_not_synced() -> None:
    state = FakeTime().clock().state()

    assert (state.synced, state.source, state.error_ms, state.trusted) == (False, "system", None, True)


def test_a_clock_that_the_kernel_keeps_tells_its_error() -> None:
    time = FakeTime()
    time.error_ms = 12.5
    state = time.clock().state()

    assert (state.synced, state.source, state.error_ms, state.trusted) == (True, "ntp", 12.5, True)


@pytest.mark.parametrize("jump_s", [365 * 86_400, -3600, 10, -10], ids=["+1 y", "-1 h", "+10 s", "-10 s"])
def test_a_clock_that_was_set_is_mistrusted_until_it_has_settled(jump_s: float) -> None:
    time = FakeTime()
    time.error_ms = 12.5
    clock = time.clock()
    time.wall_s += jump_s

    assert not clock.state().trusted
    assert not clock.state().synced
    time.go(SETTLE_S / 2)
    assert not clock.state().trusted
    time.go(SETTLE_S)
    assert clock.state().synced
    time.error_ms = None
    assert clock.state().trusted
    assert not clock.state().steady  # it was set, and nothing keeps it: old rows are not dropped by it


def test_a_clock_that_was_never_set_is_not_trusted_whatever_the_kernel_says() -> None:
    time = FakeTime(wall_s=3.0)
    time.error_ms = 1.0

    assert not time.clock().state().trusted
    assert not time.clock().state().synced


def test_a_clock_that_drifts_slowly_is_fine() -> None:
    time = FakeTime()
    clock = time.clock()
    for _ in range(1000):
        time.go(10)
        time.wall_s += 0.005
        assert clock.state().trusted


def test_the_kernel_can_be_asked() -> None:
    error_ms = kernel_error_ms()

    assert error_ms is None or 0 <= error_ms < 1e6
