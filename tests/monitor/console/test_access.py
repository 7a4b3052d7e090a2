from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from monitor.console.access import IDLE_S, LONGEST_S
from monitor.console.accounts import FILE, Accounts
from monitor.console.app import make_app
from monitor.console.site import Site
from tests.monitor.console.conftest import PASSWORD, FakeSite, begin, csrf, log_in

CONCRETE = re.compile(r"\{[^}]+\}")  # what stands for a part of a path
PAGES = ["/", "/situations", "/history", "/label", "/classes", "/golden", "/cameras/road", "/health", "/accounts"]


def test_a_new_site_asks_for_its_token_and_lets_nobody_in_without(
    visitor: Callable[[], TestClient], accounts: Accounts
) -> None:
    client = visitor()

    assert client.get("/").headers["location"].endswith("/login")
    assert client.get("/login").headers["location"].endswith("/welcome")
    wrong = client.post("/welcome", data={"token": "guess", "name": "eve", "password": PASSWORD})
    assert wrong.status_code == 400
    assert accounts.everybody() == []
    begin(client, accounts)
    assert client.get("/").status_code == 200
    assert visitor().get("/welcome").headers["location"].endswith("/login")


def test_behind_a_proxy_that_speaks_tls_every_redirect_stays_on_its_page(site: Site, accounts: Accounts) -> None:
    client = TestClient(make_app(site, accounts, https=True), base_url="https://road.example", follow_redirects=False)
    client.headers.update({"host": "road.example", "origin": "https://road.example"})
    begin(client, accounts)
    form = {"csrf": csrf(client), "version": "cs-1", "zone": "crossing"}

    answers = [client.post(path, data=form) for path in ("/classes/rollback", "/health/test", "/logout")]
    answers += [client.get("/login/"), client.get("/")]
    assert [answer.headers.get("location") for answer in answers] == ["/classes", "/health", "/login", None, "/login"]


@pytest.mark.parametrize("path", [*PAGES, "/audit", "/api/site", "/api/live/road"])
def test_without_a_session_nothing_is_shown(visitor: Callable[[], TestClient], accounts: Accounts, path: str) -> None:
    begin(visitor(), accounts)
    answer = visitor().get(path)

    assert (answer.status_code, answer.headers.get("location", "")[-6:]) in ((303, "/login"), (401, ""))
    assert "road" not in answer.text


def test_who_is_logged_in_sees_the_pages_and_the_picture(visitor: Callable[[], TestClient], accounts: Accounts) -> None:
    client = visitor()
    begin(client, accounts)

    assert all(client.get(path).status_code == 200 for path in [*PAGES, "/audit"])
    told = client.get("/api/site").json()["cameras"]
    assert (told["road"]["state"], told["road"]["number"]) == ("ok", 7)
    assert (told["yard"]["state"], told["yard"]["reason"], told["yard"]["number"]) == ("blind", "lost", None)
    picture = client.get("/api/live/road")
    assert (picture.headers["content-type"], picture.content[:2]) == ("image/jpeg", b"\xff\xd8")
    assert client.get("/api/live/yard").status_code == 404


