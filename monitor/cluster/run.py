"""`wildlane run --cluster`: the driver, which starts the coordinator beside itself and tells what it hears."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from adapters.errors import ConfigError
from monitor.cluster.calls import call
from monitor.cluster.coordinator import Coordinator, News
from monitor.cluster.nodes import CONCURRENCY
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
        ConfigError: the cluster can't be reached.
    """
    wanted = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ray.init(address=None if address == "auto" else address, log_to_driver=True, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--cluster {address}: can't be reached ({error})") from None
    for number, handler in wanted.items():  # Ray ends the program at once, with all that is open
        signal.signal(number, handler)
    try:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_concurrency": CONCURRENCY, "scheduling_strategy": here}
        arguments = (config, config_path.resolve(), state_dir.resolve(), config.cluster.classifiers)
        options |= {"name": NAME, "namespace": namespace_of(config)}
        coordinator = ray.remote(Coordinator).options(**options).remote(*arguments)
        news = call(coordinator, "news", timeout_s=BEGIN_S)
        while not stop.wait(NEWS_EVERY_S) and not news.finished:
            news = call(coordinator, "news", timeout_s=BEGIN_S)
            _tell(news, tell, watch)
        _tell(call(coordinator, "stop", timeout_s=END_S), tell, watch)
        log.info("stopped")
    finally:
        ray.shutdown()


def namespace_of(config: Config) -> str:
    """Return where a site's coordinator is found by its name."""
    return f"wildlane-{config.site}"


def drain(config: Config, disk: str, *, address: str, say: Callable[[str], None]) -> None:
    """Let a running site leave a node, and wait until it has.

    Args:
        config: of the site.
        disk: the node's name: its Ray label `disk`, else its host's name.
        address: of the cluster's head.
        say: told of the progress.

    Raises:
        ConfigError: the cluster can't be reached, the site does not run there, or there is no such node.
    """
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, namespace=namespace_of(config))
        coordinator = ray.get_actor(NAME)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--cluster {address}: the site does not run there ({error})") from None
    try:
        call(coordinator, "drain", disk, timeout_s=BEGIN_S)
        say(f"{disk}: gets nothing new, and is being left")
        while not call(coordinator, "is_left", disk, timeout_s=BEGIN_S):
            time.sleep(NEWS_EVERY_S)
        say(f"{disk}: nothing is there any more")
    finally:
        ray.shutdown()


def _tell(news: News, tell: Callable[[str], None], watch: Callable[[News], None]) -> None:
    for alert in news.alerts:
        tell(alert)
    watch(news)
