"""What the driver hears of, whoever leads the journal when it asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.alerts.journal import Journal
from monitor.alerts.schema import Alert
from monitor.cluster.told import Heard, Told
from tests.monitor.test_alerts import draft, one_life


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path)
    yield opened
    opened.close()


def lives(journal: Journal, count: int) -> list[Alert]:
    """Commit a start and an end so many times."""
    return [alert for _ in range(count) for alert in journal.append([draft(version) for version in one_life()])]


def numbers(texts: tuple[str, ...]) -> list[int]:
    return [Alert.model_validate_json(text).data.seq for text in texts]


def test_alerts_are_told_until_they_are_heard_and_what_is_committed_again_is_told_once(journal: Journal) -> None:
    told = Told()
    told.begin(journal, Heard())
    alerts = lives(journal, 2)
    told.add(alerts[:2])
    told.add(alerts)  # a watcher that lost the answer asks again, and for more

    first, newest = told.after(Heard())
    assert (numbers(first), newest) == ([1, 2, 3, 4], Heard(journal.id, 4))
    assert numbers(told.after(Heard(journal.id, 3))[0]) == [4]
    assert told.after(newest) == ((), newest)


def test_who_leads_next_tells_what_was_not_heard_before(journal: Journal) -> None:
    lives(journal, 2)
    told = Told()

    told.begin(journal, Heard(journal.id, 3))

    assert numbers(told.after(Heard(journal.id, 3))[0]) == [4]


def test_what_an_earlier_run_told_and_another_journal_had_is_not_told_again(journal: Journal) -> None:
    lives(journal, 2)
    for heard in (Heard(), Heard("another", 1)):
        told = Told()
        told.begin(journal, heard)

        assert told.after(heard) == ((), Heard(journal.id, 4))
