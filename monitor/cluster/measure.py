"""What a frame costs on a cluster of simulated nodes beside the single process, for the same frames of a clip."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray.cluster_utils import Cluster

from adapters.errors import InputError
from adapters.workers import Say
from monitor.alerts.broker import EmbeddedBroker
from monitor.bench import Sample, below, cpu_s, measure_live, read_proc, site_of
from monitor.cluster.coordinator import News
from monitor.cluster.nodes import DISK
from monitor.cluster.run import run_cluster
from monitor.config import BrokerConfig, Config

OURS = (
    b"ray::WatchActor",
    b"ray::ClassifierActor",
    b"ray::JournalActor",
    b"ray::Coordinator",
    b"monitor.cameras.decoder",
)
BROKER = b"iotcore"  # which counts on neither side
ROUNDS = 3
WARM_UP_S = 3.0  # after every camera is watched
STORE_BYTES = 100_000_000
SAMPLE_EVERY_S = 1.5
SETTLE_S = 2.0  # left off at the end: who has ended takes its processor time along


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one frame cost, as medians of some rounds.

    Attributes:
        cameras, nodes: of the cluster.
        alone_ms, cluster_ms: processor time for one analysed frame, of all that works on frames and alerts.
        ratio: of the two in one round.
        ratios: of each round.
        ray_per_s: processor seconds a second of Ray's own processes, which are there without a camera too.
        ratio_with_ray: where these are counted as well.
    """

    cameras: int
    nodes: int
    alone_ms: float
    cluster_ms: float
    ratio: float
    ratios: tuple[float, ...]
    ray_per_s: float
    ratio_with_ray: float


def measure_cost(clip: Path, config: Config, cameras: int, nodes: int, progress: Say) -> Cost:
    """Let a clip be watched as so many cameras, alone and on a cluster in turns: machines are noisy, ratios less.

    Raises:
        InputError: the clip is too short.
    """
    rounds, rays_per_s = list[tuple[float, ...]](), list[float]()
    with _nodes(nodes) as at:
        for number in range(ROUNDS):
            progress(f"round {number + 1} of {ROUNDS}: one process, and {nodes} simulated nodes")
            if number % 2:  # or a machine that grows slower would always do so for the same side
                ours, rays = _played(clip, config, cameras, at)
                alone = measure_live(clip, config, cameras, progress).samples
            else:
                alone = measure_live(clip, config, cameras, progress).samples
                ours, rays = _played(clip, config, cameras, at)
            rounds.append(cost_of_same_frames(alone, ours, rays))
            rays_per_s.append((rays[-1].cpu_s - rays[0].cpu_s) / (rays[-1].clock_s - rays[0].clock_s))
    alone_s, ours_s, rays_s = np.array(rounds).T
    return Cost(
        cameras=cameras,
        nodes=nodes,
        alone_ms=1000 * float(np.median(alone_s)),
        cluster_ms=1000 * float(np.median(ours_s)),
        ratio=float(np.median(ours_s / alone_s)),
        ratios=tuple((ours_s / alone_s).tolist()),
        ray_per_s=float(np.median(rays_per_s)),
        ratio_with_ray=float(np.median((ours_s + rays_s) / alone_s)),
    )


def cost_of_same_frames(*runs: Sequence[Sample]) -> tuple[float, ...]:
    """Return the processor seconds for one frame of each run, over those frames that all runs have samples of.

    Raises:
        InputError: there are none.
    """
    first, last = max(run[0].frames for run in runs), min(run[-1].frames for run in runs)
    if last <= first:
        raise InputError("the clip is too short to be measured on a cluster; fifteen seconds are enough")
    used_s = [np.interp([first, last], [one.frames for one in run], [one.cpu_s for one in run]) for run in runs]
    return tuple(float(until - since) / (last - first) for since, until in used_s)


def _played(clip: Path, config: Config, cameras: int, at: str) -> tuple[list[Sample], list[Sample]]:
    """Play a clip on a cluster; return samples of what works on it, and of Ray's own, while all cameras are watched.

    Raises:
        InputError: the clip is too short.
    """
    ours, rays = list[Sample](), list[Sample]()
    ready_s, own_s, before = float("inf"), 0.0, 0

    def note(news: News) -> None:
        nonlocal ready_s, own_s, before
        now_s, frames = time.monotonic(), sum(news.frames.values())
        if len(news.watched) < cameras:
            return
        ready_s = min(ready_s, now_s)
        # news come oftener than watchers are asked: only what has just changed is of now
        changed, before = frames != before, frames
        if changed and now_s >= max(ready_s + WARM_UP_S, ours[-1].clock_s + SAMPLE_EVERY_S if ours else 0.0):
            begun_s = time.thread_time()
            ours_s, rays_s = _cpu_s()
            ours.append(Sample(now_s, frames, ours_s - own_s))
            rays.append(Sample(now_s, frames, rays_s))
            own_s += time.thread_time() - begun_s

    with EmbeddedBroker(0) as broker, tempfile.TemporaryDirectory(prefix="wildlane-bench-") as folder:
        own = site_of(clip, config, cameras).model_copy(
            update={"broker": BrokerConfig(port=broker.port), "cluster": config.cluster}
        )
        run_cluster(own, clip, Path(folder), address=at, stop=threading.Event(), tell=lambda alert: None, watch=note)
    whole = sum(sample.clock_s <= ours[-1].clock_s - SETTLE_S for sample in ours)
    if whole < 2:
        raise InputError(f"{clip}: too short to be measured on a cluster; fifteen seconds are enough")
    return ours[:whole], rays[:whole]


@contextmanager
def _nodes(count: int) -> Iterator[str]:
    """Start a Ray cluster of so many nodes on this machine; yield its address."""
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_event_stats": "0"})  # see docs/scale.md
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


def _cpu_s() -> tuple[float, float]:
    """Return the processor time so far of this process and those below it that are ours, and of the others: Ray's."""
    ours_s, rays_s = sum(os.times()[:2]), 0.0
    for pid in below(os.getpid()):
        command = read_proc(pid, "cmdline")
        if any(mark in command for mark in OURS):
            ours_s += cpu_s(pid)
        elif BROKER not in command:
            rays_s += cpu_s(pid)
    return ours_s, rays_s
