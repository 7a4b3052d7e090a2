"""`wildlane alerts`: what an operator or a control centre runs, against a real broker and a real journal."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitor.alerts.history import recorded
from monitor.alerts.journal import Journal
from monitor.alerts.schema import Alert
from monitor.alerts.storage import FILE
from monitor.alerts.verify import verify
from monitor.policy import Phase
from tests.conftest import Mosquitto, wait_until, wildlane, write_config
from tests.monitor.test_alerts import draft, one_life, publisher


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "state")
    yield opened
    opened.close()


def alerts_of(journal: Journal, lives: int) -> list[Alert]:
    return [alert for _ in range(lives) for alert in journal.append([draft(s) for s in one_life()])]


def lines_file(path: Path, alerts: list[Alert]) -> Path:
    path.write_text("".join(alert.json_text() + "\n" for alert in alerts))
    return path


def test_what_came_whole_is_complete_repeats_and_all(journal: Journal, tmp_path: Path) -> None:
    alerts = alerts_of(journal, 3)
    file = lines_file(tmp_path / "got.jsonl", [*alerts[:4], *alerts[2:]])  # a resend after a broken connection

    run = wildlane("alerts", "verify", file, "--json")

    (verdict,) = json.loads(run.stdout)
    assert run.returncode == 0
    assert verdict["complete"]
    assert (verdict["first"], verdict["last"], verdict["events"], verdict["repeats"]) == (1, 6, 6, 2)


def test_what_is_missing_is_named_and_the_exit_status_says_so(journal: Journal, tmp_path: Path) -> None:
    alerts = alerts_of(journal, 4)
    file = lines_file(tmp_path / "got.jsonl", [alerts[0], *alerts[4:6], alerts[7]])

    run = wildlane("alerts", "verify", file)

    assert run.returncode == 4
    assert "missing: 2-4, 7" in run.stdout


def test_the_journal_itself_is_verified_while_it_is_open(journal: Journal, tmp_path: Path) -> None:
    alerts_of(journal, 2)

    run = wildlane("alerts", "verify", "--json", state=tmp_path / "state")

    assert run.returncode == 0
    assert json.loads(run.stdout)[0]["events"] == 4


def test_a_recording_that_was_cut_is_complete_only_while_nobody_says_how_far_it_goes(
    journal: Journal, tmp_path: Path
) -> None:
    file = lines_file(tmp_path / "got.jsonl", alerts_of(journal, 4)[:5])

    assert wildlane("alerts", "verify", file).returncode == 0
    assert "1 to 5, newest unknown; missing: nothing" in wildlane("alerts", "verify", file).stdout
    told = wildlane("alerts", "verify", file, "--upto", "8")

    assert told.returncode == 4
    assert "newest 8; missing: 6-8" in told.stdout
    file.write_text("")
    assert "missing: 1-8" in wildlane("alerts", "verify", file, "--upto", "8").stdout


def test_a_parked_event_that_outlives_the_others_does_not_make_them_missing(journal: Journal, tmp_path: Path) -> None:
    alerts_of(journal, 3)
    for seq in (1, 2, 4):
        journal.mark_acked(journal.id, seq)
    journal.park(journal.id, 3, "not authorised")
    journal.forget_before(datetime.now(UTC) + timedelta(days=1))

    events, extent = recorded(tmp_path / "state")
    (verdict,) = verify(events, extent)

    assert [alert.data.seq for alert in events] == [3, 5, 6]
    assert verdict.complete
    assert (extent.after, extent.newest) == (4, 6)


@pytest.mark.parametrize(("lost", "missing"), [(1, [(1, 1)]), (3, [(3, 3)]), (6, [(6, 6)])])
def test_what_is_gone_from_a_journal_is_missing_first_and_last_too(
    journal: Journal, tmp_path: Path, lost: int, missing: list[tuple[int, int]]
) -> None:
    alerts_of(journal, 3)
    with closing(sqlite3.connect(tmp_path / "state" / FILE, isolation_level=None)) as db:
        db.execute("DELETE FROM outbox WHERE seq = ?", (lost,))

    (verdict,) = verify(*recorded(tmp_path / "state"))

    assert verdict.missing == missing


def life_of(journal: Journal, *phases: tuple[int, Phase]) -> list[Alert]:
    start, end = one_life()
    versions = [replace(end if phase is Phase.END else start, version=number, phase=phase) for number, phase in phases]
    first = journal.newest() + 1  # not by the journal itself, which tells no version twice
    return [draft(situation).numbered(first + i, journal.id, 1) for i, situation in enumerate(versions)]


@pytest.mark.parametrize(
    "phases",
    [
        [(1, Phase.START), (3, Phase.END)],
        [(1, Phase.START), (2, Phase.END), (3, Phase.END)],
        [(1, Phase.START), (2, Phase.END), (2, Phase.END)],
        [(1, Phase.START), (1, Phase.START), (2, Phase.END)],
        [(1, Phase.START), (2, Phase.END), (3, Phase.UPDATE)],
    ],
)
def test_a_situation_whose_versions_do_not_fit_together_is_named(
    journal: Journal, phases: list[tuple[int, Phase]]
) -> None:
    alerts_of(journal, 1)
    alerts = life_of(journal, *phases)

    (verdict,) = verify(alerts)

    assert verdict.broken == [alerts[0].data.situation.id]
    assert not verdict.complete


def test_a_situation_that_was_told_from_two_journals_is_whole(tmp_path: Path) -> None:
    journals = [Journal(tmp_path / name) for name in ("disk", "memory")]
    start, end = one_life()
    first, third = journals[0].append([draft(start), draft(replace(end, version=3))])
    (second,) = journals[1].append([draft(replace(start, version=2, phase=Phase.UPDATE))])

    assert all(verdict.complete for verdict in verify([first, second, third]))
    assert not verify([first, third])[0].complete
    for journal in journals:
        journal.close()


def test_different_events_under_one_number_are_not_taken_for_repeats(journal: Journal) -> None:
    start, end = alerts_of(journal, 1)
    forged = end.model_copy(update={"data": end.data.model_copy(update={"seq": 1})})

    (verdict,) = verify([start, forged])

    assert verdict.changed == [1]
    assert not verdict.complete


def test_a_file_that_holds_no_alerts_is_an_input_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "got.jsonl").write_text('{"specversion": "1.0"}\n')

    run = wildlane("alerts", "verify", tmp_path / "got.jsonl")

    assert run.returncode == 5
    assert "got.jsonl: line 1 is no alert" in run.stderr


def test_tail_follows_the_site_and_replay_makes_it_say_it_again(
    mosquitto: Mosquitto, journal: Journal, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.toml", {"road": "a.mp4"}, mosquitto.port)
    sender = publisher(mosquitto.port, journal)
    alerts = alerts_of(journal, 2)
    sender.start()
    wait_until(lambda: journal.counts() == (0, 0), seconds=20, what="all four are delivered")
    listener = mosquitto.listen("wildlane/v1/test/event/#")

    asked = wildlane("alerts", "replay", "2", "3", "--config", config)

    wait_until(lambda: len(listener.got("/event/")) == 2, seconds=10, what="two came again")
    assert asked.stdout == "2 events of 2 to 3 go out again\n"
    assert listener.got("/event/") == [alert.json_text() for alert in alerts[1:3]]
    refused = wildlane("alerts", "replay", "1", "20000", "--config", config)
    assert refused.returncode == 2
    assert "at most 10000 at once" in refused.stderr
    sender.stop(1)
    listener.stop()


@pytest.mark.parametrize(("form", "holds"), [("json", '"specversion"'), ("datex2", "AnimalPresenceObstruction")])
def test_tail_prints_alerts_in_the_words_asked_for(
    mosquitto: Mosquitto, journal: Journal, tmp_path: Path, form: str, holds: str
) -> None:
    import threading

    config = write_config(tmp_path / "c.toml", {"road": "a.mp4"}, mosquitto.port)
    printed: list[str] = []

    def follow() -> None:
        printed.append(wildlane("alerts", "tail", "--format", form, "--idle-s", "4", "--config", config).stdout)

    tail = threading.Thread(target=follow)
    tail.start()
    wait_until(lambda: "event/#" in mosquitto.log(), seconds=10, what="tail has subscribed")
    sender = publisher(mosquitto.port, journal)
    alerts_of(journal, 1)
    sender.start()
    tail.join()

    lines = printed[0].splitlines()
    assert len(lines) == 2
    assert all(holds in line for line in lines)
    sender.stop(1)


def test_a_broker_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.toml", {"road": "a.mp4"}, 1)

    run = wildlane("alerts", "tail", "--config", config)

    assert run.returncode == 2
    assert "broker 127.0.0.1:1 can't be reached" in run.stderr
