"""The whole way of a technician on a fresh Debian under real systemd, and what its watchdog does for a year alone."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import pytest

from tests.conftest import Mosquitto, RtspServer, missing, wait_until
from tests.faults.machine import Machine
from tests.faults.test_conservation import Consumer, judge

KILLS = 20
WATCHDOG_S, PROMISE_S = 30.0, 10.0
DECODER_S = 8.0  # that it may be silent


@pytest.fixture
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Machine]:
    if not request.config.getoption("--drills-in-full"):
        pytest.skip("a machine of its own is installed in `make drills` only")
    if os.geteuid() != 0:
        pytest.skip("only root may boot a machine")
    for tool in ("debootstrap", "systemd-nspawn"):
        if shutil.which(tool) is None:
            missing(tool)
    made = Machine(tmp_path)
    yield made
    made.close()


def is_watching(machine: Machine, pid: str) -> bool:
    return machine.unit("ActiveState") == "active" and machine.unit("MainPID") not in (pid, "0")


def after(machine: Machine, what: str, *, gone_within_s: float) -> None:
    """Wait until the process that was hurt is gone and another one watches; both are timed."""
    pid, begun_s = machine.unit("MainPID"), time.monotonic()
    wait_until(lambda: machine.unit("MainPID") != pid, seconds=gone_within_s, what=f"{what}: it is taken away")
    gone_s = time.monotonic() - begun_s
    wait_until(lambda: is_watching(machine, pid), seconds=60, what=f"{what}: another one watches")
    print(f"{what}: taken away after {gone_s:.1f} s, watching again after {time.monotonic() - begun_s:.1f} s")


def starts(consumer: Consumer) -> int:
    return sum(event.data.situation.phase == "start" for event in consumer.events())


@pytest.mark.drill
@pytest.mark.timeout(3000)
def test_a_fresh_machine_under_systemd_heals_from_stopped_loops_and_kills_and_loses_nothing(
    machine: Machine, mosquitto: Mosquitto, rtsp_server: RtspServer, tmp_path: Path
) -> None:
    machine.install()
    (machine.root / "root/site.toml").write_text(
        f'site = "test"\n[broker]\nport = {mosquitto.port}\nrequired_at_start = false\n'
        f'[cameras.gate]\nsource = "{rtsp_server.url}"\n'
    )
    machine.boot()
    installed = machine.tell("/opt/wildlane/bin/wildlane", "service", "install", "--config", "/root/site.toml")
    print(installed.replace("\n", "; "))
    assert "enabled and started" in installed
    told = machine.tell("/opt/wildlane/bin/wildlane", "service", "status")
    assert told == "active (running), result success, 0 restarts; watching gate"
    print(machine.tell("systemd-analyze", "security", "--no-pager", "wildlane.service").splitlines()[-1].strip())
    consumer = Consumer(tmp_path, mosquitto.port)
    wait_until(lambda: starts(consumer) > 0, seconds=60, what="the first alert")

    machine.signal("STOP")
    after(machine, "main loop stopped", gone_within_s=WATCHDOG_S + 2)
    assert "Fatal Python error: Aborted" in machine.log()  # and where each thread was
    wait_until(lambda: "camera gate: sees" in machine.log().rpartition("watching gate")[2], seconds=30, what="it sees")
    stopper = machine.stop_thread("publisher")
    after(machine, "publisher stopped", gone_within_s=PROMISE_S + WATCHDOG_S / 4 + 2)
    stopper.communicate(timeout=20)
    stop_the_decoder(machine)
    killed_again_and_again(machine, consumer)

    machine.tell("systemctl", "stop", "wildlane")
    assert machine.unit("Result") == "success"
    judge(f"killed {KILLS} times", SimpleNamespace(state=machine.root / "var/lib/private/wildlane"), consumer)
    consumer.stop()


def stop_the_decoder(machine: Machine) -> None:
    """A decoder is the daemon's own to heal: the service goes on."""
    pid, restarts = machine.unit("MainPID"), machine.unit("NRestarts")
    wait_until(lambda: machine.processes("monitor.cameras.decoder"), seconds=30, what="a decoder")
    stopped, begun_s = machine.processes("monitor.cameras.decoder"), time.monotonic()
    machine.tell("kill", "-STOP", *stopped)
    wait_until(lambda: machine.processes("monitor.cameras.decoder") - stopped, seconds=DECODER_S + 6, what="another")
    print(f"decoder stopped: another one after {time.monotonic() - begun_s:.1f} s, the service went on")
    assert (machine.unit("MainPID"), machine.unit("NRestarts")) == (pid, restarts)


def killed_again_and_again(machine: Machine, consumer: Consumer) -> None:
    back_s = []
    for number in range(KILLS):
        before, pid, killed_s = starts(consumer), machine.unit("MainPID"), time.monotonic()
        machine.signal("KILL")
        wait_until(lambda pid=pid: is_watching(machine, pid), seconds=60, what=f"back after kill {number + 1}")
        back_s.append(time.monotonic() - killed_s)
        wait_until(lambda before=before: starts(consumer) > before, seconds=60, what="it alerts again")
    print(f"killed {KILLS} times: watching again after {median(back_s):.1f} s (median; {max(back_s):.1f} at most)")