def test_every_answer_forbids_what_a_page_does_not_need(visitor: Callable[[], TestClient], accounts: Accounts) -> None:
    client = visitor()
    begin(client, accounts)

    for path in (*PAGES, "/login", "/static/console.css", "/nothing"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    for path in PAGES:
        page = client.get(path).text
        assert "<script>" not in page
        assert " style=" not in page
    cookie = client.post("/login", data={"name": "anna", "password": PASSWORD}).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_a_change_needs_the_sessions_token_and_our_own_origin(
    visitor: Callable[[], TestClient], accounts: Accounts, fake: FakeSite
) -> None:
    client = visitor()
    begin(client, accounts)
    token = csrf(client)

    for data, headers in (
        ({"version": "cs-1"}, {}),
        ({"version": "cs-1", "csrf": "guess"}, {}),
        ({"version": "cs-1", "csrf": token}, {"origin": "http://evil.example"}),
        ({"version": "cs-1", "csrf": token}, {"origin": "null"}),
        ({"version": "cs-1", "csrf": token}, {"sec-fetch-site": "cross-site"}),
    ):
        assert client.post("/classes/rollback", data=data, headers=headers).status_code == 403
    assert fake.rolled_back == []
    own = {"origin": "http://127.0.0.1:8080"}
    assert client.post("/classes/rollback", data={"version": "cs-1", "csrf": token}, headers=own).status_code == 303
    assert fake.rolled_back == ["cs-1"]
    refused = client.post("/classes/rollback", data={"version": "<b>", "csrf": token})
    assert (refused.status_code, "no version &lt;b&gt;" in refused.text) == (400, True)


def test_a_viewer_changes_nothing_and_an_operator_reads_no_audit(
    visitor: Callable[[], TestClient], accounts: Accounts, fake: FakeSite
) -> None:
    begin(visitor(), accounts)
    accounts.add("vera", "viewer", PASSWORD, by="anna")
    accounts.add("otto", "operator", PASSWORD, by="anna")
    viewer, operator = visitor(), visitor()
    assert (log_in(viewer, "vera"), log_in(operator, "otto")) == (303, 303)

    for path in ("/classes/rollback", "/situations/s1/confirm", "/situations/s1/dismiss"):
        assert viewer.post(path, data={"version": "cs-1", "csrf": csrf(viewer)}).status_code == 403
    assert fake.orders == []
    assert operator.post("/situations/s1/dismiss", data={"csrf": csrf(operator)}).status_code == 303
    assert fake.orders == [("dismiss", "s1", "otto")]
    assert (viewer.get("/audit").status_code, operator.get("/audit").status_code) == (403, 403)
    assert [entry.what for entry in accounts.audit(1)] == ["dismiss"]


VIEWERS_OWN = {"/login", "/welcome", "/logout", "/accounts/password"}
SHOWN_TO_ALL = {"/login", "/welcome"}


def test_every_route_that_changes_something_is_closed_to_a_viewer_and_every_other_to_a_stranger(
    visitor: Callable[[], TestClient], accounts: Accounts, fake: FakeSite
) -> None:
    begin(visitor(), accounts)
    accounts.add("vera", "viewer", PASSWORD, by="anna")
    viewer, stranger = visitor(), visitor()
    assert log_in(viewer, "vera") == 303
    form, before = {"csrf": csrf(viewer), "name": "vera", "version": "cs-1"}, accounts.audit(1)
    routes = [route for route in viewer.app.routes if isinstance(route, Route)]
    changing = [route.path for route in routes if "POST" in (route.methods or ())]
    showing = [route.path for route in routes if "GET" in (route.methods or ())]

    for path in set(changing) - VIEWERS_OWN:
        assert viewer.post(CONCRETE.sub("1", path), data=form).status_code == 403, path
        assert stranger.post(CONCRETE.sub("1", path), data=form).status_code == 401, path
    for path in set(showing) - SHOWN_TO_ALL:
        assert stranger.get(CONCRETE.sub("1", path)).status_code in (303, 401), path
    assert len(changing) > 12
    assert (fake.orders, fake.lessons, fake.checked, fake.tried, fake.rolled_back) == ([], [], [], [], [])
    assert (accounts.audit(1), [one.name for one in accounts.everybody()]) == (before, ["anna", "vera"])


def test_guessing_is_slow(visitor: Callable[[], TestClient], accounts: Accounts) -> None:
    begin(visitor(), accounts)
    client = visitor()
    answers = [log_in(client, "anna", f"guess number {number}") for number in range(12)]

    assert answers == [403] * 6 + [429] * 6
    assert log_in(client, "anna") == 429, "the right one too, for a while"
    assert {entry.what for entry in accounts.audit(3)} == {"login refused"}


def test_many_guesses_at_once_are_not_more_than_one_after_the_other(
    visitor: Callable[[], TestClient], accounts: Accounts
) -> None:
    begin(visitor(), accounts)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda number: log_in(visitor(), f"name {number}", "guess"), range(12)))

    assert sorted(answers) == [403] * 6 + [429] * 6


def test_right_passwords_lock_nobody_out(visitor: Callable[[], TestClient], accounts: Accounts) -> None:
    begin(visitor(), accounts)

    assert [log_in(visitor(), "anna") for _ in range(20)] == [303] * 20


def test_what_cannot_be_audited_is_told_as_done(
    visitor: Callable[[], TestClient],
    accounts: Accounts,
    fake: FakeSite,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = visitor()
    begin(client, accounts)
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'disk is full'); END")
    told = client.post("/classes/rollback", data={"csrf": csrf(client), "version": "cs-1"})

    assert (told.status_code, fake.rolled_back) == (500, ["cs-1"])
    assert "This was done, but the audit could not take it down: made live cs-1 (console.sqlite3: disk is" in told.text
    assert "nothing was changed" not in told.text
    assert "not in the audit: made live cs-1, by anna" in caplog.text
    assert log_in(visitor(), "anna") == 303, "a full disk keeps nobody from the cameras"


