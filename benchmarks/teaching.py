"""From an operator's click to the class in force, while a camera is watched: python benchmarks/teaching.py [CLASSES]

Starts `wildlane run` with its console on the demonstration clip, over and over, and teaches so many classes one after
the other through the console's own requests, each by five boxes that the program suggested on its last pictures.
Prints the time from the request to the version in force and to its report card, how old the frames decided about were
before and meanwhile, and the memory after each ten classes.
"""

from __future__ import annotations

import re
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx2
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[1]
CLIP, CLIP_S = ROOT / "demo/crossing.mp4", 25
CLASSES, FRAMES = 30, 5
BEFORE_S = 15.0  # watched before anything is taught
A_LESSON_S = 5.0  # at most; the clip is made long enough for all
OLD_S = 1.0  # a frame is old
LIVE = re.compile(r"class set cs-\d+ is live")


class Program:
    """A running `wildlane run`, and when it said that a class set is live."""

    def __init__(self, folder: Path, clip: Path) -> None:
        self.console, self.metrics, self.state = _free_port(), _free_port(), folder / "state"
        config = folder / "config.toml"
        config.write_text(
            f"[broker]\nembedded = true\nport = 0\n[console]\nport = {self.console}\n[metrics]\nport = {self.metrics}\n"
            f'[cameras.road]\nsource = "{clip}"\n'
        )
        command = [sys.executable, "-m", "monitor", "run", "--config", str(config), "--state", str(self.state)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, stdout=subprocess.DEVNULL)  # noqa: S603
        self.live_at_s: list[float] = []
        self.sees = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if LIVE.search(line):
                self.live_at_s.append(time.monotonic())
            if "camera road: sees" in line:
                self.sees.set()

    def frames(self) -> tuple[int, int]:
        """Return how many frames were decided about, and how many of them were older than `OLD_S` then."""
        text = httpx2.get(f"http://127.0.0.1:{self.metrics}/metrics").text
        (ages,) = (f for f in text_string_to_metric_families(text) if f.name == "wildlane_frame_age_seconds")
        count = {s.labels.get("le"): int(s.value) for s in ages.samples if s.name.endswith("_bucket")}
        return count["+Inf"], count["+Inf"] - count[str(OLD_S)]

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1e3

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def operator(program: Program) -> Iterator[httpx2.Client]:
    """Somebody at the console, with the account that the first-run token makes."""
    token = (program.state / "console-token").read_text().strip()
    with httpx2.Client(base_url=f"http://127.0.0.1:{program.console}", follow_redirects=True, timeout=30) as client:
        page = client.post("/welcome", data={"name": "bench", "password": secrets.token_hex(), "token": token})
        client.headers["x-csrf-token"] = page.text.split('name="csrf" content="')[1].split('"')[0]
        yield client


def lesson(client: httpx2.Client, name: str) -> dict[str, object]:
    """Return what is asked to teach a class from the newest pictures on which the program suggests a box."""
    pictures = client.post("/api/hold/road").json()["pictures"]
    shown = [picture for picture in pictures if picture["boxes"]][-FRAMES:]
    labels = [{"camera": "road", "number": p["number"], "box": [round(v) for v in p["boxes"][0]["box"]]} for p in shown]
    return {"name": name, "size": "large", "origin": "wild", "labels": labels}


def teach(program: Program, client: httpx2.Client, name: str) -> tuple[float, float] | None:
    """Return the seconds to the version in force and to the report card; None where no box could be taught."""
    asked, lived = lesson(client, name), len(program.live_at_s)
    began_s = time.monotonic()
    answer = client.post("/api/teach", json=asked)
    told_s = time.monotonic() - began_s
    if answer.status_code != 200:
        print(f"{name}: refused: {answer.text}")
        return None
    while len(program.live_at_s) == lived:
        time.sleep(0.01)
    return program.live_at_s[lived] - began_s, told_s


def over_and_over(clip: Path, seconds: float, target: Path) -> None:
    source = cv2.VideoCapture(str(clip))
    size = int(source.get(cv2.CAP_PROP_FRAME_WIDTH)), int(source.get(cv2.CAP_PROP_FRAME_HEIGHT))
    rate = source.get(cv2.CAP_PROP_FPS)
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    for _ in range(round(seconds * rate)):
        there, frame = source.read()
        if not there:
            source.set(cv2.CAP_PROP_POS_FRAMES, 0)
            _, frame = source.read()
        writer.write(frame)
    writer.release()


def run(folder: Path, classes: int) -> None:
    clip = folder / "crossing.mp4"
    over_and_over(CLIP, CLIP_S + BEFORE_S + classes * A_LESSON_S, clip)
    program = Program(folder, clip)
    try:
        program.sees.wait(30)
        time.sleep(BEFORE_S)
        before = program.frames()
        print(f"before: {before[0]} frames decided about, {before[1]} older than {OLD_S:.0f} s")
        taken: list[tuple[float, float]] = []
        with operator(program) as client:
            for number in range(classes):
                if took := teach(program, client, f"animal {number}"):
                    taken.append(took)
                if number % 10 in (0, 9):
                    print(f"{number + 1} classes: {program.resident_mb():.0f} MB resident")
        after = program.frames()
    finally:
        program.close()
    print(f"meanwhile: {after[0] - before[0]} frames, {after[1] - before[1]} older than {OLD_S:.0f} s")
    for what, seconds in zip(("click to live", "click to report card"), zip(*taken, strict=True), strict=True):
        print(f"{what}, {FRAMES} frames: median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s "
              f"over {len(seconds)} classes")  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else CLASSES)


if __name__ == "__main__":
    main()
