"""What a real Mosquitto with the shipped settings lets each certificate do, and what it does not."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import DEMO_CLIP, ROOT, Mosquitto, Program, wait_until
from tests.monitor.test_tls import Authority

SHIPPED = ROOT / "deploy/mosquitto"
NAMES = ("broker", "km41", "km42", "tmc", "signs", "#", "gone")
SAYS_SO_S = 1.0  # what is refused does not come a moment later either


def open_to_all(folder: Path) -> None:
    """Let Mosquitto, which is a user of its own, read the files of a test."""
    for file in folder.iterdir():
        file.chmod(0o644)
    for parent in (folder, *list(folder.parents)[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("operator"))
    for name in NAMES:
        made.certify(name)
    made.revoke("gone")
    made.publish_revocations()
    open_to_all(made.folder)
    return made


class Guarded(Mosquitto):
    """The shipped settings, with the paths and the port of a test."""

    def __init__(self, folder: Path, operator: Authority) -> None:
        super().__init__(folder)
        text = (SHIPPED / "mosquitto.conf").read_text()
        places = {
            "/mosquitto/certs": str(operator.folder),
            "/mosquitto/config": str(SHIPPED),
            "/mosquitto/data": str(folder),
        }
        for shipped, here in places.items():
            text = text.replace(shipped, here)
        self._settings.write_text(text.replace("listener 8883", f"listener {self.port} 127.0.0.1") + "user root\n")


class Client:
    """A program with a certificate, by Mosquitto's own commands."""

    def __init__(self, port: int, operator: Authority, name: str | None) -> None:
        self._reach = ["-V", "5", "-h", "127.0.0.1", "-p", str(port), "--cafile", operator.path("ca.crt"), "-q", "1"]
        if name is not None:
            self._reach += ["--cert", operator.path(f"{name}.crt"), "--key", operator.path(f"{name}.key")]

    def says(self, topic: str, payload: str = "{}", *options: str) -> int:
        command = ["mosquitto_pub", *self._reach, "-t", topic, "-m", payload, *options]
        return subprocess.run(command, capture_output=True, check=False, timeout=20).returncode

    def listens(self, file: Path, *topics: str) -> subprocess.Popen[bytes]:
        wanted = [word for topic in topics for word in ("-t", topic)]
        with file.open("wb") as out:
            return subprocess.Popen(["mosquitto_sub", *self._reach, *wanted, "-F", "%t"], stdout=out, stderr=out)

    def asks(self, topic: str, answer_to: str) -> dict[str, object]:
        command = ["mosquitto_rr", *self._reach, "-t", topic, "-m", "{}", "-e", answer_to, "-W", "10"]
        return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=20).stdout)


@pytest.fixture
def client(mosquitto: Mosquitto, operator: Authority, tmp_path: Path) -> Iterator[Callable[[str | None], Client]]:
    """Make clients of the guarded broker; `mosquitto` is asked for so that a machine without one says so."""
    broker = Guarded(tmp_path, operator)
    broker.start()
    yield lambda name: Client(broker.port, operator, name)
    broker.stop()


def test_without_a_certificate_that_holds_nobody_is_let_in(
    client: Callable[[str | None], Client], operator: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    stranger.certify("tmc")
    known_by_name = client("tmc")
    files = ("--cert", stranger.path("tmc.crt"), "--key", stranger.path("tmc.key"))

    assert client("tmc").says("wildlane/v1/km41/cmd/ping") == 0
    assert client(None).says("wildlane/v1/km41/cmd/ping") != 0
    assert client("gone").says("wildlane/v1/gone/status") != 0
    assert known_by_name.says("wildlane/v1/km41/cmd/ping", "{}", *files) != 0


def test_a_site_speaks_for_itself_alone_and_a_sign_hears_levels_alone(
    client: Callable[[str | None], Client], tmp_path: Path
) -> None:
    files = {name: tmp_path / f"{name}.txt" for name in ("tmc", "signs", "km42", "hash")}
    own = [
        f"wildlane/v1/km41/{below}"
        for below in ("event/road", "state/road", "status", "health", "info", "release", "reply/me")
    ]
    forged = [(forger, topic) for forger in ("km42", "signs", "#") for topic in [*own, "wildlane/v1/km41/cmd/dismiss"]]
    forged += [("tmc", own[0]), ("km41", "wildlane/v1/km41/cmd/ping")]  # nor do site and centre speak for each other
    for forger, topic in forged:
        client(forger).says(topic, "{}", "--retain")  # were it taken, it would be heard by whoever comes
    client("tmc").says("wildlane/v1/km42/cmd/ping", "{}", "--retain")
    listening = [
        client("tmc").listens(files["tmc"], "wildlane/v1/#"),
        client("signs").listens(files["signs"], "#", "wildlane/v1/+/event/+"),
        client("km42").listens(files["km42"], "#", "wildlane/v1/km41/#", "$SYS/#"),
        client("#").listens(files["hash"], "#", "wildlane/v1/+/cmd/+"),
    ]
    wait_until(lambda: "km42/cmd" in files["tmc"].read_text(), seconds=10, what="the centre listens")
    time.sleep(SAYS_SO_S)
    for topic in own:
        client("km41").says(topic)
    wait_until(lambda: own[-1] in files["tmc"].read_text(), seconds=10, what="the centre hears all")
    time.sleep(SAYS_SO_S)
    for process in listening:
        process.kill()
        process.wait()

    heard = {name: file.read_text().splitlines() for name, file in files.items()}
    assert heard["tmc"] == ["wildlane/v1/km42/cmd/ping", *own]
    assert heard["signs"] == ["wildlane/v1/km41/state/road", "wildlane/v1/km41/status"]
    assert heard["km42"] == ["wildlane/v1/km42/cmd/ping"]
    assert heard["hash"] == []


def test_a_site_works_under_the_shipped_rules_and_answers_the_centre(
    client: Callable[[str | None], Client],
    operator: Authority,
    run_program: Callable[[Path, Path], Program],
    tmp_path: Path,
) -> None:
    centre, heard = client("tmc"), tmp_path / "heard.txt"
    listening = centre.listens(heard, "wildlane/v1/km41/#")
    port = centre._reach[centre._reach.index("-p") + 1]
    config = tmp_path / "c.toml"
    config.write_text(
        f'site = "km41"\n[broker]\nport = {port}\ntls_ca_file = "{operator.path("ca.crt")}"\n'
        f'tls_cert_file = "{operator.path("km41.crt")}"\ntls_key_file = "{operator.path("km41.key")}"\n'
        f'[cameras.road]\nsource = "{DEMO_CLIP}"\n'
    )
    program = run_program(config, tmp_path / "state")
    topics = {f"wildlane/v1/km41/{below}" for below in ("event/road", "state/road", "status", "health", "info")}
    wait_until(lambda: topics <= set(heard.read_text().splitlines()), seconds=30, what="all that a site says is heard")
    listening.kill()
    listening.wait()

    for client_id in ("km41", "wildlane-km41"):  # a place that another site would take
        client("km42").says("wildlane/v1/km42/status", "{}", "--id", client_id)
    assert centre.asks("wildlane/v1/km41/cmd/ping", "wildlane/v1/km41/reply/tmc")["accepted"]
    assert program.log().count(": connected") == 1
