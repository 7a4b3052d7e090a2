"""A disk that is full, read-only or dying, at the start or later: alerts go on from memory, and back when they can."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitor.alerts.history import history
from monitor.alerts.journal import Journal
from monitor.alerts.schema import Alert
from monitor.alerts.storage import FILE
from monitor.config import load_config
from monitor.daemon import Daemon
from monitor.policy import Phase, Situation
from tests.conftest import DEMO_CLIP, ROOT, Mosquitto, write_config
from tests.faults.disk import mounted, remount
from tests.faults.test_journal import commit, deliver, facts_of
from tests.monitor.test_alerts import draft, one_life


def run_apart(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script on a folder in a process of its own, whose limits it may change."""
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


FULL_DISK = """
import resource, signal, sys
from datetime import UTC, datetime
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
assert journal.recover(datetime.now(UTC)) == []
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
from datetime import UTC, datetime
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
journal.recover(datetime.now(UTC))
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
    journal.recover(datetime.now(UTC))
    journal.append([draft(one_life()[0])])
    assert (journal.id, journal.problem) == (before, "")
    assert journal.counts()[0] == rows + 1
    journal.close()


def updated(situation: Situation, version: int) -> Situation:
    return replace(situation, version=version, phase=Phase.UPDATE)


def numbers(alert: Alert) -> tuple[str, int]:
    return alert.data.situation.id, alert.data.situation.version


def test_situations_live_on_in_memory_and_end_once_after_the_return_and_a_kill(tmp_path: Path) -> None:
    now_s = [0.0]
    journal = Journal(tmp_path, now=lambda: now_s[0])
    name, first, second = journal.id, one_life()[0], one_life()[0]
    (begun,) = journal.append([draft(first)])
    journal._db = disk = DyingDisk(journal._db)

    (again,) = journal.append([draft(updated(first, 2))])
    (later,) = journal.append([draft(second)])
    assert journal.is_open(first.id)  # a person can still dismiss it
    assert facts_of(again) == facts_of(begun)
    assert facts_of(later)[2] == facts_of(begun)[2] + 1
    deliver(journal, 9)
    disk.dead, now_s[0] = False, 3600.0
    assert journal.recover(datetime.now(UTC)) == []
    assert journal.id == name
    journal.close()  # a killed run leaves them open

    after = Journal(tmp_path)
    ends = after.end_left_open(datetime.now(UTC))
    assert {numbers(end) for end in ends} == {(first.id, 3), (second.id, 2)}
    assert {facts_of(end) for end in ends} == {facts_of(begun), facts_of(later)}
    assert {end.data.journal for end in ends} == {name}
    (third,) = after.append([draft(one_life()[0])])
    assert facts_of(third)[2] == facts_of(later)[2] + 1
    after.close()


def test_what_ended_in_memory_is_not_ended_again(tmp_path: Path) -> None:
    now_s = [0.0]
    journal = Journal(tmp_path, now=lambda: now_s[0])
    start, end = one_life()
    journal.append([draft(start)])
    journal._db = disk = DyingDisk(journal._db)
    journal.append([draft(end)])
    deliver(journal, 9)
    disk.dead, now_s[0] = False, 3600.0
    journal.recover(datetime.now(UTC))

    assert journal.end_left_open(datetime.now(UTC)) == []
    journal.close()


def test_what_a_killed_run_left_open_is_ended_from_memory_where_the_disk_can_be_read_only(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    (begun,) = journal.append([draft(one_life()[0])])
    journal.close()
    journal = Journal(tmp_path)
    journal._db = DyingDisk(journal._db)

    (end,) = journal.end_left_open(datetime.now(UTC))

    assert (facts_of(end), end.data.situation.version) == (facts_of(begun), 2)
    assert end.data.journal == journal.id
    journal.close()


def test_on_a_quiet_road_the_rows_on_the_disk_go_out_once_it_can_be_used(tmp_path: Path) -> None:
    now_s = [0.0]
    journal = Journal(tmp_path, now=lambda: now_s[0])
    commit(journal)
    rows = journal.unsent(None, 99)
    journal._db = disk = DyingDisk(journal._db)
    journal.counts()
    assert journal.unsent(None, 99) == []
    disk.dead = False

    journal.recover(datetime.now(UTC))
    assert journal.unsent(None, 99) == []  # it was tried a moment ago
    now_s[0] = 3600.0
    journal.recover(datetime.now(UTC))

    assert journal.unsent(None, 99) == rows
    journal.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of one megabyte."""
    with mounted(tmp_path / "disk", "1m") as folder:
        yield folder


