"""A model and classes reach two sites by the verbs, over the shipped broker and web server with their certificates.

Each site is a real program with a supervisor that starts it again, as systemd does; it watches a real RTSP stream.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.classifier import Classifier
from tests.conftest import ROOT, Program, RtspServer, answers, free_port, missing, wait_until, wildlane
from tests.monitor.centre import altered_model, class_file, key
from tests.monitor.test_permissions import Guarded, open_to_all
from tests.monitor.test_tls import Authority

SITES = ("km41", "km42")
PROVEN_S = {"sample": 2, "full": 60}


class Site:
    """A program that is started again whenever it ends."""

    def __init__(self, config: Path, state: Path) -> None:
        self.statuses: list[int] = []
        self._config, self._state, self._stop = config, state, False
        self.program = Program(config, state)
        self._thread = threading.Thread(target=self._supervise)
        self._thread.start()

    def _supervise(self) -> None:
        while True:
            self.program.process.communicate()
            self.program.kill()
            if self._stop:
                return
            self.statuses.append(self.program.process.returncode)
            self.program = Program(self._config, self._state)

    def stop(self) -> None:
        self._stop = True
        self.program.process.terminate()
        self._thread.join(30)


@pytest.fixture
def operator(tmp_path: Path) -> Authority:
    folder = tmp_path / "certs"
    folder.mkdir()
    made = Authority(folder)
    for name in ("broker", "releases", "fleet", *SITES):
        made.certify(name)
    made.publish_revocations()
    open_to_all(folder)
    return made


@pytest.fixture
def broker(tmp_path: Path, operator: Authority) -> Iterator[Guarded]:
    made = Guarded(tmp_path, operator)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def web(tmp_path: Path, operator: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Caddy with the shipped settings, for the folder `releases`."""
    binary = shutil.which("caddy") or missing("caddy")
    port, settings = free_port(), {"FOLDER": tmp_path / "releases", "SCREEN_PORT": free_port()}
    settings |= {"PORT": port, "CERT": operator.path("releases.crt"), "KEY": operator.path("releases.key")}
    settings |= {"XDG_CONFIG_HOME": tmp_path, "XDG_DATA_HOME": tmp_path}
    command = [binary, "run", "--adapter", "caddyfile", "--config", str(ROOT / "deploy/caddy/Caddyfile")]
    with (tmp_path / "caddy.log").open("w") as log:
        environment = os.environ | {name: str(value) for name, value in settings.items()}
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    wait_until(lambda: answers(port), seconds=20, what="caddy answers")
    monkeypatch.setenv("SSL_CERT_FILE", operator.path("ca.crt"))
    yield f"https://127.0.0.1:{port}"
    server.terminate()
    server.wait()


def configured(tmp_path: Path, name: str, broker: Guarded, operator: Authority, rest: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    files = {"ca": "ca.crt", "crl": "ca.crl", "cert": f"{name}.crt", "key": f"{name}.key"}
    tls = "\n".join(f'tls_{part}_file = "{operator.path(file)}"' for part, file in files.items())
    (folder / "config.toml").write_text(f'site = "{name}"\n[broker]\nport = {broker.port}\n{tls}\n{rest}')
    return folder / "config.toml"


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_a_model_and_classes_are_rolled_out_over_the_shipped_broker(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    broker: Guarded,
    operator: Authority,
    web: str,
    rtsp_server: RtspServer,
    classifier: Classifier,
    demo_animals: dict[str, NDArray[np.uint8]],
) -> None:
    proven_s = PROVEN_S["full" if request.config.getoption("--drills-in-full") else "sample"]
    releases, signed = tmp_path / "releases", ("--key", key(tmp_path, "releases"))
    wildlane("fleet", "create", releases, "--root-key", key(tmp_path, "root"), *signed)
    wildlane("fleet", "add", releases, "m2", altered_model(tmp_path / "m2", "m2"), *signed)
    wildlane(
        "fleet", "add", releases, "c2", class_file(tmp_path, "caribou", demo_animals["caribou"], classifier), *signed
    )
    follow = f'[fleet]\nurl = "{web}"\nroot_file = "{releases}/metadata/1.root.json"\nproven_s = {proven_s}\n'
    camera = f'[cameras.road]\nsource = "{rtsp_server.url}"\n'
    configs = {name: configured(tmp_path, name, broker, operator, follow + camera) for name in SITES}
    sites = {name: Site(config, config.parent / "state") for name, config in configs.items()}
    try:
        for site in sites.values():
            wait_until(lambda site=site: "watching road" in site.program.log(), seconds=60, what="it watches")
        centre = configured(tmp_path, "fleet", broker, operator, "")
        to_all = ("--first", "km41", "--rest", "km42", "--watch-s", "1", "--config", centre, *signed)
        model = wildlane("fleet", "roll-out", releases, "m2", *to_all, timeout_s=600)
        rolled = wildlane("fleet", "roll-out", releases, "c2", *to_all, timeout_s=600)
        tail = wildlane("alerts", "tail", "--config", configs["km41"])
    finally:
        for site in sites.values():
            site.stop()

    shown = json.loads(wildlane("fleet", "show", releases, "--json", *signed).stdout)
    print(model.stdout, rolled.stdout, shown)
    assert model.returncode == rolled.returncode == 0, model.stdout + model.stderr + rolled.stdout + rolled.stderr
    assert shown["sites"] == {"classes": dict.fromkeys(SITES, "c2"), "model": dict.fromkeys(SITES, "m2")}
    for name, site in sites.items():
        assert site.statuses == [0]  # started again once, by itself, for the model
        assert (tmp_path / name / "state/fleet/models/m2/manifest.json").exists()
    assert (tail.returncode, "is the site's own certificate" in tail.stderr) == (2, True)
    assert "already connected, closing old connection" not in broker.log()  # nobody took a site's place
