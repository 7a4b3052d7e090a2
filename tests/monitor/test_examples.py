"""What is shipped for consumers to begin with, against a real broker."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from monitor.alerts.journal import Journal
from monitor.alerts.mqtt import Publisher
from tests.conftest import ROOT, Mosquitto, missing, wait_until
from tests.monitor.test_alerts import draft, one_life, publisher

EXAMPLES = ROOT / "deploy/examples"


@pytest.fixture(scope="module")
def gateway() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sign_gateway", EXAMPLES / "sign_gateway.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def site(mosquitto: Mosquitto, journal: Journal) -> Iterator[Publisher]:
    sender = publisher(mosquitto.port, journal)
    sender.start()
    yield sender
    sender.stop(1)


def level(word: str, mode: str = "real") -> str:
    moment = "2026-11-23T12:00:00Z"
    return json.dumps(
        {
            "site": "test",
            "zone": "road",
            "level": word,
            "situations": ["x"] if word == "active" else [],
            "since": moment,
            "time": moment,
            "validUntil": moment,
            "mode": mode,
            "advisory": "",
        }
    )


@pytest.mark.parametrize(("word", "aspect"), [("active", "on"), ("clear", "off"), ("unknown", "fault")])
def test_a_sign_shows_the_level_of_its_zone(gateway: ModuleType, word: str, aspect: str) -> None:
    sign = gateway.Sign()
    sign.hear_level(level(word), now_s=100, expires_s=30)

    assert sign.aspect(101) == aspect


def test_a_sign_of_which_nothing_was_heard_is_at_fault(gateway: ModuleType) -> None:
    assert gateway.Sign().aspect(0) == "fault"


@pytest.mark.parametrize("word", ["active", "clear"])
def test_a_level_that_is_not_told_again_is_not_believed_for_longer_than_it_holds(
    gateway: ModuleType, word: str
) -> None:
    sign = gateway.Sign()
    sign.hear_level(level(word), now_s=100, expires_s=12)

    assert sign.aspect(111) != "fault"
    assert sign.aspect(113) == "fault"


def test_a_site_that_is_gone_is_a_fault_until_it_is_back(gateway: ModuleType) -> None:
    sign = gateway.Sign()
    sign.hear_level(level("clear"), now_s=100, expires_s=30)
    sign.hear_status('{"status": "offline"}')

    assert sign.aspect(101) == "fault"
    sign.hear_status('{"status": "degraded"}')  # it watches all the same
    assert sign.aspect(101) == "off"


def test_an_exercise_moves_no_real_sign(gateway: ModuleType) -> None:
    sign = gateway.Sign()
    sign.hear_level(level("clear"), now_s=100, expires_s=30)
    sign.hear_level(level("active", mode="exercise"), now_s=101, expires_s=30)

    assert sign.aspect(102) == "off"
    rehearsing = gateway.Sign(real_only=False)
    rehearsing.hear_level(level("active", mode="exercise"), now_s=101, expires_s=30)
    assert rehearsing.aspect(102) == "on"


def test_the_gateway_follows_a_site_through_a_real_broker(mosquitto: Mosquitto, site: Publisher) -> None:
    command = [sys.executable, str(EXAMPLES / "sign_gateway.py"), "--port", str(mosquitto.port)]
    command += ["--site", "test", "--zone", "road"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        shown = process.stdout
        assert shown.readline() == "flash\n"  # it knows nothing yet
        site.set_level("state/road", level("active"))
        assert shown.readline() == "on\n"
        site.set_level("state/road", level("clear"))
        assert shown.readline() == "off\n"
        site.stop(1)
        assert shown.readline() == "flash\n"
        process.kill()


def test_the_shell_example_prints_events_and_levels(
    mosquitto: Mosquitto, site: Publisher, journal: Journal, tmp_path: Path
) -> None:
    if subprocess.run(["which", "jq"], capture_output=True, check=False).returncode:
        missing("jq")
    printed = tmp_path / "printed.txt"
    with (
        printed.open("w") as file,
        subprocess.Popen(
            [str(EXAMPLES / "watch.sh"), "test", "-p", str(mosquitto.port)], stdout=file, start_new_session=True
        ) as process,
    ):
        site.set_level("state/road", level("active"))
        wait_until(lambda: "level active" in printed.read_text(), seconds=10, what="the level is printed")
        journal.append([draft(situation) for situation in one_life()])
        site.event_committed()
        wait_until(lambda: "  end  dog  90 %  " in printed.read_text(), seconds=10, what="the event is printed")
        subprocess.run(["pkill", "-g", str(process.pid)], check=False)
