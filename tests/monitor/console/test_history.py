"""What has happened, as the pages tell of it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from monitor.alerts.schema import Alert
from monitor.console.accounts import Accounts
from monitor.console.history import COLUMNS, as_csv, by_class, by_hour, situations
from monitor.policy import Policy
from tests.monitor.console.conftest import FakeSite, begin, csrf
from tests.monitor.test_alerts import SETTINGS, draft, sighting, whole_view


@pytest.fixture
def events() -> list[Alert]:
    """Two lives of two versions each: a dog's, and then one that still lasts."""
    site = Policy(SETTINGS, {"north": (whole_view("north"),)})
    told = site.decide([sighting(1.0)], 1.0) + site.decide([], 6.0)
    told += site.decide([sighting(3700.0, track=2, first_seen_s=3699.0)], 3700.0)
    return [draft(situation).numbered(number, "j-1", 1) for number, situation in enumerate(told, 1)]


def test_a_situation_is_told_once_as_its_newest_event_has_it(events: list[Alert]) -> None:
    newest, ended = situations(events)

    assert [(past.versions, past.newest.data.situation.end_reason) for past in (newest, ended)] == [
        (1, None),
        (2, "left"),
    ]
    assert by_class([newest, ended]) == [("dog", 2)]
    assert by_hour([newest, ended])[:3] == [1, 1, 0]


@pytest.mark.parametrize(("words", "count"), [("dog", 2), ("DOG left", 1), ("cat", 0), ("north 2026-11-23T01", 1)])
def test_a_search_finds_what_holds_every_word(events: list[Alert], words: str, count: int) -> None:
    assert len(situations(events, words)) == count


def test_the_table_has_a_line_a_situation_and_no_formula(events: list[Alert]) -> None:
    title, *lines = as_csv(situations(events))

    assert title == ",".join(COLUMNS) + "\r\n"
    assert len(lines) == 2
    stranger = events[0].data.model_copy(
        update={"certainty": events[0].data.certainty.model_copy(update={"confirmed_by": "=cmd()"})}
    )
    _, line = as_csv(situations([events[0].model_copy(update={"data": stranger})]))
    assert "'=cmd()" in line
    assert "'" not in lines[0], "what is empty is no formula"


def test_a_search_finds_what_people_call_a_class(events: list[Alert]) -> None:
    assert len(situations(events, "wuffi", {"dog": "Wuffi"})) == 2
    assert situations(events, "wuffi") == []


def test_the_pages_show_it_with_its_picture_and_where_the_classifier_looked(
    visitor: Callable[[], TestClient], accounts: Accounts, fake: FakeSite, events: list[Alert]
) -> None:
    client = visitor()
    begin(client, accounts)
    assert "Nothing has happened yet" in client.get("/history").text
    fake.events = events

    page = client.get("/history").text
    assert "2 situations by the hour of the day" in page
    assert re.search(r'data-begun="\[\d+, \d+\]"', page)
    assert "Download as CSV, times in UTC" in page
    assert "Nothing that is kept holds" in client.get("/history?words=heron").text
    table = client.get("/history.csv?words=left")
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.text.splitlines()) == 2
    assert client.get("/situations/kept/picture").headers["content-type"] == "image/jpeg"
    assert client.get("/situations/gone/picture").status_code == 404
    assert client.get("/situations/kept/heat?class=moose").headers["content-type"] == "image/png"
    assert client.get("/situations/kept/heat?class=heron").status_code == 404


def test_who_judges_a_situation_that_has_just_ended_is_shown_how_it_ended(
    visitor: Callable[[], TestClient], accounts: Accounts, fake: FakeSite, events: list[Alert]
) -> None:
    client, fake.events = visitor(), events
    begin(client, accounts)
    ended = events[0].data.situation.id

    answer = client.post(f"/situations/{ended}/confirm", data={"csrf": csrf(client)})

    assert (answer.status_code, answer.headers["location"]) == (303, f"/history?words={ended}")
    assert "left" in client.get(answer.headers["location"]).text
    assert fake.orders == []
