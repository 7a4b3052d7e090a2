"""The service manager's side: the watchdog is fed while all loops go round; the unit is in place and tight."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitor.watchdog import Promise, Watchdog
from tests.conftest import DEMO_CLIP, ROOT, Mosquitto, Program, missing, wait_until, wildlane, write_config

UNIT = ROOT / "deploy/systemd/wildlane.service"
WORST_EXPOSURE = 2.0


class Manager:
    """The socket of a service manager, and what was said to it."""

    def __init__(self, folder: Path) -> None:
        self.environment = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "2000000"}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.environment["NOTIFY_SOCKET"])
        self._socket.settimeout(0)
        self._heard: list[str] = []

    def heard(self) -> list[str]:
        while True:
            try:
                self._heard += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self._heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


def test_a_running_site_tells_systemd_that_it_is_up_feeds_the_watchdog_and_says_that_it_stops(
    mosquitto: Mosquitto,
    run_program: Callable[[Path, Path], Program],
    manager: Manager,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in manager.environment.items():
        monkeypatch.setenv(name, value)
    config = write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port)
    program = run_program(config, tmp_path / "state")

    wait_until(lambda: manager.heard().count("WATCHDOG=1") > 2, seconds=30, what="the watchdog is fed")
    program.process.send_signal(signal.SIGTERM)
    program.alerts()

    assert manager.heard()[:2] == ["READY=1", "STATUS=watching road"]
    assert manager.heard()[-1] == "STOPPING=1"


def test_a_loop_that_stands_still_gets_no_food_but_a_restart(manager: Manager) -> None:
    clock = [100.0]
    promise = Promise(now=lambda: clock[0])
    watchdog = Watchdog({"publisher": promise}, manager.environment)
    watchdog.feed(clock[0])  # it has not begun yet: that is no fault
    promise.back_within(10)
    for clock[0] in (100.1, 105.0, 111.0, 120.0):
        watchdog.feed(clock[0])

    assert manager.heard() == ["WATCHDOG=1", "WATCHDOG=1", "STATUS=the publisher is 1 s late", "WATCHDOG=trigger"]
    assert watchdog.stuck() == "the publisher is 10 s late"


def test_without_a_service_manager_nothing_is_said() -> None:
    watchdog = Watchdog({}, {})
    watchdog.ready("watching road")
    watchdog.feed(1.0)


def test_the_unit_is_tight_and_says_why_where_it_is_not() -> None:
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    overall = float(re.search(r"Overall exposure level for wildlane.service: ([\d.]+)", judged)[1])
    relaxed = set(re.findall(r"^✗ (?:SystemCallFilter=~|RestrictAddressFamilies=~)?([\w@]+)", judged, re.MULTILINE))
    unexplained = {name for name in relaxed if name.rstrip("=") not in UNIT.read_text()}
    print(f"exposure {overall}, relaxed: {', '.join(sorted(relaxed))}")
    assert overall <= WORST_EXPOSURE
    assert unexplained <= {"@clock", "@privileged"}  # both are adjtimex, which is explained


def test_the_service_is_put_into_an_image_kept_at_an_update_and_taken_out_again(tmp_path: Path) -> None:
    if shutil.which("systemctl") is None:
        missing("systemctl")
    root, config = tmp_path / "image", tmp_path / "site.toml"
    config.write_text('site = "km41"\n[cameras.gate]\nsource = "0"\n')
    settings, unit = root / "etc/wildlane/config.toml", root / "etc/systemd/system/wildlane.service"

    without = wildlane("service", "install", "--root", root)
    installed = wildlane("service", "install", "--root", root, "--config", config)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (settings, settings.parent / "credentials")]
    settings.write_text(config.read_text().replace("km41", "km42"))
    again = wildlane("service", "install", "--root", root, "--config", config, "--json")
    enabled = (root / "etc/systemd/system/multi-user.target.wants/wildlane.service").is_symlink()
    gone = wildlane("service", "uninstall", "--root", root)

    assert without.returncode == 2
    assert "give the site's configuration with --config" in without.stderr
    assert installed.returncode == 0, installed.stderr
    assert modes == [0o600, 0o700]
    assert f"kept {settings}" in json.loads(again.stdout)["did"]
    assert enabled
    assert gone.returncode == 0, gone.stderr
    assert not unit.exists()
    assert "km42" in settings.read_text()
    assert wildlane("service", "uninstall", "--root", root).returncode == 5