def test_an_error_that_nobody_expected_is_a_page_and_one_entry_of_the_log(
    visitor: Callable[[], TestClient], accounts: Accounts, fake: FakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    client = visitor()
    begin(client, accounts)
    fake.events = [None]
    told = client.get("/history?words=x")

    assert (told.status_code, "Something went wrong that should not" in told.text) == (500, True)
    assert "Traceback" not in told.text
    assert "NoneType" not in told.text
    assert 'href="/situations"' in told.text
    assert "frame-ancestors" in told.headers["content-security-policy"]
    (entry,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert entry.getMessage() == "the console failed at GET /history"
    assert "AttributeError" in caplog.text


def test_what_a_stranger_sends_stays_one_short_line_of_the_audit(
    visitor: Callable[[], TestClient], accounts: Accounts
) -> None:
    begin(visitor(), accounts)
    for name in ("eve\nanna logged in\u202e", "x" * 5000):
        log_in(visitor(), name)

    long, forged = accounts.audit(2)
    assert forged.who == "eve\\nanna logged in\\u202e"
    assert (len(long.who), long.who[-1]) == (200, "…")


def test_a_session_ends_when_it_is_idle_old_logged_out_or_its_password_changed(
    visitor: Callable[[], TestClient], accounts: Accounts
) -> None:
    client = visitor()
    begin(client, accounts)
    door = client.app.state.door
    started = door._now()
    for later_s, status in ((IDLE_S - 1, 200), (2 * IDLE_S - 2, 200), (3 * IDLE_S, 303)):
        door._now = lambda later_s=later_s: started + later_s
        assert client.get("/").status_code == status
    door._now = lambda: started
    log_in(client, "anna")
    for hour in range(int(LONGEST_S / 3600)):
        door._now = lambda hour=hour: started + 3600 * hour
        assert client.get("/").status_code == 200
    door._now = lambda: started + LONGEST_S + 1
    assert client.get("/").status_code == 303
    door._now = lambda: started
    log_in(client, "anna")
    accounts.change_password("anna", "another one entirely", by="anna")
    assert client.get("/").status_code == 303
    log_in(client, "anna", "another one entirely")
    assert client.post("/logout", data={"csrf": csrf(client)}).status_code == 303
    assert client.get("/").status_code == 303


def test_the_cookie_of_a_removed_account_opens_no_account_of_the_same_name(
    visitor: Callable[[], TestClient], accounts: Accounts
) -> None:
    begin(visitor(), accounts)
    accounts.add("olga", "admin", PASSWORD, by="anna")
    former = visitor()
    assert log_in(former, "olga") == 303
    accounts.remove("olga", by="anna")
    accounts.add("olga", "viewer", "another one entirely", by="anna")

    assert former.get("/").headers["location"] == "/login"


def test_a_copied_cookie_is_worth_nothing_after_logging_out(
    visitor: Callable[[], TestClient], accounts: Accounts
) -> None:
    client, thief, elsewhere = visitor(), visitor(), visitor()
    begin(client, accounts)
    assert log_in(elsewhere, "anna") == 303
    thief.cookies.set("wildlane", client.cookies["wildlane"])
    assert thief.get("/").status_code == 200

    assert client.post("/logout", data={"csrf": csrf(client)}).status_code == 303
    assert (thief.get("/").status_code, elsewhere.get("/").status_code) == (303, 200)


def test_a_forged_cookie_is_nobody(visitor: Callable[[], TestClient], accounts: Accounts) -> None:
    import base64
    import json

    begin(visitor(), accounts)
    client = visitor()
    content = base64.b64encode(json.dumps({"name": "anna", "epoch": 1, "csrf": "x", "began": 0, "seen": 9e9}).encode())
    client.cookies.set("wildlane", content.decode() + ".aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb")

    assert client.get("/").status_code == 303


def test_a_body_that_is_too_large_is_refused_told_or_not(
    visitor: Callable[[], TestClient], accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(visitor(), accounts)
    monkeypatch.setattr("monitor.console.access.MOST_BODY_BYTES", 1000)
    client = visitor()

    assert client.post("/login", data={"name": "x" * 2000}).status_code == 413
    told_nothing = client.post(
        "/login",
        content=iter([b"name=" + b"x" * 600, b"x" * 600]),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert told_nothing.status_code == 413
