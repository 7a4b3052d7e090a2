"""A journal that was cut, flipped, full or read-only: noticed, set aside, and alerts go on under a new number.

The one thing that must never happen: the same journal id with fewer or other events than were committed.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.alerts.journal import Journal, history
from monitor.alerts.storage import FILE, MARK
from tests.conftest import ROOT
from tests.monitor.test_alerts import draft, one_life

LIVES = 12
FLIPS = {"sample": 60, "full": 2_000}


@pytest.fixture(scope="module")
def alive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[str]]:
    """A copy of a journal's files as a power cut leaves them, half of it still in the log; its id and its events."""
    state, copy = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("copy")
    first = Journal(state)
    commit(first)
    first.close()  # everything into the file
    journal = Journal(state)
    commit(journal)
    for file in (FILE, FILE + "-wal", MARK):
        shutil.copy2(state / file, copy / file)
    events = [alert.json_text() for alert in history(state)]
    name = journal.id
    journal.close()
    return copy, name, events


def commit(journal: Journal) -> None:
    for _ in range(LIVES):
        for situation in one_life():
            journal.append([draft(situation)])


def opened_after(alive: tuple[Path, str, list[str]], state: Path, spoil: object) -> str:
    """Spoil a copy, open it, commit to it; return `whole` or `set aside`."""
    files, name, events = alive
    shutil.copytree(files, state)
    spoil(state)
    journal = Journal(state)
    try:
        kept = [alert.json_text() for alert in history(state)]
        if journal.id == name:
            assert kept == events  # the same id: nothing may be missing or changed
            assert journal.problem == ""
        else:
            assert kept == []
            assert "was damaged" in journal.problem
            assert list(state.glob("journal.damaged-*.sqlite3"))
        (alert, _) = journal.append([draft(situation) for situation in one_life()])
        assert alert.data.journal == journal.id
        return "whole" if journal.id == name else "set aside"
    finally:
        journal.close()
        shutil.rmtree(state)


def page_size(file: Path) -> int:
    return struct.unpack(">H", file.read_bytes()[16:18])[0]


def test_a_journal_cut_at_any_page_is_set_aside(alive: tuple[Path, str, list[str]], tmp_path: Path) -> None:
    file = alive[0] / FILE
    sizes = range(0, file.stat().st_size, page_size(file))

    told = [opened_after(alive, tmp_path / "s", lambda s, n=size: os.truncate(s / FILE, n)) for size in sizes]

    print(f"{len(told)} cuts of the file: {told.count('set aside')} set aside, {told.count('whole')} whole")
    assert "set aside" in told


def test_a_log_cut_at_any_frame_is_noticed(alive: tuple[Path, str, list[str]], tmp_path: Path) -> None:
    wal = alive[0] / f"{FILE}-wal"
    frame = 24 + page_size(alive[0] / FILE)
    sizes = range(0, wal.stat().st_size, frame)

    told = [
        opened_after(alive, tmp_path / "s", lambda s, n=size: os.truncate(s / f"{FILE}-wal", n and 32 + n))
        for size in sizes
    ]

    print(f"{len(told)} cuts of the log: {told.count('set aside')} set aside, {told.count('whole')} whole")
    assert told.count("set aside") >= len(told) - 2  # the last frames may only fill pages that say nothing new


