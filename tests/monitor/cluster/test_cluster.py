"""A site on a Ray cluster of simulated nodes, with a real broker: the same situations, and what a lost node costs."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import ray

from adapters.site_knowledge import FILE
from monitor.alerts.schema import Alert
from monitor.alerts.verify import verify
from monitor.cluster.remote import RemotePlaces
from tests.conftest import (
    DEMO_CLIP,
    ROOT,
    WILDLANE,
    Listener,
    Mosquitto,
    RtspServer,
    clip_stream,
    free_port,
    missing,
    request,
    wait_until,
    wildlane,
    write_config,
)
from tests.monitor.cluster.simulated import QUIET, SimulatedCluster, simulated

AGAIN_S = 15.0  # within which every camera must be watched again
KILLS = {"sample": 1, "full": 20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimulatedCluster]:
    with simulated(3) as made:
        yield made


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration clip forty times, longer than a test lasts: a stream that ends is a fault of its own."""
    if not shutil.which("ffmpeg"):
        missing("ffmpeg")
    clip = tmp_path_factory.mktemp("clip") / "long.mp4"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-stream_loop", "39", "-i", str(DEMO_CLIP), "-c", "copy", str(clip)], check=True
    )
    return clip


class Site:
    """`wildlane run --cluster`, as a user starts it."""

    def __init__(self, config: Path, state: Path, address: str) -> None:
        self.folder, self._log = config.parent, (config.parent / "log.txt").open("w+")
        command = [*WILDLANE, "run", "--cluster", address, "--config", str(config), "--state", str(state)]
        with (config.parent / "alerts.jsonl").open("w") as out:
            self.process = subprocess.Popen(command, env=os.environ | QUIET, stdout=out, stderr=self._log, cwd=ROOT)

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def alerts(self) -> list[Alert]:
        return [Alert.model_validate_json(line) for line in (self.folder / "alerts.jsonl").read_text().splitlines()]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        self._log.close()

    def kill(self) -> None:
        """Leave nothing to the tests after a failed one."""
        self.process.kill()
        self.process.wait()
        self._log.close()


RunSite = Callable[[Path, Path, str], Site]


@pytest.fixture
def run_site() -> Iterator[RunSite]:
    started: list[Site] = []

    def run(config: Path, state: Path, address: str) -> Site:
        started.append(Site(config, state, address))
        return started[-1]

    yield run
    for site in started:
        site.kill()


def told(alerts: list[Alert]) -> list[tuple[str, str, str]]:
    """What was told, in the order of each zone: zone, class, phase."""
    facts = [(alert.data.where.zone.id, alert.data.animal.class_, alert.data.situation.phase) for alert in alerts]
    return sorted(facts, key=lambda fact: fact[0])  # stable


def seconds(alerts: list[Alert]) -> list[float]:
    """When each situation began and ended, since the first of its zone; how soon it is named depends on the frames."""
    first: dict[str, float] = {}
    told = [alert for alert in alerts if alert.data.situation.phase != "update"]
    times = sorted((alert.data.where.zone.id, alert.time.timestamp()) for alert in told)
    return [at - first.setdefault(zone, at) for zone, at in times]


