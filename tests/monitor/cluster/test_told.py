"""What the driver hears of, whoever leads the journal when it asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.alerts.journal import Journal
from monitor.alerts.schema import Alert
from monitor.cluster.told import Heard, Told
from tests.monitor.test_alerts import draft, one_life


@pytest.fixture
def alerts(tmp_path: Path) -> list[Alert]:
    journal = Journal(tmp_path)
    committed = [alert for _ in range(2) for alert in journal.append([draft(version) for version in one_life()])]
    journal.close()
    return committed


def numbers(texts: tuple[str, ...]) -> list[int]:
    return [Alert.model_validate_json(text).data.seq for text in texts]


def test_alerts_are_told_until_they_are_heard_and_what_is_committed_again_is_told_once(alerts: list[Alert]) -> None:
    told, journal = Told(), alerts[0].data.journal
    assert told.after(Heard()) == ((), Heard())
    told.add(alerts[:2])
    told.add(alerts)  # a watcher that lost the answer asks again, and for more

    first, newest = told.after(Heard())
    assert (numbers(first), newest) == ([1, 2, 3, 4], Heard(journal, 4))
    assert numbers(told.after(Heard(journal, 3))[0]) == [4]
    assert told.after(newest) == ((), newest)


def test_another_journal_is_told_from_its_beginning(alerts: list[Alert], tmp_path: Path) -> None:
    told, heard = Told(), Heard(alerts[0].data.journal, 3)
    other = Journal(tmp_path / "other")
    told.add(alerts)
    told.add(other.append([draft(version) for version in one_life()[:1]]))
    other.close()

    texts, newest = told.after(heard)

    assert numbers(texts) == [1]
    assert newest == Heard(other.id, 1)
