"""Receipts that can't be written down, and those for a journal that is no longer in use."""

from __future__ import annotations

from pathlib import Path

from monitor.alerts.journal import Journal
from tests.faults.test_journal_memory import run_apart
from tests.monitor.test_alerts import draft, one_life

BACKLOG = """
import json, resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from monitor.alerts.journal import Journal
from tests.conftest import wait_until
from tests.faults.fake_broker import FakeBroker
from tests.monitor.test_alerts import draft, one_life, publisher
broker = FakeBroker(reason=lambda topic, before: 0x87 if "/event/" in topic and before == 4 else 0)
journal = Journal(Path(sys.argv[1]))
name, sender = journal.id, publisher(broker.port, journal)
journal.append([draft(s) for _ in range(20) for s in one_life()])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # every write to a file fails, as on a full disk
sender.start()

def numbers():
    return [json.loads(payload)["data"]["seq"] for payload in broker.events()]

wait_until(lambda: len(sender._receipts._unwritten) == 40, seconds=20, what="the backlog came, and all receipts")
assert "receipts can't be written" in sender.problem
broker.take_over()
wait_until(lambda: broker.connects == 2 and sender.connected.is_set(), seconds=10, what="a second connection")
alerts = journal.append([draft(s) for s in one_life()])  # from memory
sender.event_committed()
wait_until(lambda: len(numbers()) >= 42, seconds=10, what="a new event came too")
assert numbers() == [*range(1, 41), 1, 2], numbers()
assert (broker.connects, alerts[0].data.journal != name) == (2, True)
journal._retry_at_s = 0.0
resource.setrlimit(resource.RLIMIT_FSIZE, limits)  # somebody made room
wait_until(lambda: journal.counts() == (0, 0), seconds=10, what="memory is told")
journal.recover(datetime.now(UTC))
journal.append([draft(one_life()[0])])
sender.event_committed()
wait_until(lambda: journal.counts() == (0, 1), seconds=20, what="all receipts are written, also the one of a refusal")
wait_until(lambda: "can't be written" not in sender.problem, seconds=10, what="the problem is over")
assert sender.problem.startswith("1 events are set aside"), sender.problem
assert (journal.id, numbers()[42:]) == (name, [41]), numbers()
sender.stop(1)
broker.close()
journal.close()
print("each once")
"""


def test_a_backlog_on_a_full_disk_goes_out_once_and_its_receipts_are_written_when_there_is_room(tmp_path: Path) -> None:
    run = run_apart(BACKLOG, tmp_path)

    assert run.stdout == "each once\n", run.stderr


def test_a_receipt_for_a_journal_that_is_no_longer_used_changes_no_row_of_the_one_that_is(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([draft(situation) for situation in one_life()])

    assert not journal.mark_acked("another", 1)
    assert not journal.park("another", 2, "no")
    assert journal.counts() == (2, 0)
    assert journal.mark_acked(journal.id, 1)
    assert journal.park(journal.id, 2, "no")
    assert journal.counts() == (0, 1)
    journal.close()
