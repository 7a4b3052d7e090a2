"""A Ray cluster of several nodes on this machine, and a site that runs on it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT, free_port, wait_until

RAY = Path(sys.executable).with_name("ray")
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "PYTHONPATH": str(ROOT)}


class SimulatedNode:
    """A node: its own Ray processes, in a session of the operating system's own, so that all can be killed at once."""

    def __init__(self, address: str, folder: Path, *, head: bool = False, labels: str = "") -> None:
        port = address.rpartition(":")[2]
        where = ["--head", f"--port={port}", "--include-dashboard=false"] if head else [f"--address={address}"]
        options = ["--num-cpus=1", "--object-store-memory=100000000", f"--temp-dir={folder}"] if head else [
            "--num-cpus=1",
            "--object-store-memory=100000000",
        ]
        named = [f"--labels={labels}"] if labels else []
        self.log = (folder / f"node-{port}-{time.monotonic_ns()}.log").open("w+")
        self.process = subprocess.Popen(
            [RAY, "start", "--block", "--disable-usage-stats", *where, *options, *named],
            env=os.environ | QUIET,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def kill(self) -> None:
        """Kill every process of the node."""
        subprocess.run(["pkill", "-KILL", "-s", str(self.process.pid)], check=False)
        self.process.wait()
        self.log.close()


@contextmanager
def simulated(nodes: int) -> Iterator[tuple[str, list[SimulatedNode]]]:
    """Start a head and `nodes - 1` others."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder, address = Path(name), f"127.0.0.1:{free_port()}"
        started = [SimulatedNode(address, folder, head=True)]
        wait_until(lambda: "Ray runtime started" in log(started[0]), seconds=60, what="the head is up")
        for _ in range(nodes - 1):
            started.append(SimulatedNode(address, folder))
            wait_until(lambda: "Ray runtime started" in log(started[-1]), seconds=60, what="a node is up")
        try:
            yield address, started
        finally:
            for node in started:
                node.kill()


def log(node: SimulatedNode) -> str:
    node.log.flush()
    return Path(node.log.name).read_text()
