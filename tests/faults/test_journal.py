"""A journal that was cut or flipped: noticed, mended or set aside, and alerts go on under a new number.

The one thing that must never happen: the same journal id with fewer or other events than were committed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from monitor.alerts.history import history
from monitor.alerts.journal import Journal, Outgoing
from monitor.alerts.schema import Alert
from monitor.alerts.storage import FILE, MARK
from monitor.alerts.tables import put_situation, row_of
from monitor.policy import Phase
from tests.monitor.test_alerts import draft, one_life

LIVES = 12
FLIPS = {"sample": 60, "full": 2_000}


class Alive(NamedTuple):
    """A copy of a journal's files as a power cut leaves them, half of it still in the log, and what is in it."""

    files: Path
    name: str
    events: list[str]
    unsent: list[Outgoing]
    left_open: list[Alert]


@pytest.fixture(scope="module")
def alive(tmp_path_factory: pytest.TempPathFactory) -> Alive:
    state, copy = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("copy")
    left_open = []
    for _ in range(2):
        journal = Journal(state)  # what the first one wrote is in the file, what the second one writes in the log
        commit(journal)
        deliver(journal, LIVES)
        journal.park(journal.id, journal.newest() - 2, "not authorised")
        left_open += journal.append([draft(one_life()[0]), draft(one_life()[0])])  # last: a lost receipt is no loss
        if len(left_open) == 2:
            journal.close()
    for file in (FILE, FILE + "-wal", MARK):
        shutil.copy2(state / file, copy / file)
    events = [alert.json_text() for alert in history(state)]
    made = Alive(copy, journal.id, events, journal.unsent(None, 999), left_open)
    journal.close()
    return made


def commit(journal: Journal) -> None:
    for _ in range(LIVES):
        for situation in one_life():
            journal.append([draft(situation)])


def deliver(journal: Journal, count: int) -> None:
    for row in journal.unsent(None, count):
        journal.mark_acked(journal.id, row.seq)


def opened_after(alive: Alive, state: Path, spoil: Callable[[Path], object]) -> str:
    """Spoil a copy, open it, end what is open, commit to it; return `whole` or `set aside`."""
    shutil.copytree(alive.files, state)
    spoil(state)
    journal = Journal(state)
    try:
        kept = [alert.json_text() for alert in history(state)]
        unsent = journal.unsent(None, 999)
        ended = [facts_of(alert) for alert in journal.end_left_open(datetime.now(UTC))]
        if journal.id == alive.name:
            assert kept == alive.events  # the same id: nothing may be missing or changed
            assert unsent == alive.unsent
            assert ended == sorted(facts_of(alert) for alert in alive.left_open)
            assert journal.problem == ""
        else:
            assert kept == unsent == ended == []
            assert "was damaged" in journal.problem
            assert list(state.glob("journal.damaged-*.sqlite3"))
        (alert, _) = journal.append([draft(situation) for situation in one_life()])
        assert alert.data.journal == journal.id
        return "whole" if journal.id == alive.name else "set aside"
    finally:
        journal.close()
        shutil.rmtree(state)


def facts_of(alert: Alert) -> tuple[str, str, int]:
    """What must be the same in a situation's start and end."""
    return alert.data.situation.id, alert.data.where.zone.id, alert.data.codes.etsi.sequence_number


def page_size(file: Path) -> int:
    return struct.unpack(">H", file.read_bytes()[16:18])[0]


@pytest.mark.drill
def test_a_journal_cut_at_any_page_is_set_aside(alive: Alive, tmp_path: Path) -> None:
    file = alive.files / FILE
    sizes = range(0, file.stat().st_size, page_size(file))

    told = [opened_after(alive, tmp_path / "s", lambda s, n=size: os.truncate(s / FILE, n)) for size in sizes]

    print(f"{len(told)} cuts of the file: {told.count('set aside')} set aside, {told.count('whole')} whole")
    assert "set aside" in told


@pytest.mark.drill
def test_a_log_cut_at_any_frame_is_noticed(alive: Alive, tmp_path: Path) -> None:
    wal = alive.files / f"{FILE}-wal"
    frame = 24 + page_size(alive.files / FILE)
    sizes = range(0, wal.stat().st_size, frame)

    told = [
        opened_after(alive, tmp_path / "s", lambda s, n=size: os.truncate(s / f"{FILE}-wal", n and 32 + n))
        for size in sizes
    ]

    print(f"{len(told)} cuts of the log: {told.count('set aside')} set aside, {told.count('whole')} whole")
    assert told.count("set aside") >= len(told) - 2  # the last frames may only fill pages that say nothing new


@pytest.mark.drill
def test_a_flipped_bit_is_harmless_or_noticed(alive: Alive, tmp_path: Path, request: pytest.FixtureRequest) -> None:
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


def test_a_lost_mark_alone_loses_nothing(alive: Alive, tmp_path: Path) -> None:
    assert opened_after(alive, tmp_path / "s", lambda s: (s / MARK).unlink()) == "whole"


