"""Every committed event reaches a consumer, in order and once, whatever breaks on the way; and soon after it ends.

The consumer is the example that is shipped, `deploy/examples/consumer.py`; the broker a real Mosquitto without
persistence, which forgets everything when it is killed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.alerts.history import history
from monitor.alerts.schema import Alert
from monitor.alerts.verify import verify
from tests.conftest import ROOT, Mosquitto, wait_until
from tests.faults.proxy import Proxy

CRASH_POINTS = ("BEGIN", "INSERT", "UPDATE", "COMMIT", "MARK", "PUBLISH", "RECEIPTS")
KILLS = {"sample": {"broker": 2, "program": 5}, "full": {"broker": 50, "program": 200}}


def count_of(what: str, request: pytest.FixtureRequest) -> int:
    return KILLS["full" if request.config.getoption("--drills-in-full") else "sample"][what]


class Consumer:
    """The shipped example, writing what it prints to a file."""

    def __init__(self, folder: Path, port: int) -> None:
        self.file = folder / "events.jsonl"
        command = [sys.executable, str(ROOT / "deploy/examples/consumer.py"), "--site", "test", "--name", "drill"]
        command += ["--port", str(port), "--memory", str(folder / "memory.json")]
        command += ["--from-start"]
        with self.file.open("w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=folder)

    def events(self) -> list[Alert]:
        return [Alert.model_validate_json(line) for line in self.file.read_text().splitlines() if line.startswith("{")]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Site:
    """A teller on a state folder, started again after each kill."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, port: int, *, lives: int, pause_s: float = 0.01, crash_at: str = "") -> None:
        command = [sys.executable, "-m", "tests.faults.teller", str(self.state), str(port), str(lives), str(pause_s)]
        armed = {"CRASH_AT": crash_at} if crash_at else {}
        self.process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env=os.environ | armed)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def finish(self) -> None:
        assert self.process is not None
        assert self.process.wait(timeout=300) == 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "state")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


@pytest.fixture
def consumer(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Consumer]:
    made = Consumer(tmp_path, mosquitto.port)
    yield made
    made.stop()


def judge(what: str, site: Site, consumer: Consumer) -> None:
    """Everything committed came, the same and in order; every start has exactly one end."""
    committed = list(history(site.state))
    wait_until(lambda: len(consumer.events()) >= len(committed), seconds=30, what="everything committed arrived")
    came = consumer.events()
    assert came == committed  # in order, once, unchanged
    (verdict,) = verify(came)
    assert verdict.complete
    assert not verdict.without_start
    assert not verdict.without_end
    told = [(alert.data.situation.id, alert.data.situation.version) for alert in committed]
    assert len(set(told)) == len(told)
    print(f"{what}: {len(committed)} committed, {len(came)} received in order, 0 lost")


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_nothing_is_lost_while_the_broker_is_killed_again_and_again(
    mosquitto: Mosquitto, site: Site, consumer: Consumer, request: pytest.FixtureRequest
) -> None:
    kills, chance = count_of("broker", request), random.Random(1)
    site.start(mosquitto.port, lives=60 * kills)
    for _ in range(kills):
        time.sleep(chance.uniform(0.2, 1.5))
        mosquitto.stop()
        time.sleep(chance.uniform(0.0, 0.3))
        mosquitto.start()
    site.finish()

    judge(f"broker killed {kills} times", site, consumer)


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_nothing_is_lost_while_the_program_is_killed_again_and_again(
    mosquitto: Mosquitto, site: Site, consumer: Consumer, request: pytest.FixtureRequest
) -> None:
    kills, chance = count_of("program", request), random.Random(2)
    for number in range(kills):
        if number % 4 == 3:  # at any instant
            site.start(mosquitto.port, lives=10_000, pause_s=0.005)
            time.sleep(chance.uniform(0.5, 3.0))
            site.kill()
        else:  # at the worst ones
            point = f"{chance.choice(('before', 'after'))} {chance.choice(CRASH_POINTS)} {chance.randint(1, 60)}"
            site.start(mosquitto.port, lives=10_000, pause_s=0.005, crash_at=point)
            assert site.process is not None
            assert site.process.wait(timeout=60) == -signal.SIGKILL, point
    site.start(mosquitto.port, lives=5)
    site.finish()

    judge(f"program killed {kills} times", site, consumer)


@pytest.mark.drill
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["blackhole", "reset", "crumbs", "delay"])
def test_nothing_is_lost_on_a_bad_network_and_the_next_event_comes_soon_after_it(
    mosquitto: Mosquitto, site: Site, consumer: Consumer, mode: str
) -> None:
    proxy = Proxy(mosquitto.port)
    site.start(proxy.port, lives=250, pause_s=0.02)
    wait_until(lambda: len(consumer.events()) > 5, seconds=20, what="events flow")
    proxy.mode = mode
    time.sleep(4)
    before = len(consumer.events())
    proxy.mode = "pass"
    ended = time.monotonic()
    newest = max((alert.data.seq for alert in history(site.state)), default=0)
    wait_until(
        lambda: consumer.events()[-1].data.seq > newest, seconds=60, what="an event newer than the fault arrived"
    )
    waited_s = time.monotonic() - ended
    assert waited_s < 5
    site.finish()

    judge(
        f"{mode} for 4 s ({before} events before, {proxy.resets} resets), live {waited_s:.1f} s after", site, consumer
    )
    proxy.close()