@pytest.mark.drill
def test_a_flipped_bit_is_harmless_or_noticed(
    alive: tuple[Path, str, list[str]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(3)
    count = FLIPS["full" if request.config.getoption("--drills-in-full") else "sample"]

    def flip(state: Path) -> None:
        file = state / chance.choice((FILE, f"{FILE}-wal"))
        content = bytearray(file.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)

    told = [opened_after(alive, tmp_path / "s", flip) for _ in range(count)]

    print(f"{count} flipped bits: {told.count('set aside')} set aside, {told.count('whole')} harmless")
    assert "set aside" in told


def test_a_lost_mark_alone_loses_nothing(alive: tuple[Path, str, list[str]], tmp_path: Path) -> None:
    assert opened_after(alive, tmp_path / "s", lambda s: (s / MARK).unlink()) == "whole"


def run_apart(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script on a folder in a process of its own, whose limits it may change."""
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from monitor.alerts.journal import Journal
from tests.monitor.test_alerts import draft, one_life
clock = [0.0]
journal = Journal(Path(sys.argv[1]), now=lambda: clock[0])
name = journal.id
journal.append([draft(s) for s in one_life()])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # every write to a file fails, as on a full disk
told = [journal.append([draft(s)])[0] for _ in range(3) for s in one_life()]
assert all(alert.data.journal == journal.id != name for alert in told)
assert [alert.data.seq for alert in told] == [1, 2, 3, 4, 5, 6]
assert "can't be used" in journal.problem
for seq in range(1, 7):
    journal.mark_acked(journal.id, seq)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)  # somebody made room
clock[0] = 1000.0
(start, end) = journal.append([draft(s) for s in one_life()])
assert (start.data.journal, start.data.seq, journal.problem) == (name, 3, "")
journal.close()
print("went on, and came back")
"""


def test_a_full_disk_stops_no_alert_and_the_journal_comes_back_when_there_is_room(tmp_path: Path) -> None:
    run = run_apart(FULL_DISK, tmp_path)

    assert run.stdout == "went on, and came back\n", run.stderr
    assert len(list(history(tmp_path))) == 4


DELIVERED = """
import json, resource, signal, sys, time
from pathlib import Path
from monitor.alerts.journal import Journal
from tests.faults.fake_broker import FakeBroker
from tests.monitor.test_alerts import draft, one_life, publisher
clock, broker = [0.0], FakeBroker()
journal = Journal(Path(sys.argv[1]), now=lambda: clock[0])
name, sender, told = journal.id, publisher(broker.port, journal), []

def tell(lives):
    for _ in range(lives):
        told.extend(alert.json_text() for alert in journal.append([draft(s) for s in one_life()]))
    sender.event_committed()
    deadline = time.monotonic() + 5
    while [payload.decode() for payload in broker.events()] != told or journal.counts() != (0, 0):
        assert time.monotonic() < deadline, (len(told), len(broker.events()), journal.counts())
        time.sleep(0.05)

sender.start()
tell(10)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
tell(2)  # from memory, numbered from 1 again
assert journal.id != name
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
clock[0] = 1000.0
tell(1)
assert journal.id == name
sender.stop(1)
broker.close()
journal.close()
print("all delivered")
"""


def test_alerts_that_can_not_be_recorded_are_delivered_all_the_same(tmp_path: Path) -> None:
    run = run_apart(DELIVERED, tmp_path)

    assert run.stdout == "all delivered\n", run.stderr


class DyingDisk:
    """A connection whose reads fail as those of a dying disk do."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.close, self._db, self.dead = db.close, db, True

    def execute(self, *query: object) -> sqlite3.Cursor:
        if self.dead:
            raise sqlite3.OperationalError("disk I/O error")
        return self._db.execute(*query)

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    def executemany(self, *query: object) -> sqlite3.Cursor:
        return self._db.executemany(*query)


@pytest.mark.parametrize(
    "read", [Journal.counts, Journal.newest, Journal.consumers, lambda journal: journal.unsent(None, 5)]
)
def test_a_disk_that_fails_in_reading_stops_nothing(tmp_path: Path, read: Callable[[Journal], object]) -> None:
    now_s = [0.0]
    journal = Journal(tmp_path, now=lambda: now_s[0])
    commit(journal)
    before, rows = journal.id, journal.counts()[0]
    journal._db = disk = DyingDisk(journal._db)

    read(journal)
    assert "the journal can't be used, alerts are not recorded" in journal.problem
    assert journal.id != before
    (alert,) = journal.append([draft(one_life()[0])])
    assert journal.unsent(None, 9)[0].event == alert.json_text()

    disk.dead, now_s[0] = False, 3600.0
    journal.mark_acked(journal.id, 1)
    journal.append([draft(one_life()[0])])
    assert (journal.id, journal.problem) == (before, "")
    assert journal.counts()[0] == rows + 1
    journal.close()


def test_numbers_are_never_given_twice_whatever_was_cut(alive: tuple[Path, str, list[str]], tmp_path: Path) -> None:
    state = tmp_path / "s"
    shutil.copytree(alive[0], state)
    os.truncate(state / f"{FILE}-wal", 0)
    journal = Journal(state)
    (alert, _) = journal.append([draft(situation) for situation in one_life()])

    assert (alert.data.journal == alive[1], alert.data.seq) == (False, 1)
    journal.close()
