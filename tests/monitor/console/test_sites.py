"""Many sites on one screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from starlette.testclient import TestClient

from monitor.alerts.broker import EmbeddedBroker
from monitor.alerts.schema import (
    CameraHealth,
    ClockPart,
    ReleasePart,
    SiteHealth,
    SiteRelease,
    SiteStatus,
    ZoneState,
)
from monitor.alerts.session import Address
from monitor.alerts.subscriber import Message, Subscriber
from monitor.console.accounts import Accounts
from monitor.console.sites import TOPICS, Listening, SitesBoard, make_screen
from tests.conftest import wait_until

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
PASSWORD = "correct horse battery"


def status(site: str, told: str = "online", problem: str | None = None) -> Message:
    said = SiteStatus(site=site, status=told, since=NOW, software="0.1", journal="j", problem=problem)
    return Message(f"{site}/status", said.model_dump_json(by_alias=True))


def level(site: str, zone: str, told: str, valid_until: datetime = NOW + timedelta(seconds=30)) -> Message:
    said = ZoneState(
        site=site,
        zone=zone,
        level=told,
        situations=("s1",) if told == "active" else (),
        since=NOW,
        time=NOW,
        valid_until=valid_until,
        mode="real",
        advisory="x",
    )
    return Message(f"{site}/state/{zone}", said.model_dump_json(by_alias=True))


def health(site: str, **cameras: str) -> Message:
    said = SiteHealth(
        site=site,
        time=NOW,
        cameras={
            name: CameraHealth(state=state, reason=None if state == "ok" else "lost", since=NOW, analysed_per_s=5.0)
            for name, state in cameras.items()
        },
        journal="j",
        newest=4,
        unsent=2,
        parked=0,
        class_set="cs-3",
        provider="CPU",
        clock=ClockPart(source="system", synced=True, error_ms=1.0),
        certificates=(),
        warnings=(),
    )
    return Message(f"{site}/health", said.model_dump_json(by_alias=True))


def board(*messages: Message) -> SitesBoard:
    filled = SitesBoard()
    for message in messages:
        filled.take(message, NOW)
    return filled


def test_a_site_with_an_animal_comes_first_then_what_is_amiss() -> None:
    filled = board(
        *(status(site) for site in ("fine", "animal")),
        status("gone", "offline"),
        status("ill", "degraded", "the disk is full"),
        level("animal", "ns", "active"),
        level("fine", "ns", "clear"),
        level("gone", "ns", "active"),
        health("fine", north="ok", south="ok"),
        health("animal", north="ok"),
    )

    rows = filled.rows(NOW)

    assert [row.site for row in rows] == ["animal", "gone", "ill", "fine"]
    assert [row.mark for row in rows] == ["ok", "blind", "degraded", "ok"]
    assert rows[0].active == ("ns",)
    assert (rows[1].active, rows[1].unknown) == ((), ("ns",))  # what it said last holds no longer
    assert rows[2].problem == "the disk is full"
    assert (rows[3].seeing, rows[3].cameras, rows[3].class_set, rows[3].unsent) == (2, 2, "cs-3", 2)


def test_a_blind_camera_a_level_that_ran_out_and_a_release_are_told() -> None:
    worse = ReleasePart(release="r2", state="held-back", why="worse")
    live = ReleasePart(release="m1", state="live", why="")
    release = SiteRelease(site="a", time=NOW, classes=worse, model=live, class_set="cs-3")
    filled = board(
        status("a"),
        health("a", north="blind", south="degraded"),
        level("a", "ns", "clear", NOW - timedelta(seconds=1)),
        level("a", "ew", "clear"),
        Message("a/release", release.model_dump_json(by_alias=True)),
        Message("a/health", "{}"),  # not understood: what was known stays
    )
    (row,) = filled.rows(NOW)

    assert (row.mark, row.seeing, row.cameras) == ("degraded", 1, 2)
    assert row.blind == ("north blind: lost", "south degraded: lost")
    assert row.unknown == ("ns",)
    assert row.release == "r2, held-back"
    filled.take(Message("a/state/ns", ""), NOW)
    assert filled.rows(NOW)[0].unknown == ()


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    with closing(Accounts(tmp_path / "centre", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))) as opened:
        yield opened


def test_the_screen_is_for_those_who_log_in(accounts: Accounts) -> None:
    still_holds = level("km41", "ns", "active", datetime.now(UTC) + timedelta(minutes=1))
    centre = make_screen("centre", board(status("km41"), still_holds), accounts)
    assert accounts.token_path is not None
    accounts.begin(accounts.token_path.read_text().strip(), "ada", PASSWORD)
    with TestClient(centre, base_url="http://testserver", follow_redirects=False) as stranger:
        assert stranger.get("/").headers["location"].endswith("/login")
        assert stranger.get("/api/sites").status_code == 401
        token = stranger.get("/login").text
        assert "km41" not in token
        entered = stranger.post(
            "/login", data={"name": "ada", "password": PASSWORD}, headers={"Origin": "http://testserver"}
        )
        assert entered.status_code == 303
        shown, part = stranger.get("/").text, stranger.get("/api/sites").text

    assert "1 sites" not in shown
    assert "km41" in shown
    assert "<strong>ns</strong>" in part
    assert "<html" not in part
    assert ">Cameras</a>" not in shown


def test_it_is_filled_from_a_real_broker() -> None:
    broker, filled = EmbeddedBroker(0), SitesBoard()
    address = Address(host="127.0.0.1", port=broker.port, client_id="")
    with closing(Subscriber(address, "wildlane/v1", ["km41/cmd/+"])) as site:
        said = status("km41")
        site.say(said.topic, said.payload, retained=True)
        listening = Listening(Subscriber(address, "wildlane/v1", TOPICS), filled)
        wait_until(lambda: filled.rows(NOW), seconds=10, what="the site is on the screen")
        listening.close()
    broker.stop()

    assert filled.rows(NOW)[0].status == "online"
