"""Cameras come and go, as a browser asks for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from monitor.cameras.stream import CameraError
from monitor.cameras.trial import first_picture
from monitor.console.accounts import Accounts
from tests.conftest import free_port
from tests.monitor.console.conftest import PASSWORD, FakeSite, begin, csrf, log_in

URL = "rtsp://user:s3cret@192.0.2.7/stream"


@pytest.fixture
def admin(visitor: Callable[[], TestClient], accounts: Accounts) -> TestClient:
    client = visitor()
    begin(client, accounts)
    client.headers["x-csrf-token"] = csrf(client)
    return client


def test_only_an_address_that_gave_a_picture_becomes_a_camera(
    admin: TestClient, fake: FakeSite, accounts: Accounts
) -> None:
    assert admin.post("/new-camera").status_code == 404
    away = admin.post("/api/new-camera", json={"name": "gate", "url": f"{URL}/away"})
    assert away.json() == {"error": "camera gate: can't be opened: no answer, or not a camera stream"}
    assert admin.post("/new-camera").status_code == 404

    tried = admin.post("/api/new-camera", json={"name": "gate", "url": URL})
    assert tried.json() == {"size": [640, 360], "fps": 25.0}
    assert admin.get("/api/new-camera").content == b"\xff\xd8"
    assert admin.post("/new-camera").headers["location"].endswith("/cameras/gate")
    assert fake.added["gate"].source == URL
    assert (accounts.audit(1)[0].what, accounts.audit(1)[0].about) == ("added camera", "gate")
    assert "s3cret" not in admin.get("/cameras/gate").text + admin.get("/").text + admin.get("/audit").text
    assert admin.post("/new-camera").status_code == 404  # once only


def test_an_operator_neither_tries_nor_adds_nor_removes(
    admin: TestClient, visitor: Callable[[], TestClient], accounts: Accounts
) -> None:
    accounts.add("olga", "operator", PASSWORD, by="anna")
    other = visitor()
    log_in(other, "olga")
    other.headers["x-csrf-token"] = csrf(other)
    asked = [
        ("/api/new-camera", {"json": {"name": "gate", "url": URL}}),
        ("/new-camera", {}),
        ("/cameras/road/remove", {}),
        ("/api/cameras/road/shapes", {"json": {"masks_px": [], "zones": []}}),
    ]
    assert [other.post(path, **body).status_code for path, body in asked] == [403, 403, 403, 403]
    assert other.get("/new-camera").status_code == 403
    assert "Remove this camera" not in other.get("/cameras/road").text
    assert 'id="save"' not in other.get("/cameras/road").text


def test_zones_and_masks_are_drawn_anew_or_refused_with_the_reason(
    admin: TestClient, fake: FakeSite, accounts: Accounts
) -> None:
    triangle = [[0, 0], [90, 0], [90, 50.5]]
    zone = {"id": "crossing", "kind": "crossing", "polygon_px": triangle}
    for wrong, said in [
        ({"masks_px": []}, "zones: Field required"),
        ({"masks_px": [[[0, 0], [1, 1]]], "zones": []}, "masks_px.0: "),
        ({"masks_px": [], "zones": [zone | {"polygon_px": [[0, 0], [1, 1], [2, 2]]}]}, "encloses nothing"),
        ({"masks_px": [], "zones": [zone | {"id": "../x"}]}, "zones.0.id: "),
    ]:
        answer = admin.post("/api/cameras/road/shapes", json=wrong)
        assert (answer.status_code, said in answer.json()["error"]) == (400, True), answer.text
    assert not fake.added

    answer = admin.post("/api/cameras/road/shapes", json={"masks_px": [triangle], "zones": [zone]})
    assert answer.json() == {"zones": 1, "masks": 1}
    assert fake.added["road"].zones[0].id == "crossing"
    assert (accounts.audit(1)[0].what, accounts.audit(1)[0].about) == ("drew zones and masks", "road")


def test_what_can_not_be_opened_is_told_without_its_password() -> None:
    with pytest.raises(CameraError, match="camera gate: can't be opened") as refused:
        first_picture("gate", f"rtsp://user:s3cret@127.0.0.1:{free_port()}/stream")
    assert "s3cret" not in str(refused.value)