def check_it_goes_on(journal: Journal) -> None:
    assert "the journal can't be used, alerts are not recorded" in journal.problem
    assert journal.end_left_open(datetime.now(UTC)) == []
    alerts = journal.append([draft(situation) for situation in one_life()])
    assert [alert.data.seq for alert in alerts] == [1, 2]
    deliver(journal, 9)


def test_a_read_only_folder_at_the_start_stops_no_alert(small_disk: Path) -> None:
    before = Journal(small_disk)
    (begun,) = before.append([draft(one_life()[0])])
    before.close()
    remount(small_disk, "ro")
    now_s = [0.0]

    journal = Journal(small_disk, now=lambda: now_s[0])
    check_it_goes_on(journal)
    now_s[0] = 100.0
    assert journal.recover(datetime.now(UTC)) == []
    assert journal.problem
    remount(small_disk, "rw")
    now_s[0] = 200.0
    (end,) = journal.recover(datetime.now(UTC))

    assert (facts_of(end), end.data.situation.end_reason) == (facts_of(begun), "restart")
    assert (journal.id, journal.problem) == (before.id, "")
    journal.close()
    assert [alert.data.seq for alert in history(small_disk)] == [1, 2]


def test_a_full_disk_at_the_start_stops_no_alert(small_disk: Path) -> None:
    ballast, now_s = small_disk / "ballast", [0.0]
    ballast.write_bytes(bytes((1 << 20) - 4096))

    journal = Journal(small_disk / "state", now=lambda: now_s[0])
    check_it_goes_on(journal)
    ballast.unlink()
    now_s[0] = 100.0
    journal.recover(datetime.now(UTC))

    assert journal.problem == ""
    commit(journal)
    journal.close()


def a_file_in_the_way(state: Path) -> Path:
    state.write_text("")
    return state


def a_folder_in_the_way(state: Path) -> Path:
    (state / FILE).mkdir(parents=True)
    return state / FILE


@pytest.mark.parametrize("block", [a_file_in_the_way, a_folder_in_the_way])
def test_a_state_folder_that_can_not_be_used_at_the_start_stops_no_alert(
    tmp_path: Path, block: Callable[[Path], Path]
) -> None:
    now_s = [0.0]
    in_the_way = block(tmp_path / "state")

    journal = Journal(tmp_path / "state", now=lambda: now_s[0])
    check_it_goes_on(journal)
    in_the_way.rmdir() if in_the_way.is_dir() else in_the_way.unlink()
    now_s[0] = 100.0
    journal.recover(datetime.now(UTC))

    assert journal.problem == ""
    journal.append([draft(situation) for situation in one_life()])
    journal.close()
    assert len(list(history(tmp_path / "state"))) == 2


def test_the_daemon_watches_on_and_returns_to_the_disk_though_the_road_is_quiet(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.alerts.journal.RETURN_EVERY_S", 0.5)
    in_the_way, listener, stop = a_folder_in_the_way(tmp_path / "state"), mosquitto.listen(), threading.Event()
    config = write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port)

    def statuses() -> list[str]:
        return [json.loads(text)["status"] for text in listener.got("/status")]

    def watch(frame: object, outcome: object) -> None:
        if statuses() == ["degraded"] and in_the_way.is_dir():
            in_the_way.rmdir()
        if statuses() == ["degraded", "online"]:
            stop.set()

    told: list[Alert] = []
    Daemon(load_config(config), config, tmp_path / "state", stop=stop, tell=told.append, watch=watch).run()

    assert statuses()[:2] == ["degraded", "online"]
    assert told == []
    listener.stop()


def test_a_folder_that_another_program_took_meanwhile_is_left_to_it(tmp_path: Path) -> None:
    now_s = [0.0]
    in_the_way = a_file_in_the_way(tmp_path / "state")
    journal = Journal(tmp_path / "state", now=lambda: now_s[0])
    in_the_way.unlink()
    other = Journal(tmp_path / "state")
    now_s[0] = 100.0

    assert journal.recover(datetime.now(UTC)) == []

    assert "can't be used" in journal.problem
    check_it_goes_on(journal)
    other.close()
    now_s[0] = 200.0
    journal.recover(datetime.now(UTC))
    assert (journal.id, journal.problem) == (other.id, "")
    journal.close()