def test_the_same_clips_lead_to_the_same_situations_on_one_machine_and_on_a_cluster(
    cluster: SimulatedCluster, run_site: RunSite, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    cameras = {"north": str(DEMO_CLIP), "south": str(DEMO_CLIP)}
    alone = write_config(tmp_path / "c.toml", cameras, mosquitto.port)
    run = subprocess.run(
        [*WILDLANE, "run", "--config", alone, "--state", tmp_path / "alone"],
        capture_output=True, text=True, check=True, cwd=ROOT, timeout=90,
    )  # fmt: skip
    expected = [Alert.model_validate_json(line) for line in run.stdout.splitlines()]
    listener = mosquitto.listen("wildlane/v1/test/#")
    site = run_site(alone, tmp_path / "state", cluster.address)
    site.process.wait(120)
    site.stop()
    listener.stop()

    assert site.process.returncode == 0, site.log()
    got = alerts_of(listener)
    assert told(got) == told(expected)
    assert max(abs(here - there) for here, there in zip(seconds(got), seconds(expected), strict=True)) < 1.0
    assert all(verdict.complete for verdict in verify(got))
    assert sorted(alert.id for alert in site.alerts()) == sorted(alert.id for alert in got)
    health = json.loads(listener.got("/health")[-1])
    assert set(health["cameras"]) == set(cameras)
    assert health["newest"] == len(got)


def test_a_run_after_another_goes_on_with_its_journal(
    cluster: SimulatedCluster, run_site: RunSite, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    cameras = dict.fromkeys(("north", "south", "east", "west"), str(DEMO_CLIP))  # more than cores: two a watcher
    config = write_config(tmp_path / "c.toml", cameras, mosquitto.port)
    listener = mosquitto.listen("wildlane/v1/test/#")
    for wanted in (8, 16):
        site = run_site(config, tmp_path / "state", cluster.address)
        wait_until(lambda wanted=wanted: len(listener.got("/event/")) >= wanted, seconds=60, what="events")
        site.stop()
    listener.stop()
    got = alerts_of(listener)

    (verdict,) = verify(got)
    assert verdict.complete
    assert {alert.data.where.zone.id for alert in got} == set(cameras)
    assert (verdict.first, verdict.last, verdict.without_end) == (1, len(got), [])


@pytest.mark.timeout(300)
def test_a_node_is_left_without_a_gap_before_it_is_stopped(
    run_site: RunSite,
    mosquitto: Mosquitto,
    rtsp: Callable[[dict[str, dict[str, str]]], RtspServer],
    long_clip: Path,
    tmp_path: Path,
) -> None:
    names = ("north", "south", "east", "west")  # more than cores: two a watcher
    server = rtsp({f"/{name}": clip_stream(long_clip) for name in names})
    cameras = {name: server.url.replace("/camera", f"/{name}") for name in names}
    port, state = free_port(), tmp_path / "state"
    config = write_config(tmp_path / "c.toml", cameras, mosquitto.port, f"[metrics]\nport = {port}")
    (tmp_path / "again").mkdir()
    without_meters = write_config(tmp_path / "again" / "c.toml", cameras, mosquitto.port)
    listener = mosquitto.listen("wildlane/v1/test/#")
    with simulated(3) as cluster:
        site = run_site(config, state, cluster.address)
        Zones(listener, names).wait(120)
        wait_until(lambda: '"online"' in listener.got("/status")[-1], seconds=60, what="the journal has a copy")
        situation = wait_for_situation(listener)
        word = json.dumps({"situation": situation, "by": "operator 4"})
        dismissed = request(mosquitto.port, "dismiss", word)
        keep_dismissed(cluster.address)
        wait_until(lambda: asked(port, "/readyz") == '{"ok": true, "problems": []}\n', seconds=60, what="it is ready")
        meters = asked(port, "/metrics")
        told = {name: len(listener.got(f"/state/{name}")) for name in names}
        left = []
        for node in cluster.others[:2]:  # all but the head, one after another, each of which is started again
            left.append(wildlane("leave-node", node.disk, "--cluster", cluster.address, "--config", config))
            node.kill()
            time.sleep(6)
            cluster.add(disk=node.disk)
            wait_until(lambda: '"online"' in listener.got("/status")[-1], seconds=60, what="a copy again")
        levels = [level for name in names for level in listener.got(f"/state/{name}")[told[name] :]]
        wrong = wildlane("leave-node", "elsewhere", "--cluster", cluster.address, "--config", config)
        twice = wildlane("run", "--cluster", cluster.address, "--config", without_meters, state=tmp_path / "twice")
        site.stop()
    listener.stop()

    assert dismissed["accepted"], dismissed
    assert ("north", 1280) in dismissed_places(state)
    for name in names:
        assert f'wildlane_camera_state{{camera="{name}",state="ok"}} 1.0' in meters
        assert f'wildlane_frames_analysed_total{{camera="{name}"}}' in meters
    for one in left:
        assert one.returncode == 0, one.stderr
        assert "nothing is there any more" in one.stderr
    assert levels
    assert not any('"level":"unknown"' in level for level in levels)
    assert (wrong.returncode, "there is no node 'elsewhere'" in wrong.stderr) == (2, True)
    assert (twice.returncode, "the site 'test' runs there already" in twice.stderr) == (2, True)
    got = alerts_of(listener)
    assert all(verdict.complete and not verdict.without_end for verdict in verify(got))


def test_a_model_that_is_missing_is_told_as_on_one_machine(
    cluster: SimulatedCluster, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.toml", {"north": str(DEMO_CLIP)}, mosquitto.port)
    config.write_text(f'models_dir = "nowhere"\n{config.read_text()}')

    done = wildlane("run", "--cluster", cluster.address, "--config", config, state=tmp_path)

    assert done.returncode == 3
    assert "nowhere/manifest.json: can't be read" in done.stderr
    assert "Traceback" not in done.stderr


def wait_for_situation(listener: Listener) -> str:
    """The first situation that begins from now on: an older one may be about to end."""
    known = {alert.data.situation.id for alert in alerts_of(listener)}

    def new() -> list[str]:
        return [one for alert in alerts_of(listener) if (one := alert.data.situation.id) not in known]

    wait_until(new, seconds=60, what="a situation")
    return new()[0]


def alerts_of(listener: Listener) -> list[Alert]:
    return [Alert.model_validate_json(payload) for payload in listener.got("/event/")]


def keep_dismissed(address: str) -> None:
    """Have a place kept, as a watcher does when a person dismisses what stands there."""
    ray.init(address, namespace="wildlane-test", log_to_driver=False, configure_logging=False)
    try:
        looks_like = np.full(1280, 0.1, np.float32)
        RemotePlaces((), ray.get_actor("coordinator")).keep_dismissed("north", (1.0, 2.0, 30.0, 40.0), looks_like)
    finally:
        ray.shutdown()


def dismissed_places(state: Path) -> list[tuple[object, ...]]:
    """What the site's own knowledge has of dismissed places, on the coordinator's disk."""
    with closing(sqlite3.connect(state / FILE)) as db:
        return db.execute("SELECT camera, length(looks_like) / 4 FROM dismissed").fetchall()


def asked(port: int, path: str) -> str:
    """What the driver says over HTTP."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_a_node_that_dies_with_its_disk_takes_no_alert_with_it(
    request: pytest.FixtureRequest,
    run_site: RunSite,
    mosquitto: Mosquitto,
    rtsp: Callable[[dict[str, dict[str, str]]], RtspServer],
    long_clip: Path,
    tmp_path: Path,
) -> None:
    kills = KILLS["full" if request.config.getoption("--drills-in-full") else "sample"]
    names = ("north", "south", "east", "west", "ring")  # more than cores: two a watcher, and one alone
    server = rtsp({f"/{name}": clip_stream(long_clip) for name in names})
    cameras = {name: server.url.replace("/camera", f"/{name}") for name in names}
    state, meeting = tmp_path / "state", '[cluster]\nclassifiers = "node"'
    config = write_config(tmp_path / "c.toml", cameras, mosquitto.port, meeting)
    listener, rng = mosquitto.listen("wildlane/v1/test/#"), random.Random(7)
    with simulated(4) as cluster:
        site = run_site(config, state, cluster.address)
        zones = Zones(listener, names)
        zones.wait(120)  # eight processes start and load their models, beside all other tests
        gaps = []
        for number in range(kills):
            wait_until(lambda: '"online"' in listener.got("/status")[-1], seconds=60, what="the journal has a copy")
            time.sleep(rng.uniform(0, 10))
            node = cluster.others.pop(rng.randrange(len(cluster.others)))
            disk = state / "journals" / node.disk
            zones.forget()
            node.kill()
            shutil.rmtree(disk, ignore_errors=True)
            gaps.append(zones.wait(60))
            print(f"kill {number + 1}: watched again after {gaps[-1]:.1f} s", flush=True)
            cluster.add()
        time.sleep(5)
        site.stop()
        wait_until(lambda: "offline" in listener.got("/status")[-1], seconds=20, what="goodbye")
    listener.stop(checked=False)
    got = alerts_of(listener)
    verdicts, printed = verify(got), [alert.id for alert in site.alerts()]

    print([verdict.answer() for verdict in verdicts], f"longest gap {max(gaps):.1f} s")
    assert len({alert.data.journal for alert in got}) == 1
    assert all(verdict.complete for verdict in verdicts)
    assert sorted(printed) == sorted({alert.id for alert in got})
    assert max(gaps) <= AGAIN_S


class Zones:
    """When somebody last said how things are in each zone, and knew: a level is told at least every ten seconds."""

    def __init__(self, listener: Listener, names: tuple[str, ...]) -> None:
        self._listener, self._names = listener, names
        self._before = dict.fromkeys(names, 0)

    def known(self, name: str) -> int:
        return sum('"level":"unknown"' not in payload for payload in self._listener.got(f"/state/{name}"))

    def forget(self) -> None:
        self._before = {name: self.known(name) for name in self._names}

    def wait(self, seconds: float) -> float:
        """Wait until all are known anew; return how long it took."""
        begun_s = time.monotonic()
        wait_until(
            lambda: all(self.known(name) > self._before[name] for name in self._names), seconds=seconds, what="levels"
        )
        return time.monotonic() - begun_s
