"""What the tests share: real servers, the classifier, small pictures and clips made on the spot."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.class_set import ClassSetStore
from adapters.classes import ClassSet
from adapters.classifier import Classifier
from adapters.runtime import MODELS
from monitor.alerts.contracts import TOPICS
from monitor.alerts.schema import Model

ROOT = Path(__file__).parents[1]
DEMO_CLIP, DEMO_TRUTH = ROOT / "demo/crossing.mp4", ROOT / "demo/crossing.json"
WILDLANE = [sys.executable, "-m", "monitor"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--drills-in-full", action="store_true", help="run each drill with its full count")


def missing(what: str) -> None:
    """Skip at home, fail in CI: there, what a test needs is a step that was forgotten."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing; `make test` installs it")
    pytest.skip(f"{what} is missing; `make test` installs it")


@pytest.fixture(scope="session")
def data() -> Path:
    folder = os.environ.get("WILDLANE_DATA")
    if not folder:
        pytest.skip("WILDLANE_DATA is not set: checks on pictures and clips outside the repository are left out")
    return Path(folder)


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return Classifier(device="cpu")


@pytest.fixture
def store(tmp_path: Path, classifier: Classifier) -> Iterator[ClassSetStore]:
    opened = ClassSetStore(tmp_path / "state")
    opened.seed(MODELS, classifier.encoder_hash)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def starter(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> ClassSet:
    opened = ClassSetStore(tmp_path_factory.mktemp("starter"))
    opened.seed(MODELS, classifier.encoder_hash)
    loaded = opened.load(classifier)
    opened.close()
    return loaded


@pytest.fixture(scope="session")
def demo_animals() -> dict[str, NDArray[np.uint8]]:
    """A crop of each animal of the demonstration clip: real pixels that are at hand in every checkout."""
    import json

    capture = cv2.VideoCapture(str(DEMO_CLIP), cv2.CAP_FFMPEG)
    wanted = {}
    for event in json.loads(DEMO_TRUTH.read_text())["events"]:
        frame, x, y, w, h = event["boxes"][len(event["boxes"]) // 2]
        wanted[frame] = (event["class"], x, y, w, h)
    crops = {}
    index = 0
    while capture.grab():
        if index in wanted:
            _, image = capture.retrieve()
            name, x, y, w, h = wanted[index]
            side = int(max(w, h) * 1.3)
            top, left = max(0, y + h // 2 - side // 2), max(0, x + w // 2 - side // 2)
            crops[name] = image[top : top + side, left : left + side].copy()
        index += 1
    capture.release()
    return crops


@pytest.fixture
def demo_stills(demo_animals: dict[str, NDArray[np.uint8]], tmp_path: Path) -> list[Path]:
    """The caribou of the demonstration clip in four views, as files."""
    crop = demo_animals["caribou"]
    paths = []
    for number, view in enumerate(
        [crop, crop[:, ::-1], crop[6:-6, 6:-6], np.repeat(crop.mean(axis=2, keepdims=True), 3, axis=2)]
    ):
        paths.append(tmp_path / f"still-{number}.png")
        cv2.imwrite(str(paths[-1]), view.astype(np.uint8))
    return paths


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of a grey picture with a square that moves, as MP4."""
    path = tmp_path_factory.mktemp("clips") / "square.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (160, 120))
    rng = np.random.default_rng(1)
    ground = rng.integers(90, 110, (120, 160, 3), dtype=np.uint8)
    for index in range(60):
        frame = ground.copy()
        frame[50:70, index : index + 20] = 220
        writer.write(frame)
    writer.release()
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], *, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s still not: {what}")
        time.sleep(0.05)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Mosquitto:
    """A real broker that can be stopped and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder, self._process = folder, None
        self._settings, self._log = folder / "mosquitto.conf", folder / "mosquitto.log"
        self._settings.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")

    def start(self) -> None:
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([binary, "-v", "-c", self._settings], stdout=log, stderr=log)
        wait_until(lambda: answers(self.port), seconds=10, what="mosquitto answers")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def listen(self, topic: str = "#") -> Listener:
        return Listener(self.port, topic)


def model_of(topic: str) -> type[Model]:
    """The contract's model of a topic `wildlane/v1/{site}/...`."""
    below = topic.split("/")[3:]
    for known in TOPICS.values():
        parts = known.address.split("/")
        if len(parts) == len(below) and all(a == b or a.startswith("{") for a, b in zip(parts, below, strict=True)):
            return known.model
    raise AssertionError(f"{topic}: not in the contract")


class Listener:
    """`mosquitto_sub`: what an outside program receives."""

    def __init__(self, port: int, topic: str) -> None:
        command = ["stdbuf", "-oL", "mosquitto_sub", "-V", "5", "-p", str(port), "-t", topic, "-q", "1", "-d"]
        command += ["-F", "> %t %p"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )
        self._lines: list[tuple[str, str]] = []
        self._subscribed = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._subscribed.wait(10), "mosquitto_sub is not subscribed"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            mark, _, message = line.rstrip("\n").partition(" ")
            if mark == ">":
                topic, _, payload = message.partition(" ")
                self._lines.append((topic, payload))
            elif mark == "Subscribed":
                self._subscribed.set()

    def got(self, part: str) -> list[str]:
        """Payloads of the topics that hold `part`."""
        return [payload for topic, payload in list(self._lines) if part in topic]

    def stop(self, *, checked: bool = True) -> None:
        """Stop listening, and hold every message that came against the contract."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        for topic, payload in self._lines if checked else []:
            if topic.startswith("wildlane/v1/"):
                model_of(topic).model_validate_json(payload)


def request(port: int, command: str, payload: str) -> dict[str, object]:
    """Ask as an outside program would, with MQTT 5's response topic."""
    asked = subprocess.run(
        ["mosquitto_rr", "-V", "5", "-p", str(port), "-t", f"wildlane/v1/test/cmd/{command}", "-m", payload,
         "-e", "wildlane/v1/test/reply/me", "-q", "1", "-W", "10"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(asked.stdout)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    if not (shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists()) or not shutil.which("mosquitto_sub"):
        missing("mosquitto")
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


def clip_stream(clip: Path) -> dict[str, str]:
    return {"launch": f"filesrc location={clip} ! qtdemux ! h264parse config-interval=1 ! rtph264pay name=pay0 pt=96"}


class RtspServer:
    """GStreamer's RTSP server, with a pipeline at each path."""

    def __init__(self, streams: dict[str, dict[str, str]]) -> None:
        self.port, self.streams, self._process = free_port(), streams, None
        self.url = f"rtsp://127.0.0.1:{self.port}/camera"

    def start(self) -> None:
        command = ["/usr/bin/python3", str(ROOT / "tests/rtsp_server.py"), str(self.port), json.dumps(self.streams)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
        )
        wait_until(lambda: answers(self.port), seconds=15, what="the RTSP server answers")

    def set(self, path: str, element: str, name: str, value: str) -> None:
        """Change a running pipeline."""
        print(path, element, name, value, file=self._process.stdin, flush=True)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()


@pytest.fixture
def rtsp() -> Iterator[Callable[[dict[str, dict[str, str]]], RtspServer]]:
    """What starts RTSP servers."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if subprocess.run(["/usr/bin/python3", "-c", probe], capture_output=True, check=False).returncode != 0:
        missing("GStreamer's RTSP server")
    running: list[RtspServer] = []

    def start(streams: dict[str, dict[str, str]]) -> RtspServer:
        running.append(RtspServer(streams))
        running[-1].start()
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def rtsp_server(rtsp: Callable[[dict[str, dict[str, str]]], RtspServer]) -> RtspServer:
    return rtsp({"/camera": clip_stream(DEMO_CLIP)})


class Program:
    """A running `wildlane run`, as a user starts it."""

    def __init__(self, config: Path, state: Path) -> None:
        self.started_s = time.monotonic()
        self._log = (config.parent / "log.txt").open("w+")
        self.process = subprocess.Popen(
            [*WILDLANE, "run", "--config", str(config), "--state", str(state)],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
        )

    def log(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text()

    def alerts(self) -> str:
        """What it printed until it stopped."""
        printed, _ = self.process.communicate(timeout=30)
        return printed

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()


@pytest.fixture
def run_program() -> Iterator[Callable[[Path, Path], Program]]:
    running: list[Program] = []

    def start(config: Path, state: Path) -> Program:
        running.append(Program(config, state))
        return running[-1]

    yield start
    for program in running:
        program.kill()


def write_config(path: Path, cameras: dict[str, str], port: int, extra: str = "") -> Path:
    """A configuration with cameras by name and source, and a broker on the port."""
    tables = "".join(f'[cameras.{name}]\nsource = "{source}"\n' for name, source in cameras.items())
    path.write_text(f'site = "test"\n[broker]\nport = {port}\n{extra}\n{tables}')
    return path


def wildlane(
    *arguments: str | Path, state: Path | None = None, cwd: Path = ROOT, timeout_s: float = 150
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    with_state = ["--state", str(state)] if state else []
    return subprocess.run(
        [*WILDLANE, *map(str, arguments), *with_state],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        cwd=cwd,
    )
