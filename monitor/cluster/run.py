"""`wildlane run --cluster`: the driver, which starts the coordinator beside itself and tells what it hears."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import ray

from adapters.errors import ConfigError
from adapters.workers import Say
from monitor.cluster.calls import call
from monitor.cluster.coordinator import Coordinator, News
from monitor.cluster.nodes import CONCURRENCY, connect, disconnect, here
from monitor.cluster.overview import Overview
from monitor.config import Config

log = logging.getLogger(__name__)

NEWS_EVERY_S = 0.5
BEGIN_S = 60.0
END_S = 60.0
NAME = "coordinator"


def run_cluster(
    config: Config,
    config_path: Path,
    state_dir: Path,
    *,
    address: str,
    stop: threading.Event,
    tell: Callable[[str], None],
    watch: Callable[[News], None] = lambda news: None,
) -> None:
    """Watch until asked to stop, or until every source was a recording and has ended.

    Args:
        config: of the site.
        config_path: where it came from.
        state_dir: where class sets are kept, on this node, and journals, on theirs.
        address: of the cluster's head, `host:port`; `auto` is the cluster that runs here, else one of this machine.
        stop: set it to end the run.
        tell: called with each alert, as JSON, once it is committed.
        watch: called with all news.

    Raises:
        ConfigError: the cluster can't be reached, the site runs there already, or the port of the meters can't be had.
        ModelError, StoreError: what the coordinator needs of the state folder can't be had.
    """
    for section, wanted_there in (("console", config.console.port), ("fleet", config.fleet.url)):
        if wanted_there is not None:
            log.warning("[%s] is not served by a cluster", section)
    wanted = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    connect(address, log_to_driver=True)
    for number, handler in wanted.items():  # Ray ends the program at once, with all that is open
        signal.signal(number, handler)
    named = {"name": NAME, "namespace": namespace_of(config)}
    options = {"num_cpus": 0, "max_concurrency": CONCURRENCY, "enable_task_events": False} | named
    arguments = (config, config_path.resolve(), state_dir.resolve(), config.cluster.classifiers)
    try:
        with closing(Overview(config)) as overview:
            here_alone = {"scheduling_strategy": here()}
            try:
                coordinator = ray.remote(Coordinator).options(**options, **here_alone).remote(*arguments)
            except ValueError:
                raise ConfigError(f"--cluster {address}: the site '{config.site}' runs there already") from None
            call(coordinator, "begin", timeout_s=BEGIN_S)
            news = call(coordinator, "news", timeout_s=BEGIN_S)
            while not stop.wait(NEWS_EVERY_S) and not news.finished:
                news = call(coordinator, "news", timeout_s=BEGIN_S)
                overview.take(news)
                _tell(news, tell, watch)
            _tell(call(coordinator, "stop", timeout_s=END_S), tell, watch)
            log.info("stopped")
    finally:
        disconnect()


def namespace_of(config: Config) -> str:
    """Return where a site's coordinator is found by its name."""
    return f"wildlane-{config.site}"


def drain(config: Config, disk: str, *, address: str, say: Say) -> None:
    """Let a running site leave a node, and wait until it has.

    Args:
        config: of the site.
        disk: the node's name: its Ray label `disk`, else its host's name.
        address: of the cluster's head.
        say: told of the progress.

    Raises:
        ConfigError: the cluster can't be reached, the site does not run there, or there is no such node.
    """
    connect(address, log_to_driver=False, namespace=namespace_of(config))
    try:
        coordinator = _coordinator_of(config, address)
        call(coordinator, "drain", disk, timeout_s=BEGIN_S)
        say(f"{disk}: gets nothing new, and is being left")
        while not call(coordinator, "is_left", disk, timeout_s=BEGIN_S):
            time.sleep(NEWS_EVERY_S)
        say(f"{disk}: nothing is there any more")
    finally:
        disconnect()


def _coordinator_of(config: Config, address: str) -> Any:  # noqa: ANN401  # a handle
    try:
        return ray.get_actor(NAME)
    except ValueError:
        raise ConfigError(f"--cluster {address}: the site '{config.site}' does not run there") from None


def _tell(news: News, tell: Callable[[str], None], watch: Callable[[News], None]) -> None:
    for alert in news.alerts:
        tell(alert)
    watch(news)
