"""What a frame costs on a cluster of simulated nodes beside the single process, for the same clip: `bench --nodes`."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from adapters.errors import InputError
from monitor.alerts.broker import EmbeddedBroker
from monitor.bench import SITE, cpu_s, measure_live, read_proc
from monitor.cluster.coordinator import News
from monitor.cluster.nodes import DISK
from monitor.cluster.run import run_cluster
from monitor.config import BrokerConfig, CameraConfig, Config

OURS = (
    b"ray::WatchActor",
    b"ray::ClassifierActor",
    b"ray::JournalActor",
    b"ray::Coordinator",
    b"monitor.cameras.decoder",
)
RAYS = (b"raylet", b"gcs_server", b"ray/_private", b"ray/dashboard", b"ray::IDLE")
WARM_UP_S = 3.0  # after every camera is watched
STORE_BYTES = 100_000_000
SAMPLE_EVERY_S = 2.0
SETTLE_S = 2.0  # left off at the end: who has ended takes its processor time along


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one frame cost.

    Attributes:
        cameras, nodes: of the cluster.
        alone_ms, cluster_ms: processor time for one analysed frame, of all that works on frames and alerts.
        ratio: of the two.
        ray_per_s: processor seconds a second of Ray's own processes, which cost the same without a camera.
    """

    cameras: int
    nodes: int
    alone_ms: float
    cluster_ms: float
    ratio: float
    ray_per_s: float


def measure_cost(clip: Path, config: Config, cameras: int, nodes: int, progress: Callable[[str], None]) -> Cost:
    """Let a clip be watched as so many cameras, alone and then on a cluster.

    Raises:
        InputError: the clip is too short.
    """
    live = measure_live(clip, config, cameras, progress)
    progress(f"{clip.name}: {cameras} cameras on {nodes} simulated nodes")
    samples = _played(clip, config, cameras, nodes)
    if len(samples) < 3:
        raise InputError(f"{clip}: too short to be measured on a cluster; fifteen seconds are enough")
    seconds, frames, ours_s, rays_s = (last - first for first, last in zip(samples[0], samples[-1], strict=True))
    return Cost(
        cameras=cameras,
        nodes=nodes,
        alone_ms=1000 * live.cpu_s,
        cluster_ms=1000 * ours_s / frames,
        ratio=ours_s / frames / live.cpu_s,
        ray_per_s=rays_s / seconds,
    )


def _played(clip: Path, config: Config, cameras: int, nodes: int) -> list[tuple[float, int, float, float]]:
    """Play a clip on a cluster; return (clock, frames, our processor seconds, Ray's) while all cameras are watched."""
    samples: list[tuple[float, int, float, float]] = []
    watched = {f"camera-{number}": CameraConfig(source=str(clip.absolute())) for number in range(cameras)}
    ready_s = float("inf")

    def note(news: News) -> None:
        nonlocal ready_s
        now_s = time.monotonic()
        if len(news.watched) == cameras:
            ready_s = min(ready_s, now_s)
            if now_s >= max(ready_s + WARM_UP_S, samples[-1][0] + SAMPLE_EVERY_S if samples else 0.0):
                own_s = sum(os.times()[:2])
                samples.append((now_s, news.frames, own_s + _cpu_s(OURS), _cpu_s(RAYS)))

    with (
        EmbeddedBroker(0) as broker,
        tempfile.TemporaryDirectory(prefix="wildlane-bench-") as folder,
        _nodes(nodes) as at,
    ):
        own = config.alone(SITE, watched).model_copy(
            update={"broker": BrokerConfig(port=broker.port), "cluster": config.cluster}
        )
        run_cluster(own, clip, Path(folder), address=at, stop=threading.Event(), tell=lambda alert: None, watch=note)
    return [sample for sample in samples if sample[0] <= samples[-1][0] - SETTLE_S]


@contextmanager
def _nodes(count: int) -> Iterator[str]:
    """Start a Ray cluster of so many nodes on this machine; yield its address."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    logging.getLogger("ray").setLevel(logging.WARNING)
    settings: dict[str, Any] = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    head = settings | {"include_dashboard": False, "labels": {DISK: "disk-0"}}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for number in range(1, count):
            cluster.add_node(**settings, labels={DISK: f"disk-{number}"})
        yield str(cluster.address)
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def _cpu_s(marks: tuple[bytes, ...]) -> float:
    """Return the processor time so far of all processes whose command line holds one of the marks."""
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return sum(cpu_s(pid) for pid in pids if any(mark in read_proc(pid, "cmdline") for mark in marks))
