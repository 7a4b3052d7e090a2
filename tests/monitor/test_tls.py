"""Encrypted connections to a real Mosquitto; certificates of a test authority: good, wrong, old, revoked, missing."""

from __future__ import annotations

import json
import re
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from adapters.errors import ConfigError
from monitor.alerts.certificates import validities
from monitor.alerts.journal import Journal
from monitor.alerts.mqtt import Publisher
from monitor.alerts.receipts import Receipts
from monitor.alerts.schema import SiteHealth
from monitor.alerts.session import Address, Session, Site, check_reachable
from monitor.alerts.tls import Tls
from monitor.config import load_config
from tests.conftest import DEMO_CLIP, Mosquitto, Program, free_port, wait_until, wildlane, write_config
from tests.monitor.test_alerts import draft, one_life, status

AUTHORITY = """
[ca]
default_ca = own
[own]
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
certificate = ca.crt
private_key = ca.key
default_md = sha256
default_crl_days = 30
default_days = 30
policy = any
copy_extensions = copy
[any]
commonName = supplied
"""


class Authority:
    """A certificate authority in a folder, by the `openssl` command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "ca.cnf").write_text(AUTHORITY)
        (folder / "index.txt").write_text("")
        for name in ("serial", "crlnumber"):
            (folder / name).write_text("01\n")
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-subj",
                      "/CN=test authority", "-days", "30")  # fmt: skip

    def certify(self, name: str, host: str = "127.0.0.1", *dates: str) -> None:
        """Make NAME.crt and NAME.key for an address."""
        subject = f"subjectAltName={'IP' if host[0].isdigit() else 'DNS'}:{host}"
        new = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr"]
        self._openssl(*new, "-subj", f"/CN={name}", "-addext", subject)
        sign = ["ca", "-config", "ca.cnf", "-batch", "-notext", "-in", f"{name}.csr", "-out", f"{name}.crt"]
        self._openssl(*sign, *dates)

    def revoke(self, name: str) -> None:
        self._openssl("ca", "-config", "ca.cnf", "-revoke", f"{name}.crt")

    def publish_revocations(self) -> None:
        self._openssl("ca", "-config", "ca.cnf", "-gencrl", "-out", "ca.crl")

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    made.certify("good")
    made.certify("elsewhere", "broker.example")
    made.certify("old", "127.0.0.1", "-startdate", "20200101000000Z", "-enddate", "20210101000000Z")
    made.certify("revoked")
    made.certify("site")
    made.certify("old-site", "127.0.0.1", "-startdate", "20200101000000Z", "-enddate", "20210101000000Z")
    made.revoke("revoked")
    made.publish_revocations()
    for file in made.folder.iterdir():
        file.chmod(0o644)  # Mosquitto reads them as a user of its own
    for parent in (made.folder, *list(made.folder.parents)[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)
    return made


class TlsMosquitto(Mosquitto):
    """A broker with a certificate of the authority; it may ask for one too."""

    def __init__(self, folder: Path, authority: Authority, name: str, *, asks: bool = False) -> None:
        super().__init__(folder)
        self._settings.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\ncafile {authority.path('ca.crt')}\n"
            f"certfile {authority.path(name + '.crt')}\nkeyfile {authority.path(name + '.key')}\n"
            f"require_certificate {str(asks).lower()}\ncrlfile {authority.path('ca.crl')}\n"
        )


@pytest.fixture
def serve(tmp_path: Path, authority: Authority, mosquitto: Mosquitto) -> Iterator[object]:
    """Start a TLS broker; `mosquitto` is asked for so that a machine without one says so."""
    started: list[TlsMosquitto] = []

    def start(name: str, *, asks: bool = False) -> int:
        broker = TlsMosquitto(tmp_path, authority, name, asks=asks)
        broker.start()
        started.append(broker)
        return broker.port

    yield start
    for broker in started:
        broker.stop()


def address(port: int, authority: Authority, *, own: str | None = None, revocations: bool = True) -> Address:
    tls = Tls(
        ca_file=authority.path("ca.crt"),
        cert_file=authority.path(f"{own}.crt") if own else None,
        key_file=authority.path(f"{own}.key") if own else None,
        crl_file=authority.path("ca.crl") if revocations else None,
    )
    return Address(host="127.0.0.1", port=port, client_id="test", tls=tls)


def test_an_encrypted_broker_that_asks_for_our_certificate_gets_every_alert(
    serve: object, authority: Authority, tmp_path: Path
) -> None:
    port, journal = serve("good", asks=True), Journal(tmp_path / "state")
    sender = Publisher(
        address(port, authority, own="site"),
        journal,
        root="wildlane/v1/test",
        online=status("online", journal.id),
        offline=status("offline", journal.id),
    )
    journal.append([draft(situation) for situation in one_life()])
    sender.start()

    wait_until(lambda: journal.counts() == (0, 0), seconds=10, what="both alerts have their receipts")
    sender.stop(1)
    journal.close()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("elsewhere", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("old", "certificate has expired"),
        ("revoked", "certificate revoked"),
    ],
)
def test_a_broker_whose_certificate_is_no_good_is_refused_with_the_reason(
    serve: object, authority: Authority, name: str, why: str
) -> None:
    problem = check_reachable(address(serve(name), authority))

    assert problem is not None
    assert f"its certificate is refused: {why}" in problem


REFUSALS = [
    (None, "TLSv1_3", "the broker asks for a certificate of ours, see tls_cert_file: certificate required"),
    (None, "TLSv1_2", "the broker asks for a certificate of ours, see tls_cert_file: handshake failure"),
    ("old-site", "TLSv1_3", "the broker refuses our certificate: certificate expired"),
    ("old-site", "TLSv1_2", "the broker refuses our certificate: certificate expired"),
    ("revoked", "TLSv1_3", "the broker refuses our certificate: certificate revoked"),
    ("revoked", "TLSv1_2", "the broker refuses our certificate: certificate revoked"),
]


class Capped(Tls):
    """Speaks one version of TLS only."""

    def context(self) -> ssl.SSLContext:
        context = super().context()
        context.maximum_version = self.most
        return context


@pytest.mark.parametrize(("own", "version", "why"), REFUSALS)
def test_a_broker_that_does_not_take_our_certificate_is_quoted(
    serve: object, authority: Authority, tmp_path: Path, own: str | None, version: str, why: str
) -> None:
    plain = address(serve("good", asks=True), authority, own=own)
    capped = Capped(**vars(plain.tls))
    object.__setattr__(capped, "most", ssl.TLSVersion[version])
    there = replace(plain, tls=capped)

    assert why in (check_reachable(there) or "")
    journal = Journal(tmp_path / "state")
    for _ in range(10):  # whether the alert or the reset is seen first must not matter
        session = Session(there, Site(root="r", online="{}", offline="{}"), Receipts(journal), paho.MQTTv5)
        assert not session.connect()
        assert session.problem == f"no connection ({why})"
    journal.close()


def test_the_log_says_what_is_wrong_with_our_certificate(
    serve: object, authority: Authority, run_program: Callable[[Path, Path], Program], tmp_path: Path
) -> None:
    config = write_config(
        tmp_path / "c.toml",
        {"road": str(DEMO_CLIP)},
        serve("good", asks=True),
        f'required_at_start = false\ntls_ca_file = "{authority.path("ca.crt")}"',
    )

    program = run_program(config, tmp_path / "state")

    wait_until(lambda: "certificate required" in program.log(), seconds=30, what="the log says it")
    assert "Unspecified error" not in program.log()


def test_a_broker_of_another_authority_is_refused(serve: object, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    other.publish_revocations()

    problem = check_reachable(address(serve("good"), other))

    assert problem is not None
    assert "its certificate is refused" in problem


def test_a_plain_broker_is_not_talked_to_in_the_open_where_tls_is_asked_for(
    mosquitto: Mosquitto, authority: Authority
) -> None:
    assert check_reachable(address(mosquitto.port, authority)) is not None


@pytest.mark.parametrize("missing", ["ca_file", "cert_file", "crl_file"])
def test_a_file_that_is_no_certificate_is_named_as_such(authority: Authority, tmp_path: Path, missing: str) -> None:
    (tmp_path / "no.crt").write_text("no certificate")
    files = {"ca_file": authority.path("ca.crt"), "key_file": authority.path("site.key")}
    files |= {missing: str(tmp_path / "no.crt")}

    with pytest.raises(ConfigError, match="tls files can't be used"):
        Tls(**files).context()
    assert free_port()


def test_it_is_known_how_long_each_file_holds(authority: Authority) -> None:
    known = {validity.role: validity for validity in validities(address(1883, authority, own="site").tls)}

    now = datetime.now(UTC)
    assert set(known) == {"authority", "own", "revocations"}
    assert known["own"].warning(now) is None or known["own"].days_left(now) <= 30
    assert re.search(r"site\.crt: expires on .*, in 29 days", known["own"].warning(known["own"].not_after - days(29)))
    assert re.search(r"site\.crt: expired on ", known["own"].warning(known["own"].not_after + days(1)))
    assert known["own"].warning(known["own"].not_after - days(31)) is None
    assert validities(None) == []


def days(count: float) -> timedelta:
    return timedelta(days=count)


def test_a_site_warns_of_a_certificate_that_expires_and_health_tells_of_it(
    serve: object, authority: Authority, run_program: Callable[[Path, Path], Program], tmp_path: Path
) -> None:
    authority.certify("brief", "127.0.0.1", "-days", "9")
    config = write_config(
        tmp_path / "c.toml",
        {"road": str(DEMO_CLIP)},
        serve("good", asks=True),
        f'tls_ca_file = "{authority.path("ca.crt")}"\ntls_cert_file = "{authority.path("brief.crt")}"\n'
        f'tls_key_file = "{authority.path("brief.key")}"',
    )
    port = load_config(config).broker.port
    command = [
        "mosquitto_sub",
        "-V",
        "5",
        "-p",
        str(port),
        "-h",
        "127.0.0.1",
        "-C",
        "1",
        "-t",
        "wildlane/v1/test/health",
    ]
    command += ["--cafile", authority.path("ca.crt"), "--cert", authority.path("site.crt")]
    command += ["--key", authority.path("site.key")]
    heard = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    program = run_program(config, tmp_path / "state")

    health = SiteHealth.model_validate_json(heard.communicate(timeout=30)[0])
    left = {part.role: part.days_left for part in health.certificates}
    assert left["own"] == pytest.approx(9, abs=0.1)
    wait_until(lambda: "brief.crt: expires on" in program.log(), seconds=10, what="the log warns")


def fetch(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            return page.read().decode()
    except urllib.error.HTTPError as error:  # a probe that is not content says so with its status
        with error:
            return error.read().decode()


def test_a_secret_is_never_told(mosquitto: Mosquitto, run_program: Callable[..., Program], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("canary-password")
    camera = f"rtsp://user:canary-camera@127.0.0.1:{free_port()}/x?token=canary-token"
    config = write_config(
        tmp_path / "c.toml",
        {"gate": camera, "road": str(DEMO_CLIP)},
        mosquitto.port,
        f'username = "site"\npassword_file = "{tmp_path / "password"}"\n[metrics]\nport = {(metrics := free_port())}',
    )
    listener = mosquitto.listen()
    program = run_program(config, tmp_path / "state")
    wait_until(lambda: "next attempt in" in program.log(), seconds=30, what="the failed attempt is logged")
    wait_until(lambda: listener.got("/event/"), seconds=30, what="an alert")
    pages = [fetch(f"http://127.0.0.1:{metrics}/{page}") for page in ("metrics", "readyz", "livez")]
    assert 'wildlane_streams_ended_total{camera="gate"' in pages[0]
    others = [wildlane(verb, "--config", config) for verb in ("check-config", "doctor")]
    program.process.send_signal(signal.SIGTERM)
    printed = program.alerts()

    told = [printed, program.log(), *pages, *listener.got("wildlane/v1/test/"), *(o.stdout + o.stderr for o in others)]
    told += [path.read_bytes().decode(errors="replace") for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert len(told) > 10
    assert not [text for text in told if "canary" in text]
    listener.stop()


@pytest.mark.parametrize(("name", "is_good"), [("good", True), ("old", False)])
def test_the_doctor_reaches_an_encrypted_broker_as_the_program_will(
    serve: object, authority: Authority, tmp_path: Path, name: str, *, is_good: bool
) -> None:
    keys = {"tls_ca_file": "ca.crt", "tls_cert_file": "site.crt", "tls_key_file": "site.key"}
    lines = "\n".join(f'{key} = "{authority.path(file)}"' for key, file in keys.items())
    config = write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, serve(name, asks=True), lines)

    ended = wildlane("doctor", "--config", config, "--json", state=tmp_path / "state")

    (broker,) = [finding for finding in json.loads(ended.stdout) if finding["what"] == "broker"]
    assert broker["ok"] is is_good, broker
    assert is_good or "certificate has expired" in broker["detail"]
