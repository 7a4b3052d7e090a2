"""Who waits for whom: the console's threads, its lessons and its looks at what was taught."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from adapters.class_set import ClassSetStore
from adapters.classes import ClassAttributes, ClassSet
from adapters.classifier import Classifier, ClassMemory
from adapters.errors import TeachError
from monitor.config import Config
from monitor.console.accounts import Accounts
from monitor.console.app import make_app
from monitor.console.board import Board
from monitor.console.server import ConsoleServer, Hold, Kept, Report, site_of
from monitor.console.site import Site
from tests.monitor.console.conftest import FakeSite, Operator

SOON_S = 5.0
SLOW = ("/classes/rollback", "/classes/take-back")


@pytest.fixture
def operator(site: Site, accounts: Accounts, tmp_path: Path) -> Iterator[Operator]:
    """At a console that is served for real, before a program that only notes."""
    server = ConsoleServer("127.0.0.1", 0, make_app(site, accounts))
    somebody = Operator(server.port, tmp_path)
    yield somebody
    somebody.close()
    server.stop()


def test_a_request_that_takes_long_holds_up_no_other(operator: Operator, fake: FakeSite) -> None:
    fake.go_on.clear()
    with ThreadPoolExecutor() as pool:
        slow = [pool.submit(operator.post, path, version="cs-1", crop="cs-1") for path in SLOW]
        assert fake.begun.acquire(timeout=SOON_S)
        assert operator.site()["cameras"]["road"]["state"] == "ok"
        assert operator.get("/classes").status_code == 200
        assert not any(one.done() for one in slow)
        fake.go_on.set()
        assert [one.result().status_code for one in slow] == [200, 200]
    assert fake.rolled_back == ["cs-1", "cs-1"]


@pytest.fixture
def real(tmp_path: Path, store: ClassSetStore, classifier: Classifier) -> Iterator[Site]:
    """A site whose store has two classes, without a main loop."""
    for name in store.class_names()[2:]:
        store.forget(name)
    hold = Hold(
        order=lambda order: None,
        snapshot=lambda situation: None,
        try_out=lambda version: None,
        shadow=lambda: None,
        class_set=lambda: ClassSet("cs-1", {}, ClassMemory.empty()),
        config=Config,
        config_path=tmp_path / "config.toml",
        reload=lambda: None,
        health=lambda: None,
        consumers=dict,
    )
    with ExitStack() as parts:
        yield site_of("test", tmp_path / "state", Board(), classifier, Kept(tmp_path / "state", parts), hold)


def test_while_somebody_teaches_others_see_what_was_taught(real: Site) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def names() -> Iterator[str]:
        begun.set()
        assert go_on.wait(60)
        yield "road 7"

    moose = ClassAttributes(name="moose", size="large", origin="wild")
    with ThreadPoolExecutor() as pool:
        lesson = pool.submit(real.teach, moose, names(), ["no picture"], live=True)
        assert begun.wait(SOON_S)
        looks = [pool.submit(look) for look in (real.known, real.versions, real.refuted, real.report)]
        assert len(looks[0].result(SOON_S)) == 2
        assert [one["class"] for one in looks[-1].result(60)] == [one.name for one in real.known()]
        assert not lesson.done()
        go_on.set()
        with pytest.raises(TeachError, match="no picture"):
            lesson.result(SOON_S)


def test_how_good_the_classes_are_is_worked_out_once_a_version(
    real: Site, store: ClassSetStore, classifier: Classifier
) -> None:
    report, name = Report(store, classifier), store.class_names()[0]
    told = report()

    assert len(told) == 2
    assert report() is told
    store.forget(name)
    assert [one["class"] for one in report()] == [one["class"] for one in told if one["class"] != name]
