"""A full disk: what was kept for it holds the alerts, and is taken again when there is room. On a disk of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor import ballast as module
from monitor.alerts.history import history
from monitor.alerts.journal import Journal
from monitor.ballast import FILE, Ballast
from tests.faults.disk import fill, mounted, remount
from tests.monitor.test_alerts import draft, one_life


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "128m") as folder:
        yield folder


def commit(journal: Journal) -> None:
    journal.append([draft(situation) for situation in one_life()])


def test_on_a_full_disk_alerts_are_recorded_in_its_place_and_it_comes_back(disk: Path) -> None:
    state, ballast = disk / "state", Ballast(disk / "state")
    journal = Journal(state, make_room=ballast.give_up)
    ballast.take()
    held = (state / FILE).stat().st_blocks * 512
    filler = fill(disk)
    name = journal.id
    for _ in range(200):
        commit(journal)
    recorded = (journal.id, journal.problem, ballast.problem)
    ballast.take()  # as every hour: there is no room yet
    still = (state / FILE).exists()
    filler.unlink()
    ballast.take()
    commit(journal)
    journal.close()

    assert held >= module.SIZE
    assert recorded == (name, "", "the disk is full: alerts use the 16 MiB that were kept for them")
    assert not still
    assert ((state / FILE).stat().st_blocks * 512 >= module.SIZE, ballast.problem) == (True, "")
    assert len(list(history(state))) == 2 * 201


def test_a_program_that_starts_on_a_full_disk_records_too(disk: Path) -> None:
    state = disk / "state"
    state.mkdir()
    Ballast(state).take()
    fill(disk)
    ballast = Ballast(state)

    journal = Journal(state, make_room=ballast.give_up)
    commit(journal)
    journal.close()

    assert (journal.problem, bool(ballast.problem)) == ("", True)
    assert len(list(history(state))) == 2


def test_on_a_small_or_a_broken_disk_there_is_none_and_nothing_is_given_up_for_nothing(disk: Path) -> None:
    state, ballast = disk / "state", Ballast(disk / "state")
    assert not ballast.give_up()  # no folder yet
    state.mkdir()
    ballast.take()
    assert not ballast.give_up()  # whatever went wrong, the disk is not full
    assert (state / FILE).exists()
    remount(disk, "ro")
    again = Ballast(state)
    again.take()
    assert again.problem == ""
    remount(disk, "rw")


def test_a_disk_with_little_room_is_left_alone(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "32m") as small:
        Ballast(small).take()

        assert not (small / FILE).exists()
