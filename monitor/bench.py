"""How fast the live path is, beside what no program can beat: a bare loop that only decodes the same clip.

Speeds are taken pairwise in one run, several rounds of them, and their medians told: machines are noisy, ratios less.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adapters.errors import InputError
from adapters.workers import Say
from monitor.alerts.schema import Alert
from monitor.alerts.session import Address
from monitor.alerts.subscriber import Subscriber
from monitor.cameras.bare import bare_fps
from monitor.config import CameraConfig, Config
from monitor.daemon import Daemon
from monitor.pipeline import Outcome, Pipeline
from monitor.replay import Replayed, recording, replay
from monitor.values import Frame

ROUNDS = 3
WARM_UP = 3  # analysed frames of a camera that are not counted
SAMPLE_EVERY_S = 0.5
SITE = "bench"


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """Of one clip, in frames of the clip a second."""

    read_fps: float
    grab_fps: float
    pipeline_fps: float
    ratio: float
    stage_ms: dict[str, float]  # an analysed frame
    crops_per_s: float


class Sample(NamedTuple):
    """How far a live run was at an instant."""

    clock_s: float
    frames: int  # analysed so far, of all cameras
    cpu_s: float  # of all that works on them so far, without what the measuring takes


@dataclass
class Live:
    """What a live run of some cameras showed.

    Attributes:
        cameras: how many.
        samples: two or more.
        latency_s: from the capture of each analysed frame to the decision about it.
        alert_latency_s: from the capture of the frame that confirmed an animal to a subscriber's receipt.
        decoder_mb: proportional set size of each camera's process, with its half of the shared frames.
        memory_mb: the same of all processes together.
    """

    cameras: int
    samples: list[Sample] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    alert_latency_s: list[float] = field(default_factory=list)
    decoder_mb: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all processes, for one analysed frame."""
        return (self.samples[-1].cpu_s - self.samples[0].cpu_s) / (self.samples[-1].frames - self.samples[0].frames)

    @property
    def analysed_per_s(self) -> float:
        """Frames of all cameras."""
        seconds = self.samples[-1].clock_s - self.samples[0].clock_s
        return (self.samples[-1].frames - self.samples[0].frames) / seconds

    def answer(self) -> dict[str, Any]:
        """Return it as the contract words it."""
        return {
            "cameras": self.cameras,
            "latency_ms": _percentiles_ms(self.latency_s),
            "alert_latency_ms": _percentiles_ms(self.alert_latency_s),
            "oldest_ms": round(1000 * max(self.latency_s), 1),
            "memory_mb_per_camera": round(statistics.median(self.decoder_mb), 1) if self.decoder_mb else None,
            "memory_mb": round(statistics.median(self.memory_mb), 1) if self.memory_mb else None,
            "cpu_s_per_analysed_frame": round(self.cpu_s, 4),
            "analysed_per_s": round(self.analysed_per_s, 2),
        }


def measure_speeds(clip: Path, build: Callable[[str], Pipeline], analysis_rate_hz: float, progress: Say) -> Speeds:
    """Measure a clip: bare reading, bare grabbing, and the live path with nothing skipped.

    Raises:
        InputError: the clip can't be read to its end.
    """
    rounds: list[tuple[float, float, float]] = []
    results: list[Replayed] = []
    for number in range(ROUNDS):
        progress(f"{clip.name}: round {number + 1} of {ROUNDS}")
        read_fps, grab_fps = bare_fps(clip, "read"), bare_fps(clip, "grab")
        results.append(replay(recording(clip, analysis_rate_hz), build))
        rounds.append((read_fps, grab_fps, results[-1].frames / results[-1].seconds))
    last = results[-1]
    return Speeds(
        read_fps=statistics.median(row[0] for row in rounds),
        grab_fps=statistics.median(row[1] for row in rounds),
        pipeline_fps=statistics.median(row[2] for row in rounds),
        ratio=statistics.median(row[2] / row[0] for row in rounds),
        stage_ms={name: 1000 * seconds / last.analysed for name, seconds in sorted(last.stage_s.items())},
        crops_per_s=statistics.median(result.crops / result.seconds for result in results),
    )


def measure_live(clip: Path, config: Config, cameras: int, progress: Say) -> Live:
    """Let the daemon watch a clip at its own speed as so many cameras, with its own broker and a real subscriber.

    Raises:
        InputError: the clip is too short for that.
    """
    progress(f"{clip.name}: live, {cameras} camera{'s' if cameras > 1 else ''}")
    live = Live(cameras)
    sampler = _Sampler(live)
    own = site_of(clip, config, cameras)

    def watch(frame: Frame, _: Outcome) -> None:
        live.latency_s.append(time.time() - frame.captured_s)
        sampler.frame()

    with tempfile.TemporaryDirectory(prefix="wildlane-bench-") as state:
        daemon = Daemon(own, clip, Path(state), watch=watch)
        address = Address(host="127.0.0.1", port=daemon.broker_port, client_id="wildlane-bench")
        subscriber = Subscriber(address, f"wildlane/v1/{SITE}", ["event/#"])
        arrivals = _Arrivals(subscriber)
        daemon.run()
        live.alert_latency_s = arrivals.latencies()
        subscriber.close()
    del live.latency_s[: WARM_UP * cameras]
    if not live.latency_s or len(live.samples) < 2:
        raise InputError(f"{clip}: too short to be measured live; two seconds are enough")
    return live