def test_numbers_are_never_given_twice_whatever_was_cut(alive: Alive, tmp_path: Path) -> None:
    state = tmp_path / "s"
    shutil.copytree(alive.files, state)
    os.truncate(state / f"{FILE}-wal", 0)
    journal = Journal(state)
    (alert, _) = journal.append([draft(situation) for situation in one_life()])

    assert (alert.data.journal == alive.name, alert.data.seq) == (False, 1)
    journal.close()


@pytest.fixture
def left_open(tmp_path: Path) -> Alert:
    """The newest version of a situation that a killed run left open in the journal of `tmp_path`."""
    journal = Journal(tmp_path)
    begun = one_life()[0]
    (_, newest) = journal.append([draft(begun), draft(replace(begun, version=2, phase=Phase.UPDATE))])
    journal.close()
    return newest


def change(state: Path, statement: str) -> None:
    with closing(sqlite3.connect(state / FILE, isolation_level=None)) as db:
        db.execute(statement)


@pytest.mark.parametrize(
    "what",
    [
        "newest = substr(newest, 1, 700)",
        "newest = replace(newest, '\"version\":2', '\"version\":3')",
        "newest = CAST(x'ff' AS TEXT) || newest",
        "newest = ''",
        "open = 0",
        "open = 3",
        "zone = 'nirth'",
        "etsi_sequence = 4097",
        "digest = ''",
    ],
)
def test_a_situation_that_is_not_as_it_was_committed_still_ends_as_it_should(
    tmp_path: Path, left_open: Alert, what: str
) -> None:
    change(tmp_path, f"UPDATE situation SET {what}")  # ours

    journal = Journal(tmp_path)
    (end,) = journal.end_left_open(datetime.now(UTC))

    assert journal.problem == ""
    assert (end.data.situation.phase, end.data.situation.version) == ("end", 3)
    assert facts_of(end) == facts_of(left_open)
    journal.close()


def test_a_situation_that_can_not_be_mended_is_told_and_the_others_still_end(tmp_path: Path, left_open: Alert) -> None:
    journal = Journal(tmp_path)
    deliver(journal, 2)
    journal.forget_before(datetime.now(UTC) + timedelta(days=1))
    (other,) = journal.append([draft(one_life()[0])])
    journal.close()
    change(tmp_path, f"UPDATE situation SET newest = 'x' WHERE id = '{left_open.data.situation.id}'")

    journal = Journal(tmp_path)

    assert [facts_of(end) for end in journal.end_left_open(datetime.now(UTC))] == [facts_of(other)]
    assert "1 situations in the journal can't be read" in journal.problem
    assert journal.newest() == 4
    journal.close()


def test_a_situation_of_an_older_program_that_lacks_a_field_stops_no_start(tmp_path: Path, left_open: Alert) -> None:
    older = json.loads(left_open.json_text())
    del older["data"]["recognition"]
    journal = Journal(tmp_path)
    journal.append([draft(one_life()[0])])
    put_situation(journal._db, row_of(left_open)._replace(newest=json.dumps(older)))
    journal.close()

    journal = Journal(tmp_path)
    ended = journal.end_left_open(datetime.now(UTC))

    assert [end.data.seq for end in ended] == [4]  # the other one's: no number is left out
    assert f"situation {left_open.data.situation.id} was left open and can't be read" in journal.problem
    assert journal.end_left_open(datetime.now(UTC)) == []
    journal.close()


@pytest.mark.parametrize("what", ["situation = 'x'", "zone = 'nirth'", "event = replace(event, 'dog', 'fog')"])
def test_an_event_that_would_go_out_changed_or_elsewhere_is_noticed(
    tmp_path: Path, left_open: Alert, what: str
) -> None:
    change(tmp_path, f"UPDATE outbox SET {what} WHERE seq = 2")  # ours

    journal = Journal(tmp_path)

    assert "event 2 is not what was committed" in journal.problem
    assert journal.unsent(None, 9) == []
    journal.close()


# https://sqlite.org/fileformat.html#record_format: of the row a text of 24 bytes (created), NULL (acked_at), NULL
# (parked), a text of 64 (digest), where 0 is NULL and 8 the number nought; of the index of what is unsent, event 2 in
# row 2.
IN_ROW, IN_INDEX = b"\x3d\x00\x00\x81\x0d", b"\x03\x01\x01\x02\x02"


@pytest.mark.parametrize(("before", "offset", "bit"), [(IN_ROW, 1, 8), (IN_ROW, 2, 8), (IN_INDEX, 4, 1)])
def test_a_flipped_bit_that_would_hide_an_undelivered_event_is_noticed(
    tmp_path: Path, left_open: Alert, before: bytes, offset: int, bit: int
) -> None:
    content = bytearray((tmp_path / FILE).read_bytes())
    content[content.index(before) + offset] ^= bit
    (tmp_path / FILE).write_bytes(content)

    journal = Journal(tmp_path)

    assert "was damaged" in journal.problem
    journal.close()


def test_events_that_vanished_from_the_middle_are_noticed(tmp_path: Path, left_open: Alert) -> None:
    change(tmp_path, "DELETE FROM outbox WHERE seq = 1")

    journal = Journal(tmp_path)

    assert "was damaged (of the events 1 to 2 1 are there)" in journal.problem
    journal.close()
