"""A Ray cluster of several nodes on this machine, and a site that runs on it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from monitor.bench import below
from tests.conftest import ROOT, free_port, wait_until

NUMBERS = itertools.count()
RAY = Path(sys.executable).with_name("ray")
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_event_stats": "0", "RAY_DEDUP_LOGS": "0", "PYTHONPATH": str(ROOT)}


class SimulatedNode:
    """A node: its own Ray processes, in a session of the operating system's own, so that all can be killed at once."""

    def __init__(self, address: str, folder: Path, *, head: bool = False, disk: str = "") -> None:
        port = address.rpartition(":")[2]
        where = ["--head", f"--port={port}", "--include-dashboard=false"] if head else [f"--address={address}"]
        options = ["--num-cpus=1", "--object-store-memory=100000000"]
        options += [f"--temp-dir={folder}"] if head else []
        self.disk = disk or f"disk-{next(NUMBERS)}"
        options.append(f"--labels=disk={self.disk}")
        self.log = (folder / f"node-{port}-{time.monotonic_ns()}.log").open("w+")
        self.process = subprocess.Popen(
            [RAY, "start", "--block", "--disable-usage-stats", *where, *options],
            env=os.environ | QUIET,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def kill(self) -> None:
        """Kill every process of the node, decoders included, as a power cut does."""
        if self.process.returncode is not None:
            return
        for pid in tree(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


def tree(root: int) -> list[int]:
    """Return a process and all that it started, and those in turn."""
    return [root, *below(root)]


class SimulatedCluster:
    """A head, where the coordinator is, and nodes that may be killed."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self._folder, self.address = folder, f"127.0.0.1:{free_port()}"
        self.head = self._started(head=True)
        self.others = [self._started() for _ in range(nodes - 1)]

    def add(self, *, disk: str = "") -> SimulatedNode:
        """Start one more node, or one again with the disk that it had."""
        self.others.append(self._started(disk=disk))
        return self.others[-1]

    def stop(self) -> None:
        for node in [*self.others, self.head]:
            node.kill()

    def _started(self, *, head: bool = False, disk: str = "") -> SimulatedNode:
        node = SimulatedNode(self.address, self._folder, head=head, disk=disk)
        wait_until(lambda: "Ray runtime started" in log(node), seconds=60, what="a node is up")
        return node


@contextmanager
def simulated(nodes: int) -> Iterator[SimulatedCluster]:
    """Start a cluster of so many nodes; the head is one of them."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as name:  # short: sockets
        cluster = SimulatedCluster(Path(name), nodes)
        try:
            yield cluster
        finally:
            cluster.stop()


def log(node: SimulatedNode) -> str:
    node.log.flush()
    return Path(node.log.name).read_text()
