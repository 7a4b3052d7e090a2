"""Versions, how good they are, and what they are tried on, as a browser asks for it."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from starlette.testclient import TestClient

from adapters.classes import ClassSet
from adapters.classifier import Classification, ClassMemory
from monitor.console.accounts import Accounts
from monitor.shadow import EXAMPLES, Shadow
from tests.monitor.console.conftest import FakeSite, begin, csrf

CROP = np.full((40, 40, 3), 120, np.uint8)


@pytest.fixture
def client(visitor: Callable[[], TestClient], accounts: Accounts) -> TestClient:
    client = visitor()
    begin(client, accounts)
    return client


def answer(label: str) -> Classification:
    weights = {label: 1.0, "none": 0.0}
    return Classification(weights=weights, p_class={label: 1.0}, p_animal=0.9, similarity_m=0.5, legible=True)


def test_the_report_shows_the_confusions_and_the_kept_frames(client: TestClient) -> None:
    page = client.get("/classes/report").text

    assert "80 % found again, 20 % taken for deer" in page
    assert "Elch taken for Elch: 80 %" in page
    assert 'src="/classes/crops/ab"' in page
    assert client.get("/classes/crops/ab").headers["content-type"] == "image/png"
    assert client.get("/classes/crops/cd").status_code == 404


def test_people_read_a_class_in_their_own_language_and_no_two_alike(
    client: TestClient, fake: FakeSite, accounts: Accounts
) -> None:
    asked = {"csrf": csrf(client), "class": "moose"}
    page = client.get("/classes/report").text
    assert "<h2>Elch <small>moose, large, wild, <em>Alces alces</em></small></h2>" in page

    assert client.post("/classes/call", data=asked | {"display_name": "Ren\u202e"}).status_code == 400
    taken = client.post("/classes/call", data=asked | {"display_name": "Hirsch"})
    assert "&#39;Hirsch&#39; is what another class is called" in taken.text
    assert client.post("/classes/call", data=asked | {"class": "unicorn"}).status_code == 404
    assert client.post("/classes/call", data=asked | {"display_name": " Älg "}).status_code == 303
    assert client.post("/classes/call", data=asked | {"display_name": ""}).status_code == 303
    assert fake.called == [("moose", "Älg"), ("moose", None)]
    assert accounts.audit(2)[1].about == "moose: Älg, cs-9"


def test_what_boxes_are_not_is_said_and_taken_back(client: TestClient, fake: FakeSite, accounts: Accounts) -> None:
    client.headers["x-csrf-token"] = csrf(client)
    client.post("/api/hold/road")
    labels = [{"camera": "road", "number": 7, "box": [40, 30, 50, 40]}]

    told = client.post("/api/refute", json={"name": "none", "labels": labels}).json()

    assert (told["class"], told["before"], told["after"]) == ("none", 0.9, 0.1)
    assert fake.refuted == [("none", ["road 7"])]
    assert accounts.audit(1)[0].about == "none: 1 of 1 frames, cs-9"
    page = client.get("/classes/report").text
    assert "Said to be no moose:" in page
    assert "Said to be no animal:" in page
    assert client.post("/classes/take-back", data={"crop": "cs-1"}).headers["location"].endswith("/classes/report")
    assert fake.rolled_back == ["cs-1"]


def test_a_wrongly_taught_frame_is_taken_out(client: TestClient, fake: FakeSite, accounts: Accounts) -> None:
    asked = {"csrf": csrf(client), "class": "moose"}
    assert 'aria-label="Take this frame out of moose"' in client.get("/classes/report").text

    assert client.post("/classes/remove", data=asked | {"crop": "cd"}).status_code == 400
    assert client.post("/classes/remove", data=asked | {"crop": "ab"}).status_code == 303
    assert fake.removed == [("moose", "ab")]
    assert accounts.audit(1)[0].about == "moose ab, cs-4"


def test_a_version_is_tried_beside_the_live_one(client: TestClient, fake: FakeSite, accounts: Accounts) -> None:
    assert "No version is tried" in client.get("/classes/trial").text
    asked = client.post("/classes/try", data={"csrf": csrf(client), "version": "cs-2"})
    assert asked.headers["location"].endswith("/classes/trial")
    assert fake.tried == ["cs-2"]
    assert accounts.audit(1)[0].what == "tries beside the live one"

    fake.shadow = Shadow(ClassSet("cs-2", {}, ClassMemory.empty()))
    assert "would have called 0 of them otherwise" in client.get("/classes/trial").text
    fake.shadow.compare([CROP] * 3, [answer("deer")] * 3, [answer("deer"), answer("moose"), answer("moose")])
    page = client.get("/classes/trial").text
    assert "has seen 3 crops since it began, and would have called 2 of them otherwise" in page
    assert "deer → Elch" in page
    assert client.get("/classes/trial/1").content[:2] == b"\xff\xd8"
    assert client.get("/classes/trial/2").status_code == 404


@pytest.mark.parametrize("version", ["cs-999", "rubbish", "cs-2\nforged", "x" * 5000])
def test_a_version_that_there_is_not_is_not_tried(
    client: TestClient, fake: FakeSite, accounts: Accounts, version: str
) -> None:
    before = accounts.audit(1)
    refused = client.post("/classes/try", data={"csrf": csrf(client), "version": version})

    assert (refused.status_code, "there is no version" in refused.text) == (404, True)
    assert len(refused.text) < 5000
    assert (fake.tried, accounts.audit(1)) == ([], before)


@pytest.mark.parametrize("path", ["/classes/report", "/classes/trial"])
def test_what_changes_the_live_version_is_asked_about_first(client: TestClient, fake: FakeSite, path: str) -> None:
    fake.shadow = Shadow(ClassSet("cs-2", {}, ClassMemory.empty()))
    page = client.get(path).text
    forms = re.findall(r'<form method="post" action="/classes/(?:rollback|forget)"[^>]*>', page)

    assert forms
    assert all("data-ask=" in form for form in forms)
    assert "/static/ask.js" in page


def test_examples_do_not_grow_without_end() -> None:
    shadow = Shadow(ClassSet("cs-2", {}, ClassMemory.empty()))
    for _ in range(3 * EXAMPLES):
        shadow.compare([CROP], [answer("deer")], [answer("moose")])

    assert len(shadow.comparison().examples) == EXAMPLES
    assert shadow.comparison().changes == (("deer", "moose", 3 * EXAMPLES),)


def test_boxes_become_checked_frames(client: TestClient, fake: FakeSite) -> None:
    client.headers["x-csrf-token"] = csrf(client)
    client.post("/api/hold/road")
    labels = [{"camera": "road", "number": n, "box": [40, 30, 50, 40]} for n in (7, 8)]

    told = client.post("/api/golden", json={"name": "none", "labels": labels}).json()

    assert (told["taken"], told["frames"], [one["image"] for one in told["refused"]]) == (1, 1, ["road 8"])
    assert fake.checked == [("none", ["road 7"])]
    assert client.post("/api/golden", json={"name": "cannot-tell", "labels": labels}).status_code == 400
    assert "new versions go live untried" in client.get("/golden").text
