"""What verbs need that spread over a Ray cluster, and the verb `leave-node`."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.errors import ConfigError
from adapters.workers import Here
from monitor.context import ConfigOption, Context
from monitor.output import say

if TYPE_CHECKING:
    from adapters.workers import Workers
    from monitor.cluster.measure import Cost

log = logging.getLogger(__name__)

OPTION, ANY = "--cluster", "auto"

ClusterOption = Annotated[
    str | None,
    typer.Option(
        OPTION,
        metavar="[ADDRESS]",
        help="Spread over a Ray cluster: its head's host:port, else the one here.",
    ),
]


def leave_node(
    node: Annotated[str, typer.Argument(help="Its Ray label `disk`, else its host's name.")],
    cluster: Annotated[str, typer.Option(metavar="ADDRESS", help="The cluster's head, host:port.")] = ANY,
    config: ConfigOption = None,
) -> None:
    """Let a site that runs on a cluster leave a node, without a gap, before it is stopped."""
    with needs_ray():
        from monitor.cluster.run import drain
    drain(Context(config, None).config, node, address=cluster, say=say)


def run_on_cluster(context: Context, address: str, stop: threading.Event) -> None:
    """Watch on a cluster until asked to stop."""
    with needs_ray():
        from monitor.cluster.run import run_cluster
    signal.signal(signal.SIGHUP, lambda number, frame: log.warning("a cluster reads its configuration when it starts"))
    tell = partial(print, file=sys.stdout, flush=True)
    with redirect_stdout(sys.stderr):  # where Ray prints what its processes say, between the alerts
        run_cluster(context.config, context.path, context.state_dir, address=address, stop=stop, tell=tell)


@contextmanager
def workers(address: str | None, folder: Path) -> Iterator[Workers]:
    """Give who does the work of the learning side: the nodes of a cluster, or this process where there is no address.

    Args:
        address: of the cluster.
        folder: where all nodes can write what a training needs between them.
    """
    if address is None:
        yield Here()
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")  # Ray reads it when imported
    with needs_ray():
        from monitor.cluster.learning import workers_of
    with workers_of(address, folder) as nodes:
        yield nodes


def cost_on_nodes() -> Callable[..., Cost]:
    """Return what measures the cost of a frame on simulated nodes, which let nobody else in."""
    os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})  # Ray reads it when imported
    with needs_ray():
        from monitor.cluster.measure import measure_cost
    return measure_cost


@contextmanager
def needs_ray() -> Iterator[None]:
    """Say what to install where Ray, or what it needs for this, is missing."""
    try:
        yield
    except ImportError as error:
        named = (error.name or "ray").partition(".")[0]
        if named in ("monitor", "adapters"):
            raise
        raise ConfigError("a cluster needs Ray, which is not installed; run: pip install 'wildlane[cluster]'") from None


def with_address(arguments: Sequence[str]) -> list[str]:
    """Return a command line where `--cluster` has the address that may be left out; `bench` starts its own."""
    given = list(arguments)
    if given[:1] == ["bench"]:
        return given
    for place in reversed([number for number, word in enumerate(given) if word == OPTION]):
        if place + 1 == len(given) or given[place + 1].startswith("-"):
            given.insert(place + 1, ANY)
    return given