def site_of(clip: Path, config: Config, cameras: int) -> Config:
    """Return a site whose cameras all show a clip, at the rate of the first camera of a configuration."""
    camera = CameraConfig(source=str(clip.absolute()))
    for first in list(config.cameras.values())[:1]:
        camera = camera.model_copy(update={"analysis_rate_hz": first.analysis_rate_hz})
    return config.alone(SITE, {f"camera-{number}": camera for number in range(cameras)})


class _Arrivals:
    """Notes when each alert came, on a thread of its own."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber, self._late_s = subscriber, list[float]()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stopped.is_set():
            for message in self._subscriber.messages(idle_s=0.2):
                came_s = time.time()
                alert = Alert.model_validate_json(message.payload)
                if alert.data.situation.phase == "start":
                    captured: datetime = alert.data.provenance.captured
                    self._late_s.append(came_s - captured.timestamp())

    def latencies(self) -> list[float]:
        """Return the seconds from each capture to its alert's arrival."""
        self._stopped.set()
        self._thread.join()
        return self._late_s


class _Sampler:
    """Looks at processor time and memory of this process and its decoders, while they run."""

    def __init__(self, live: Live) -> None:
        self._live, self._frames, self._own_s = live, 0, 0.0

    def frame(self) -> None:
        """Note an analysed frame; now and then look at the processes."""
        self._frames += 1
        now_s, samples = time.monotonic(), self._live.samples
        if self._frames < WARM_UP * self._live.cameras or (samples and now_s - samples[-1].clock_s < SAMPLE_EVERY_S):
            return
        begun_s = time.thread_time()
        decoders = _decoders()
        used_s = cpu_s(os.getpid()) + sum(map(cpu_s, decoders)) - self._own_s
        samples.append(Sample(now_s, self._frames, used_s))
        sizes_mb = [mb for mb in map(_pss_mb, decoders) if mb]
        self._live.decoder_mb += sizes_mb
        self._live.memory_mb.append(_pss_mb(os.getpid()) + sum(sizes_mb))
        self._own_s += time.thread_time() - begun_s


def _decoders() -> list[int]:
    """Return the process ids of our decoders."""
    children = [
        int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()
    ]
    return [pid for pid in children if b"monitor.cameras.decoder" in read_proc(pid, "cmdline")]


def read_proc(pid: int, name: str) -> bytes:
    """Return a file of a process; nothing where the process has just ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has just ended
        return b""


def below(root: int) -> list[int]:
    """Return the processes that a process has started, and those that these have."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if stat := read_proc(int(folder.name), "stat"):
            parents[int(folder.name)] = int(stat.rpartition(b") ")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def cpu_s(pid: int) -> float:
    """Return the processor time of a process so far."""
    fields = read_proc(pid, "stat").rpartition(b") ")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if len(fields) > 12 else 0.0  # utime, stime


def _pss_mb(pid: int) -> float:
    lines = read_proc(pid, "smaps_rollup").decode().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def _percentiles_ms(values_s: Sequence[float]) -> dict[str, float] | None:
    if not values_s:
        return None
    return {f"p{q}": round(1000 * float(np.percentile(values_s, q)), 1) for q in (50, 95, 99)}


def answer(clip: Path, speeds: Speeds, lives: Sequence[Live], provider: str) -> dict[str, Any]:
    """Return what was measured of a clip as the contract words it; `growth` where there were several live runs."""
    rounded = {name: round(getattr(speeds, name), 1) for name in ("read_fps", "grab_fps", "pipeline_fps")}
    return {
        "clip": str(clip),
        **rounded,
        "ratio": round(speeds.ratio, 3),
        "stage_ms": {name: round(value, 3) for name, value in speeds.stage_ms.items()},
        "crops_per_s": round(speeds.crops_per_s, 1),
        **lives[0].answer(),
        "growth": [live.answer() for live in lives],
        "provider": provider,
    }


def plot(answers: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw, for each clip, where the time of an analysed frame goes, and how latency grows with the cameras."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.2 + 2.4 * len(answers)), layout="constrained")
    for (left, right), told in zip(figure.subplots(len(answers), 2, squeeze=False), answers, strict=True):
        stages = told["stage_ms"]
        left.barh(list(stages), list(stages.values()), color="tab:gray")
        left.set(title=f"{Path(told['clip']).name}: {told['ratio']:.2f} x bare read", xlabel="ms an analysed frame")
        cameras = [live["cameras"] for live in told["growth"]]
        for name in ("p50", "p95", "p99"):
            right.plot(cameras, [live["latency_ms"][name] for live in told["growth"]], "o-", label=name)
        right.set(title="capture to decision", xlabel="cameras", ylabel="ms", yscale="log")
        right.legend()
    figure.savefig(path, dpi=120)
