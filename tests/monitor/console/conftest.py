"""The console in one process, with a program that only notes what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from argon2 import PasswordHasher
from starlette.testclient import TestClient

from adapters.classes import ClassAttributes, VersionRecord
from adapters.crops import LabelledCrop
from adapters.errors import ConfigError
from adapters.frames import Crop
from adapters.golden import GoldenSet
from adapters.teaching import Lesson, Refutation, Removal
from monitor.alerts.schema import Alert
from monitor.camera_file import check_camera
from monitor.cameras.health import Health
from monitor.cameras.stream import CameraError
from monitor.cameras.trial import FirstPicture
from monitor.config import CameraConfig, Config, Shapes, ZoneConfig
from monitor.console.accounts import Accounts
from monitor.console.app import make_app
from monitor.console.board import Board
from monitor.console.recordings import Recordings
from monitor.console.site import Site
from monitor.policy import Policy
from monitor.shadow import Shadow
from monitor.values import Frame
from tests.monitor.test_alerts import SETTINGS, sighting, whole_view

FAST = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse battery"
VERSION = VersionRecord(
    version="cs-2", created="2026-11-23T10:00:00Z", parent="cs-1", reason="taught moose", active=True
)
CONFIG = Config.model_validate(
    {
        "cameras": {
            "road": {
                "source": "road.mp4",
                "zones": [{"id": "crossing", "kind": "crossing", "polygon_px": [[1, 2], [30, 2], [30, 40]]}],
                "masks_px": [[[5, 5], [9, 5], [9, 9]]],
            },
            "yard": {"source": "yard.mp4"},
        }
    }
)
MOOSE = ClassAttributes(name="moose", size="large", origin="wild", display_name="Elch")
DOG, *_ = Policy(SETTINGS, {"north": (whole_view("north"),)}).decide([sighting(1.0)], 1.0)
OPEN = (replace(DOG, id="s1"), replace(DOG, id="s2", confirmed_by="olga"))
REPORT = {
    "class": "moose",
    "size": "large",
    "origin": "wild",
    "scientific_name": "Alces alces",
    "display_name": "Elch",
    "herd": False,
    "leave_one_out": 0.8,
    "confused_with": {"deer": 0.2},
    "nearest": {"deer": 0.41},
    "shots": [{"source": "road 7", "created": "2026-11-23T10:00:00Z", "crop": "ab"}],
}


class FakeSite:
    """Notes what the console asked of the program."""

    def remove(self, name: str, crop: str) -> Removal:
        if not crop.startswith("ab"):
            raise ConfigError(f"'{name}' has no such frame")
        self.removed.append((name, crop))
        return Removal("cs-4", None)

    def __init__(self) -> None:
        self.removed: list[tuple[str, str]] = []
        self.orders: list[tuple[str, str, str]] = []
        self.rolled_back: list[str] = []
        self.begun, self.go_on = threading.Semaphore(0), threading.Event()  # a test clears it for what takes long
        self.go_on.set()
        self.events: list[Alert] = []
        self.checked: list[tuple[str, list[str]]] = []
        self.tried: list[str] = []
        self.shadow: Shadow | None = None
        self.called: list[tuple[str, str | None]] = []
        self.added: dict[str, CameraConfig] = {}
        self.refuted: list[tuple[str, Sequence[str]]] = []
        self.lessons: list[tuple[ClassAttributes, Sequence[str], Sequence[Crop]]] = []

    def check(self, label: str, frames: Sequence[tuple[str, LabelledCrop]]) -> int:
        self.checked.append((label, [name for name, _ in frames]))
        return len(frames)

    def teach(self, attributes: ClassAttributes, names: Sequence[str], crops: Sequence[Crop], *, live: bool) -> Lesson:
        self.lessons.append((attributes, names, crops))
        return Lesson(attributes.name, "cs-9", len(crops), len(crops), [], 0.1, None, {}, [])

    def refute(self, name: str, names: Sequence[str], crops: Sequence[Crop]) -> Refutation:
        self.refuted.append((name, names))
        return Refutation(name, "cs-9", len(crops), len(crops), [], 0.9, 0.1)

    def look(self, name: str, url: str) -> FirstPicture:
        check_camera(name, url, ())
        if url.endswith("away"):
            raise CameraError(f"camera {name}: can't be opened: no answer, or not a camera stream")
        return FirstPicture((640, 360), 25.0, b"\xff\xd8")

    def rollback(self, version: str) -> str:
        if version != "cs-1":
            raise ConfigError(f"no version {version}")
        self.begun.release()
        self.go_on.wait(60)
        self.rolled_back.append(version)
        return version


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    opened = Accounts(tmp_path, FAST)
    yield opened
    opened.close()


@pytest.fixture
def fake() -> FakeSite:
    return FakeSite()


@pytest.fixture
def site(fake: FakeSite, tmp_path: Path) -> Iterator[Site]:
    """A program as the console knows it."""
    board, golden = Board(), GoldenSet(tmp_path)
    board.site({"road": Health("ok", None, 0.0), "yard": Health("blind", "lost", 0.0)}, OPEN, 1.0)
    image = np.full((90, 160, 3), 90, np.uint8)
    board.frame(Frame(camera="road", index=7, time_s=1.0, captured_s=1.0, image=image, slot=0, moving=()), (), 1.0)

    def add_camera(name: str, url: str) -> None:
        fake.added[name] = CameraConfig(source=url)
        board.site({**board.healths(), name: Health("ok", None, 0.0)}, OPEN, 1.0)
        board.frame(Frame(camera=name, index=1, time_s=1.0, captured_s=1.0, image=image, slot=0, moving=()), (), 1.0)

    def draw(name: str, masks_px: Shapes, zones: Sequence[ZoneConfig]) -> None:
        before = CONFIG.cameras[name]
        fake.added[name] = before.model_copy(update={"masks_px": masks_px, "zones": list(zones)})

    yield Site(
        name="test",
        board=board,
        known=lambda: [MOOSE, replace(MOOSE, name="deer", display_name="Hirsch")],
        names=lambda: {"moose": "Elch"},
        call=lambda name, display_name: fake.called.append((name, display_name)) or "cs-9",
        teach=fake.teach,
        refute=fake.refute,
        refuted=lambda: {"moose": [("cd", "road 8", "2026-11-23T10:00:00Z")], "none": [("ef", "road 9", "2026-11-23")]},
        take_back=fake.rollback,
        recordings=Recordings(tmp_path / "recordings"),
        golden=golden,
        check=fake.check,
        uncheck=golden.remove,
        report=lambda: [REPORT],
        crop=lambda name: b"\x89PNG" if name == "ab" else None,
        forget=fake.rollback,
        remove=fake.remove,
        versions=lambda: [VERSION],
        rollback=fake.rollback,
        order=lambda *order: fake.orders.append(order),
        try_out=fake.tried.append,
        shadow=lambda: fake.shadow,
        config=lambda: CONFIG.model_copy(update={"cameras": {**CONFIG.cameras, **fake.added}}),
        look=fake.look,
        add_camera=add_camera,
        remove_camera=fake.rollback,
        draw=draw,
        health=lambda: None,
        consumers=lambda: {"sign": 12},
        history=lambda: fake.events,
        snapshot=lambda situation: b"\xff\xd8" if situation == "kept" else None,
        heat=lambda jpeg, name: b"\x89PNG" if name == "moose" else None,
    )
    golden.close()


@pytest.fixture
def visitor(site: Site, accounts: Accounts) -> Callable[[], TestClient]:
    """A browser that knows nothing yet."""
    app = make_app(site, accounts)
    return lambda: TestClient(app, base_url="http://127.0.0.1:8080", follow_redirects=False)


def begin(client: TestClient, accounts: Accounts) -> None:
    assert accounts.token_path is not None
    token = accounts.token_path.read_text().strip()
    answer = client.post("/welcome", data={"token": token, "name": "anna", "password": PASSWORD})
    assert answer.status_code == 303, answer.text


def log_in(client: TestClient, name: str, password: str = PASSWORD) -> int:
    return client.post("/login", data={"name": name, "password": password}).status_code


def csrf(client: TestClient) -> str:
    page = client.get("/classes").text
    return page.split('name="csrf" content="')[1].split('"')[0]


class Operator:
    """Somebody at the console, logged in: the first administrator, or who has an account already."""

    def __init__(self, port: int, state: Path, name: str = "anna", *, has_account: bool = False) -> None:
        self._client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True, timeout=30)
        self._name = name
        if has_account:
            self._enter("/login")
        else:
            self._enter("/welcome", token=(state / "console-token").read_text().strip())

    def login(self) -> None:
        """Log in again, at a program that was started anew."""
        self._enter("/login")

    def _enter(self, path: str, **proof: str) -> None:
        page = self._client.post(path, data={"name": self._name, "password": PASSWORD, **proof})
        assert page.status_code == 200, page.text
        self._csrf = page.text.split('name="csrf" content="')[1].split('"')[0]

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> httpx2.Response:
        return self._client.get(path)

    def post(self, path: str, **form: str) -> httpx2.Response:
        return self._client.post(path, data={"csrf": self._csrf, **form})

    def ask(self, path: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        """Post JSON, as the page does."""
        return self._client.post(path, json=body, headers={"x-csrf-token": self._csrf})

    def site(self) -> dict:
        return self.get("/api/site").json()
