"""What a city takes: costs measured on this machine, and the model that docs/scale.md draws from them.

`python benchmarks/scale.py measure [CLIP]` measures each stage and writes docs/scale/costs.json (five minutes, nothing
else running; needs the extra `cluster`, ffmpeg and Mosquitto). `python benchmarks/scale.py model` prints the table of
docs/scale.md and draws docs/scale/model.png.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import paho.mqtt.client as paho

from benchmarks.alert_latency import DOG, FACTS, life, mosquitto
from monitor.alerts.compose import Draft
from monitor.alerts.reports import LEVEL_EVERY_S, wall_clock
from monitor.alerts.schema import ClockPart
from monitor.assembly import settings_of
from monitor.cameras.bare import bare_fps
from monitor.cluster.groups import MOST_TOGETHER
from monitor.cluster.keeper import Keeper
from monitor.config import Config
from monitor.policy import Policy
from monitor.zones import whole_view

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "scale"
COSTS, PLOT = FOLDER / "costs.json", FOLDER / "model.png"
COMMITS, CALLS, MESSAGES = 400, 4000, 10_000

# Assumed, not measured; change them and draw again.
RATE_HZ, STREAM_FPS = 5.0, 12.5  # frames that are analysed, and that come
STREAM_MBIT_S = 4.0  # H.264 at 1080p
SITUATIONS_H, VERSIONS = 20.0, 4  # of a camera in the worst hour of the year; versions of a situation
NODE_CORES, SPARE = 32, 0.7  # of which so much is used: what a dead node watched must find room
NETWORK_MBIT_S = 10_000.0
SITES = (2_000, 100_000)
SITE_CAMERAS = 2_000  # of a site, where there are more


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Measured on one machine.

    Attributes:
        cores: that it has.
        decode_ms: processor time to decode a frame of 1080p that comes.
        frame_ms: processor time of all else for a frame that is analysed, decoding of the small clip left out.
        encode_ms: of it the encoder's, which a GPU takes.
        ray_share: what the cluster adds to a frame.
        commit_s: commits of one event a second, at both ends of the journal.
        commit_16_s: events a second, where sixteen are committed together.
        message_s: messages at QoS 1 a second through Mosquitto, to one subscriber.
        call_s: calls of actors a second that one process makes.
    """

    cores: int
    decode_ms: float
    frame_ms: float
    encode_ms: float
    ray_share: float
    commit_s: float
    commit_16_s: float
    message_s: float
    call_s: float


