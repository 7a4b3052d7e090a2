"""Which cameras are placed together, and crops that meet in one run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from adapters.encoder import MAX_BATCH, Features, Image
from monitor.cluster.batcher import Batcher
from monitor.cluster.groups import Group, groups_of, packed
from monitor.config import CameraConfig
from monitor.zones import Zone
from tests.conftest import wait_until


def zone(name: str) -> Zone:
    return Zone(id=name, kind="carriageway", polygon_px=((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)))


def test_cameras_that_share_a_zone_stay_together_also_through_another() -> None:
    zones = {"a": [zone("1")], "b": [zone("2")], "c": [zone("3"), zone("4")], "d": [zone("2"), zone("3")]}

    groups = groups_of(zones)

    assert groups == [Group("a", ("a",), frozenset("1")), Group("b", ("b", "c", "d"), frozenset("234"))]


def alone(*names: str) -> list[Group]:
    return [Group(name, (name,), frozenset(name)) for name in names]


def cameras_of(groups: Sequence[Group]) -> list[str]:
    return ["".join(group.cameras) for group in groups]


def site(names: str, *, hz: float = 5.0, **racks: str) -> dict[str, CameraConfig]:
    nodes = {name: {"rack": racks[name]} if name in racks else {} for name in names}
    return {name: CameraConfig(source="a.mp4", analysis_rate_hz=hz, node=node) for name, node in nodes.items()}


def test_there_are_no_more_watchers_than_cores_and_four_cameras_for_one_at_most() -> None:
    four, ten = site("abcd"), site("abcdefghij")

    assert packed(alone(*"abcd"), four, cores=9) == alone(*"abcd")
    assert packed(alone(*"abcd"), four, cores=4) == alone(*"abcd")
    assert cameras_of(packed(alone(*"abcd"), four, cores=3)) == ["ab", "cd"]
    assert cameras_of(packed(alone(*"abcdefghij"), ten, cores=1)) == ["abcd", "efgh", "ij"]
    assert packed(alone(*"ab"), site("ab"), cores=1) == [Group("a", ("a", "b"), frozenset("ab"))]
    assert packed(alone(*"ab"), site("ab"), cores=0) == [Group("a", ("a", "b"), frozenset("ab"))]


def test_what_a_core_could_not_analyse_is_not_joined() -> None:
    assert cameras_of(packed(alone(*"abcd"), site("abcd", hz=10.0), cores=1)) == ["ab", "cd"]
    assert packed(alone(*"ab"), site("ab", hz=30.0), cores=1) == alone(*"ab")


def test_cameras_that_share_a_zone_are_together_however_many_and_others_fill_what_has_room() -> None:
    five = Group("v", tuple("vwxyz"), frozenset("1"))

    assert cameras_of(packed([*alone("a"), five, *alone("b")], site("abvwxyz"), cores=2)) == ["ab", "vwxyz"]


def test_cameras_that_want_different_nodes_are_not_joined() -> None:
    pinned = site("abcd", a="1", b="2", c="1")

    assert cameras_of(packed(alone(*"abcd"), pinned, cores=1)) == ["ac", "b", "d"]


def crops_of(numbers: Sequence[int]) -> list[Image]:
    return [np.full((2, 2, 3), number, np.uint8) for number in numbers]


def read(crops: Sequence[Image]) -> Features:
    values = np.array([[crop[0, 0, 0]] for crop in crops], np.float32)
    return Features(values[:, None], values)


def test_everybody_gets_the_answer_to_his_own_crops_and_runs_are_shared() -> None:
    sizes: list[int] = []
    running, begun = threading.Event(), threading.Event()

    def slow(crops: Sequence[Image]) -> Features:
        running.set()
        begun.wait(20)
        sizes.append(len(crops))
        return read(crops)

    batcher = Batcher(slow)
    with ThreadPoolExecutor(12) as pool:
        asked = [list(range(first, first + 3)) for first in range(0, 36, 3)]
        answers = [pool.submit(batcher, crops_of(asked[0]))]
        running.wait(20)
        answers += [pool.submit(batcher, crops_of(numbers)) for numbers in asked[1:]]
        wait_until(lambda: batcher._waiting.qsize() == 11, seconds=10, what="all but the first wait")
        begun.set()
        for numbers, answer in zip(asked, answers, strict=True):
            assert answer.result().glob.ravel().tolist() == numbers
        assert batcher.running_s == 0.0
    batcher.close()

    assert sum(sizes) == 36
    assert len(sizes) < 12
    assert max(sizes) < MAX_BATCH + 3


def test_an_error_reaches_all_that_asked_and_the_next_ones_are_answered() -> None:
    def broken(crops: Sequence[Image]) -> Features:
        if crops[0][0, 0, 0] == 9:
            raise ValueError("no GPU")
        return read(crops)

    batcher = Batcher(broken)
    with pytest.raises(ValueError, match="no GPU"):
        batcher(crops_of([9]))

    assert batcher(crops_of([1])).glob.tolist() == [[1.0]]
    batcher.close()
