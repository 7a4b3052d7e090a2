"""A camera's zones, health, a test alert, accounts: as a browser asks for them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from monitor.console.accounts import Accounts
from tests.monitor.console.conftest import PASSWORD, FakeSite, begin, csrf, log_in


@pytest.fixture
def admin(visitor: Callable[[], TestClient], accounts: Accounts) -> TestClient:
    client = visitor()
    begin(client, accounts)
    return client


def test_a_camera_page_knows_its_zones_and_masks(admin: TestClient) -> None:
    page = admin.get("/cameras/road").text

    assert "&#34;id&#34;: &#34;crossing&#34;" in page
    assert "&#34;kind&#34;: &#34;mask&#34;" in page
    assert admin.get("/cameras/nowhere").status_code == 404


def test_a_test_alert_is_ordered_and_audited(admin: TestClient, fake: FakeSite, accounts: Accounts) -> None:
    page = admin.get("/health").text
    assert "its health is told in a moment" in page

    admin.post("/health/test", data={"csrf": csrf(admin), "zone": "crossing"})

    assert fake.orders == [("test-alert", "crossing", "anna")]
    assert accounts.audit(1)[0].what == "test alert"


def test_a_zone_that_is_none_and_a_situation_that_is_not_open_are_refused_and_not_noted(
    admin: TestClient, fake: FakeSite, accounts: Accounts
) -> None:
    token, before = csrf(admin), accounts.audit(1)
    for path, zone in (
        ("/health/test", "x" * 500),
        ("/health/test", "crossing\n2026 forged"),
        ("/situations/s9/confirm", ""),
        ("/situations/s1%0Aforged/dismiss", ""),
        ("/situations/s1/forget", ""),
        ("/golden/remove", ""),
    ):
        assert admin.post(path, data={"csrf": token, "zone": zone}).status_code == 404, path

    assert (fake.orders, accounts.audit(1)) == ([], before)


def test_a_situation_that_somebody_confirmed_says_so_and_is_confirmed_no_more(admin: TestClient) -> None:
    _, open_one, confirmed = admin.get("/situations").text.split("<article")

    assert ("Confirmed by" in open_one, "/situations/s1/confirm" in open_one) == (False, True)
    assert ("Confirmed by olga" in confirmed, "/situations/s2/confirm" in confirmed) == (True, False)
    assert "/situations/s2/dismiss" in confirmed
    told = admin.get("/api/site").json()["situations"]
    assert told == [{"id": "s1", "confirmed_by": None}, {"id": "s2", "confirmed_by": "olga"}]


PLACES = {
    "/": "Cameras",
    "/cameras/road": "Cameras",
    "/new-camera": "Cameras",
    "/situations": "Situations",
    "/history?words=x": "History",
    "/label?camera=road": "Teach",
    "/classes": "Classes",
    "/classes/report": "Classes",
    "/classes/trial": "Classes",
    "/golden": "Classes",
    "/health": "Health",
    "/accounts": "Accounts",
    "/audit": "Audit",
}


@pytest.mark.parametrize(("path", "entry"), PLACES.items())
def test_every_page_shows_where_it_stands_among_the_pages(admin: TestClient, path: str, entry: str) -> None:
    (shown,) = re.findall(r'<a href="[^"]+" aria-current="page">(\w+)</a>', admin.get(path).text)

    assert shown == entry


def test_an_administrator_makes_and_removes_accounts(
    admin: TestClient, visitor: Callable[[], TestClient], accounts: Accounts
) -> None:
    made = {"csrf": csrf(admin), "name": "olga", "role": "operator", "password": PASSWORD}
    assert admin.post("/accounts/add", data=made | {"role": "king"}).status_code == 400
    assert admin.post("/accounts/add", data=made).status_code == 303
    other = visitor()
    assert log_in(other, "olga") == 303
    assert other.post("/accounts/add", data=made | {"csrf": csrf(other), "name": "eve"}).status_code == 403

    role = {"csrf": csrf(admin), "name": "olga", "role": "admin"}
    assert other.post("/accounts/role", data=role | {"csrf": csrf(other)}).status_code == 403
    assert admin.post("/accounts/role", data=role | {"role": "king"}).status_code == 400
    assert admin.post("/accounts/role", data=role).status_code == 303
    assert other.get("/new-camera").status_code == 200, "the new role holds in a session that is open"
    assert (accounts.audit(1)[0].what, accounts.audit(1)[0].about) == ("role changed", "olga, admin")
    assert admin.post("/accounts/role", data=role | {"role": "viewer"}).status_code == 303
    alone = admin.post("/accounts/role", data=role | {"name": "anna", "role": "viewer"})
    assert "the last administrator stays" in alone.text
    assert "nobody is called" in admin.post("/accounts/role", data=role | {"name": "eve"}).text

    assert admin.post("/accounts/remove", data={"csrf": csrf(admin), "name": "olga"}).status_code == 303
    assert other.get("/").status_code == 303
    last = admin.post("/accounts/remove", data={"csrf": csrf(admin), "name": "anna"})
    assert "the last administrator stays" in last.text
    assert [account.name for account in accounts.everybody()] == ["anna"]


def test_who_knows_the_old_password_may_set_another_and_logs_in_again(
    admin: TestClient, visitor: Callable[[], TestClient]
) -> None:
    new = "a different battery"
    token = csrf(admin)
    wrong = admin.post("/accounts/password", data={"csrf": token, "old": "guess", "new": new})
    assert (wrong.status_code, "the old password is wrong" in wrong.text) == (400, True)
    assert admin.post("/accounts/password", data={"csrf": token, "old": PASSWORD, "new": new}).status_code == 303

    assert admin.get("/").headers["location"].endswith("/login")
    assert (log_in(visitor(), "anna"), log_in(visitor(), "anna", new)) == (403, 303)