def measure(clip: Path) -> Costs:
    """Measure each stage, one after another."""
    bench = [sys.executable, "-m", "monitor", "bench", str(clip), "--cameras", "4", "--cluster", "--json"]
    told = json.loads(subprocess.run(bench, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout)  # noqa: S603
    stages = told["stage_ms"]
    decoding = 1000 / told["grab_fps"] * cv2.VideoCapture(str(clip)).get(cv2.CAP_PROP_FPS) / RATE_HZ
    commit_s, commit_16_s = (commits_s(size) for size in (1, 16))
    return Costs(
        cores=os.cpu_count() or 1,
        decode_ms=decode_ms(clip),
        frame_ms=1000 * told["cpu_s_per_analysed_frame"] - decoding,
        encode_ms=stages["encode"],
        ray_share=told["cluster"]["ratio"] - 1,
        commit_s=commit_s,
        commit_16_s=commit_16_s,
        message_s=messages_s(),
        call_s=calls_s(),
    )


def decode_ms(clip: Path) -> float:
    """Return the time to decode a frame of the clip enlarged to 1080p, as one core takes it."""
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.mp4"
        scale = ["-vf", "scale=1920:1080", "-c:v", "libx264", "-b:v", f"{STREAM_MBIT_S}M", "-bf", "0"]
        subprocess.run(["ffmpeg", "-v", "error", "-i", str(clip), *scale, str(large)], check=True)  # noqa: S603, S607
        began_s, began_cpu_s = time.monotonic(), sum(os.times()[:4])
        fps = bare_fps(large, "grab")
        cores = (sum(os.times()[:4]) - began_cpu_s) / (time.monotonic() - began_s)
    return 1000 * max(1.0, cores) / fps


def commits_s(size: int) -> float:
    """Return events a second through a leader and its copy, each on this disk, `size` in one commit."""
    policy = Policy(settings_of(Config()), {"north": (whole_view("north"),)})
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        leader, copy = Keeper(Path(folder) / "leader"), Keeper(Path(folder) / "copy")
        leader.lead(1, lambda term: False)
        leader.follow_up(copy)
        situations = [one for _ in range(COMMITS // 2) for one in life(policy, time.monotonic())]
        began_s = time.monotonic()
        for first in range(0, len(situations), size):
            leader.append([draft(one) for one in situations[first : first + size]])
        took_s = time.monotonic() - began_s
        leader.close()
        copy.close()
    return len(situations) / took_s


def draft(situation: object) -> Draft:
    """Return what a watcher would hand to the journal."""
    clock = ClockPart(synced=False, source="system", error_ms=None)
    return Draft(
        situation=situation,  # type: ignore[arg-type]
        facts=FACTS,
        class_set="cs-1",
        attributes=DOG,
        at=wall_clock(time.monotonic()),
        clock=clock,
    )


def messages_s() -> float:
    """Return messages of 2 kB a second through Mosquitto at QoS 1, from one publisher to one subscriber."""
    payload, all_came, came = b"x" * 2000, threading.Event(), 0

    def note(*_: object) -> None:
        nonlocal came
        came += 1
        if came == MESSAGES:
            all_came.set()

    with mosquitto() as port:
        sides = [paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5) for _ in range(2)]
        subscriber, publisher = sides
        subscribed = threading.Event()
        subscriber.on_message, subscriber.on_subscribe = note, lambda *_: subscribed.set()
        for side in sides:
            side.max_inflight_messages_set(20)
            side.connect("127.0.0.1", port)
            side.loop_start()
        subscriber.subscribe("bench/#", qos=1)
        subscribed.wait(5)
        began_s = time.monotonic()
        for number in range(MESSAGES):
            publisher.publish(f"bench/{number % 100}", payload, qos=1)
            while number - came > 900:  # Mosquitto keeps a thousand for a slow subscriber
                time.sleep(0.001)
        all_came.wait(60)
        took_s = time.monotonic() - began_s
        for side in sides:
            side.disconnect()
            side.loop_stop()
    return came / took_s


def calls_s() -> float:
    """Return calls a second that one process makes to two actors, a hundred at a time."""
    os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    import ray

    from monitor.cluster.nodes import disconnect

    class Watcher:
        def standing(self) -> tuple[int, str, tuple[str, ...]]:
            return 1, "online", ("north",)

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    watchers = [ray.remote(Watcher).remote() for _ in range(2)]
    ray.get([watcher.standing.remote() for watcher in watchers])
    began_s = time.monotonic()
    for _ in range(CALLS // 100):
        ray.get([watchers[number % 2].standing.remote() for number in range(100)])
    took_s = time.monotonic() - began_s
    disconnect()
    return CALLS / took_s


@dataclass(frozen=True, kw_only=True)
class Need:
    """What so many cameras take: nodes without and with a GPU for the encoder, and shares of each limit of one site."""

    cameras: int
    cpu_nodes: float
    gpu_nodes: float
    shares: dict[str, float]


def needed(costs: Costs, cameras: int) -> Need:
    """Return what cameras take, were they all of one site."""
    frame_ms = costs.frame_ms * (1 + costs.ray_share)
    decode_s = costs.decode_ms * STREAM_FPS / 1000
    with_encoder, without = (RATE_HZ * (frame_ms - taken) / 1000 for taken in (0.0, costs.encode_ms))
    node_s = NODE_CORES * SPARE
    events_s = cameras * SITUATIONS_H * VERSIONS / 3600
    levels_s = cameras / LEVEL_EVERY_S
    return Need(
        cameras=cameras,
        cpu_nodes=cameras * (decode_s + with_encoder) / node_s,
        gpu_nodes=cameras * (decode_s + without) / node_s,
        shares={
            "journal, one event a commit": events_s / costs.commit_s,
            "journal, sixteen a commit": events_s / costs.commit_16_s,
            "broker": (events_s + levels_s) / costs.message_s,
            "coordinator": cameras / MOST_TOGETHER / costs.call_s,  # each watcher once a second
            "network, all streams over one link": cameras * STREAM_MBIT_S / NETWORK_MBIT_S,
        },
    )


def table(costs: Costs) -> str:
    """Return the table of docs/scale.md."""
    one, *many = (needed(costs, cameras) for cameras in (SITE_CAMERAS, *SITES[1:]))
    lines = ["| | limit of one site | " + " | ".join(f"{need.cameras:,} cameras" for need in (one, *many)) + " |"]
    lines.append("| --- | --- |" + " --- |" * (1 + len(many)))
    for kind in ("cpu_nodes", "gpu_nodes"):
        told = "nodes, encoder on CPUs" if kind == "cpu_nodes" else "nodes, encoder on a GPU"
        each = one.cameras / getattr(one, kind)
        counts = " | ".join(f"{getattr(need, kind):,.0f}" for need in (one, *many))
        lines.append(f"| {told} | {each:.0f} cameras a node of {NODE_CORES} cores | {counts} |")
    for name, share in one.shares.items():
        counts = " | ".join(f"{100 * need.shares[name]:,.0f} %" for need in (one, *many))
        lines.append(f"| {name} | {one.cameras / share:,.0f} cameras | {counts} |")
    return "\n".join(lines)


def draw(costs: Costs, path: Path) -> None:
    """Draw the nodes that cameras take, and how far each part of a site is from its limit."""
    from matplotlib.figure import Figure

    counts = [10 ** (power / 10) for power in range(10, 56)]
    needs = [needed(costs, round(count)) for count in counts]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(counts, [need.cpu_nodes for need in needs], color="tab:gray", label="encoder on CPUs")
    left.loglog(counts, [need.gpu_nodes for need in needs], color="tab:green", label="encoder on a GPU")
    left.set(title=f"nodes of {NODE_CORES} cores, {SPARE:.0%} of them used", xlabel="cameras", ylabel="nodes")
    for name in needs[0].shares:
        right.loglog(counts, [100 * need.shares[name] for need in needs], label=name)
    right.axhline(100, color="black", linewidth=0.8)
    right.set(title="one site: share of what each part can do", xlabel="cameras", ylabel="%")
    for axes in (left, right):
        for count in SITES:
            axes.axvline(count, color="tab:gray", linestyle=":", linewidth=1)
        axes.legend(fontsize=8)
        axes.grid(visible=True, alpha=0.25)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("measure", "model"))
    parser.add_argument("clip", type=Path, nargs="?", default=ROOT / "demo" / "crossing.mp4")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    if options.what == "measure":
        COSTS.write_text(json.dumps({k: round(v, 4) for k, v in vars(measure(options.clip)).items()}, indent=1) + "\n")
    costs = Costs(**json.loads(COSTS.read_text()))
    print(COSTS.read_text())
    print(table(costs))
    draw(costs, PLOT)


if __name__ == "__main__":
    main()
