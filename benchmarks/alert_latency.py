"""From a decision to a subscriber, the commit to disk included, at 1,000 situations a minute.

`python benchmarks/alert_latency.py [SECONDS]` prints, for the embedded broker and for Mosquitto on loopback, the
latency from the decision to the subscriber's callback, what the commit alone took of it, and the memory at the
beginning and at the end. Each situation is a start and an end.
"""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho

from adapters.classes import ClassAttributes
from monitor.alerts.broker import EmbeddedBroker
from monitor.alerts.compose import Draft, SiteFacts
from monitor.alerts.journal import Journal
from monitor.alerts.mqtt import Publisher
from monitor.alerts.reports import wall_clock
from monitor.alerts.schema import ClockPart, SiteStatus
from monitor.alerts.session import Address
from monitor.assembly import settings_of
from monitor.config import Config
from monitor.policy import Policy, Situation
from monitor.values import Box, Sighting
from monitor.zones import whole_view

SITUATIONS_A_MINUTE = 1000
WARM_UP = 50  # messages
FACTS = SiteFacts(
    site="bench",
    mode="test",
    device="bench",
    software="0",
    encoder="sha256:" + "0" * 64,
    valid_s=60,
    places={},
    roads={},
    info_version="sha256:" + "0" * 64,
)
DOG = ClassAttributes(name="dog", size="small", origin="domestic")


def life(policy: Policy, now_s: float) -> Iterator[Situation]:
    """Yield the start and the end of one situation, decided now."""
    seen = Sighting(
        camera="north",
        track=1,
        box=Box(100, 100, 160, 150),
        first_seen_s=now_s - 2,
        seen_s=now_s,
        age_s=0.0,
        looks=9,
        label="dog",
        probability=0.95,
        p_animal=0.98,
        weights={"dog": 0.95, "none": 0.05},
        similarity_m=0.6,
        velocity_px_s=(30.0, 0.0),
        travelled=2.0,
        at_edge=False,
        light="day",
    )
    yield from policy.decide([seen], now_s)
    yield from policy.end_all("left", time.monotonic())


class Subscriber:
    """Notes when each event arrives."""

    def __init__(self, port: int) -> None:
        self.arrived_s: dict[str, float] = {}
        ready = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = lambda client, userdata, message: self._note(message)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("wildlane/v1/bench/event/#", qos=1)
        self._client.loop_start()
        ready.wait(5)

    def _note(self, message: paho.MQTTMessage) -> None:
        now_s = time.monotonic()
        payload = message.payload.decode()
        at = payload.index('"id":"') + 6  # the CloudEvent's own id; parsing it here would be timed too
        self.arrived_s.setdefault(payload[at : payload.index('"', at)], now_s)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def status(word: str, journal: Journal) -> str:
    return SiteStatus(
        site="bench", status=word, since=datetime.now(UTC), software="0", journal=journal.id, problem=None
    ).model_dump_json(by_alias=True)


def measure(port: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal, subscriber = Journal(Path(folder)), Subscriber(port)
        publisher = Publisher(
            Address(host="127.0.0.1", port=port, client_id="bench"),
            journal,
            root="wildlane/v1/bench",
            online=status("online", journal),
            offline=status("offline", journal),
        )
        publisher.start()
        publisher.connected.wait(5)
        decided_s, commit_ms, memory = tell(journal, publisher, seconds)
        deadline = time.monotonic() + 10
        while len(subscriber.arrived_s) < len(decided_s) and time.monotonic() < deadline:
            time.sleep(0.05)
        publisher.stop(2)
        subscriber.close()
        journal.close()
    arrived_s = subscriber.arrived_s
    late_ms = [1000 * (arrived_s[name] - at_s) for name, at_s in decided_s.items() if name in arrived_s]
    print(f"  {len(decided_s)} told, {len(late_ms)} arrived")
    print(f"  decision to subscriber {percentiles(late_ms[WARM_UP:])}; commit alone {percentiles(commit_ms[WARM_UP:])}")
    print(f"  memory {memory[0]:.1f} MiB after the first tenth, {memory[-1]:.1f} MiB at the end")


def tell(journal: Journal, publisher: Publisher, seconds: float) -> tuple[dict[str, float], list[float], list[float]]:
    """Return when each event was decided, how long each commit took in ms, and the memory in MiB over time."""
    policy = Policy(settings_of(Config()), {"north": (whole_view("north"),)})
    chance = random.Random(1)  # noqa: S311  # no secret
    decided_s, commit_ms, memory = {}, [], []
    begun_s = time.monotonic()
    for number in range(round(seconds * SITUATIONS_A_MINUTE / 60)):
        due_s = begun_s + (number + chance.random()) * 60 / SITUATIONS_A_MINUTE
        time.sleep(max(0.0, due_s - time.monotonic()))
        for situation in life(policy, time.monotonic()):
            at_s = time.monotonic()
            draft = Draft(
                situation=situation,
                facts=FACTS,
                class_set="cs-1",
                attributes=DOG,
                at=wall_clock(at_s),
                clock=ClockPart(synced=False, source="system", error_ms=None),
            )
            (alert,) = journal.append([draft])
            publisher.event_committed()
            commit_ms.append(1000 * (time.monotonic() - at_s))
            decided_s[alert.id] = at_s
        if number % 100 == 99:
            memory.append(resident_mib())
    return decided_s, commit_ms, memory


def percentiles(values_ms: list[float]) -> str:
    p50, p95, p99 = np.percentile(values_ms, (50, 95, 99))
    return f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} ms"


def resident_mib() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@contextmanager
def mosquitto() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(["mosquitto", "-p", str(port)], stderr=subprocess.DEVNULL)  # noqa: S603, S607
    time.sleep(1)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def embedded() -> Iterator[int]:
    broker = EmbeddedBroker(0)
    try:
        yield broker.port
    finally:
        broker.stop()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    brokers: dict[str, Callable[[], object]] = {"embedded broker": embedded}
    if shutil.which("mosquitto"):
        brokers["Mosquitto"] = mosquitto
    for name, run in brokers.items():
        print(f"{name}, {SITUATIONS_A_MINUTE} situations a minute for {seconds:.0f} s")
        with run() as port:  # type: ignore[attr-defined]  # both are context managers
            measure(port, seconds)


if __name__ == "__main__":
    main()
