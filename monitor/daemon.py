"""Builds every part from the config, starts them, waits, and stops them in a stated order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from datetime import time as dt_time
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from adapters.classes import ClassSet
from adapters.errors import ConfigError, StoreError, WildlaneError
from monitor.alerts import schema
from monitor.alerts.broker import EmbeddedBroker
from monitor.alerts.consumers import Order
from monitor.alerts.journal import Journal
from monitor.alerts.reports import Machine, Reports, publisher_of, status_of
from monitor.alerts.session import Address, check_reachable
from monitor.assembly import (
    address_of,
    budgets_of,
    clock_of,
    facts_of,
    first_classifier,
    follower_of,
    info_of,
    mirrors_of,
    settings_of,
    sources_of,
    zones_of,
)
from monitor.ballast import Ballast
from monitor.cameras.fleet import Fleet
from monitor.cameras.health import Health
from monitor.clock import Clock, Every
from monitor.config import Config, load_config
from monitor.in_force import InForce
from monitor.metrics import Metrics, MetricsServer
from monitor.pipeline import Outcome, Pipeline
from monitor.policy import Policy
from monitor.scenery import Scenery
from monitor.snapshots import Snapshots
from monitor.stages import Stages
from monitor.upkeep import Upkeep
from monitor.values import Frame
from monitor.watchdog import Watchdog
from monitor.watcher import Watcher, about
from monitor.zones import Zone

if TYPE_CHECKING:
    from monitor.console.board import Board

log = logging.getLogger(__name__)

HEALTH_EVERY_S = 30.0
CLASS_SET_EVERY_S = 0.1  # how often a version taught meanwhile is looked for; it must be live within a second
BACKGROUND_EVERY_S = 1800.0
UPKEEP_EVERY_S = 3600.0
FIXED = (
    "site",
    "state_dir",
    "models_dir",
    "models_key_file",
    "log_format",
    "retention_days",
    "device",
    "broker",
    "metrics",
    "console",
    "mirrors",
    "fleet",
    "cluster",
)
GPU_LOST = "the GPU failed, the CPU has taken over"
STUCK_S = 10.0  # a loop that has not gone round for so long is dead
FLUSH_S = 2.0  # at the stop, for what the broker has not taken yet; the rest stays in the journal


class Daemon:
    """The running program: one loop over all cameras, a publisher thread, a decoder process a camera."""

    def __init__(
        self,
        config: Config,
        config_path: Path,
        state_dir: Path,
        *,
        stop: threading.Event | None = None,
        tell: Callable[[schema.Alert], None] = lambda alert: None,
        watch: Callable[[Frame, Outcome], None] = lambda frame, outcome: None,
    ) -> None:
        """Check everything and build every part; nothing watches or publishes yet.

        Args:
            config: the checked configuration.
            config_path: where it came from; files are looked up beside it.
            state_dir: where class sets and the journal are kept.
            stop: set it to end the run; also while the parts are still being built.
            tell: called with each alert, after it is on disk.
            watch: called after each analysed frame, while its image is valid.

        Raises:
            ConfigError: no camera, a missing file, an unreachable broker.
            ModelError: a model file or the device asked for does not work.
            StoreError: the state folder can't be used.
        """
        self._config, self._config_path = config, config_path
        self._reload, self._start_again = threading.Event(), threading.Event()
        self._tell, self._watch = tell, watch
        self._now = time.monotonic
        self._stepped_s = self._now()
        self._states: dict[str, Health] = {}
        self._stop = stop or threading.Event()
        self._parts = ExitStack()  # closed in reverse: what was built first is closed last
        self._metrics, self._clock = Metrics(), Clock()
        self._board: Board | None = None  # where there is a console
        self._orders: SimpleQueue[Order] = SimpleQueue()  # from the console
        self._tries: SimpleQueue[str] = SimpleQueue()  # versions to try beside the live one; an empty name ends it
        self._site_clock = clock_of(config.policy.timezone)
        self._fleet = Fleet(sources_of(config, config_path), self._now, lost=self._lost)
        try:
            self._build(config, state_dir)
        except BaseException:
            self._parts.close()
            raise

    def _build(self, config: Config, state_dir: Path) -> None:
        address = self._broker_address(config)
        self._ballast = Ballast(state_dir)
        self._journal = Journal(state_dir, make_room=self._ballast.give_up)
        self._parts.callback(self._journal.close)
        # Decoders need about a second to open a source; the model loads meanwhile.
        self._fleet.open()
        self._parts.callback(self._fleet.close)
        self._classifier = first_classifier(config, state_dir)
        encode = self._classifier.encode
        log.info("classifier: %s runs on %s in %s", encode.hash[:19], encode.provider, encode.precision)
        encode.took = lambda crops, seconds: self._metrics.encoded(encode.provider, crops, seconds)
        self._in_force = InForce(self._classifier, state_dir)
        self._parts.callback(self._in_force.close)
        zones = zones_of(config, self._fleet.names)
        facts = facts_of(config, self._classifier.encoder_hash)
        self._policy = Policy(settings_of(config), zones, places=facts.places, time_of_day=self._time_of_day)
        self._pipeline = Pipeline(
            self._classifier,
            self._in_force.class_set(),
            self._policy,
            budgets_of(config),
            crops_per_round=config.device.crops_per_round,
            learn=self._in_force.background.offer,
            scenery=Scenery(self._in_force.background),
            stages=Stages(self._metrics.stage_took),
        )
        self._publisher = publisher_of(config.site, address, self._journal, _ids(zones), self._journal.problem)
        self._watchdog = Watchdog({"publisher": self._publisher.promise})
        self._info: Callable[[ClassSet], schema.SiteInfo] = partial(info_of, config, facts)
        self._snapshots = Snapshots(state_dir, config.retention_days, config.console.url)
        kept = timedelta(days=config.retention_days)
        self._upkeep = Upkeep(self._journal, self._snapshots, self._ballast, self._clock, address.tls, kept)
        self._reports = Reports(
            facts,
            self._journal,
            self._publisher,
            zones,
            self._now,
            self._clock,
            mirrors_of(config),
            self._snapshots.evidence,
        )
        parts = (self._fleet, self._pipeline, self._policy, self._reports)
        self._watcher = Watcher(*parts, looked=self._looked, told=self._told)
        self._serve_metrics(config)
        self._serve_console(config, state_dir)
        self._follow_centre(config, state_dir)

    def _follow_centre(self, config: Config, state_dir: Path) -> None:
        if (follower := follower_of(config, self._classifier, state_dir)) is None:
            return
        from monitor.fleet.follow import Following

        tell = partial(self._publisher.set_level, "release", expires_s=None)
        following = Following(follower, tell, self._start_again.set, config.fleet.look_s)
        self._parts.callback(following.close)
        self._publisher.let_look_for_releases(following.look_now)
        log.info("releases: %s", config.fleet.url)

    def _serve_metrics(self, config: Config) -> None:
        if config.metrics.port is not None:
            probes = {"/livez": self._liveness, "/readyz": self._readiness}
            server = MetricsServer(config.metrics.host, config.metrics.port, self._metrics, probes)
            self._parts.callback(server.stop)
            log.info("metrics: http://%s:%d/metrics", config.metrics.host, server.port)

    def _serve_console(self, config: Config, state_dir: Path) -> None:
        if config.console.port is None:
            return
        from monitor.console.server import Console, Hold

        hold = Hold(
            order=self._orders.put,
            snapshot=self._snapshots.read,
            try_out=self._tries.put,
            shadow=lambda: self._pipeline.shadow,
            class_set=lambda: self._pipeline.class_set,
            config=lambda: self._config,
            config_path=self._config_path,
            reload=self.reload,
            health=lambda: self._reports.health,
            consumers=self._journal.consumers,
        )
        try:
            console = Console(config, state_dir, self._classifier, hold)
        except StoreError as error:
            if not self._in_force.problem:
                raise
            log.error("the console is not served: %s", error)  # noqa: TRY400  # one line
            return
        self._parts.callback(console.stop)
        self._board = console.board

    def _liveness(self) -> tuple[str, ...]:
        stuck_s = self._now() - self._stepped_s
        main = f"no step of the loop for {stuck_s:.0f} s" if stuck_s > STUCK_S else ""
        return tuple(filter(None, (main, self._watchdog.stuck())))

    def _readiness(self) -> tuple[str, ...]:
        states = self._states  # as the main loop left them: this is another thread
        blind = [name for name, health in states.items() if health.state == "blind"]
        too_many = 2 * len(blind) >= len(states)
        problems = [
            self._journal.problem,
            self._in_force.problem,
            f"blind: {', '.join(sorted(blind))}" if too_many else "",
        ]
        if not self._publisher.connected.is_set():
            problems.append("the broker is not connected")
        if self._classifier.encode.lost_device:
            problems.append(GPU_LOST)
        return tuple(filter(None, problems))

    def _broker_address(self, config: Config) -> Address:
        port = config.broker.port
        if config.broker.embedded:
            broker = EmbeddedBroker(port)
            self._parts.callback(broker.stop)
            port = broker.port
        address = address_of(config, port)
        if config.broker.required_at_start and (problem := check_reachable(address)):
            raise ConfigError(
                f"[broker] {problem}; start it, or set embedded = true, "
                "or required_at_start = false to watch all the same"
            )
        self.broker_port = port
        return address

    def run(self) -> None:
        """Watch until asked to stop, or until every source was a recording and has ended."""
        self._startup()
        try:
            self._main_loop()
        finally:
            self._shutdown()

    def reload(self) -> None:
        """Read the configuration again, soon; safe from a signal handler."""
        self._reload.set()

    def _startup(self) -> None:
        self._tell_ended(self._journal.end_left_open(datetime.now(UTC)))
        self._reports.tell_info(self._info(self._pipeline.class_set))
        self._publisher.start()
        watching = f"watching {', '.join(self._fleet.names)}"
        log.info("%s", watching)
        self._watchdog.ready(watching)

    def _tell_ended(self, alerts: Sequence[schema.Alert]) -> None:
        for alert in alerts:
            situation = alert.data.situation.id
            log.warning("situation %s was left open by the last run: ended", situation, extra=about(alert))
            self._tell(alert)

    def _main_loop(self) -> None:
        health, chores, class_set = Every(HEALTH_EVERY_S), Every(UPKEEP_EVERY_S), Every(CLASS_SET_EVERY_S)
        background = Every(BACKGROUND_EVERY_S, first_s=self._now() + BACKGROUND_EVERY_S)
        health_told: object = None
        problem_told = self._journal.problem
        while not self._stop.is_set() and not self._fleet.finished:
            self._step()
            now_s = self._now()
            self._watchdog.feed(now_s)
            self._tell_ended(self._journal.recover(datetime.now(UTC)))
            if chores.is_due(now_s):
                self._upkeep.run()
            self._states = states = self._fleet.check()
            if health.is_due(now_s) or states != health_told:
                health_told = states
                encode = self._classifier.encode
                self._metrics.site(states, *self._journal.counts(), gpu_lost=encode.lost_device)
                machine = Machine(encode.provider, encode.lost_device, self._upkeep.certificates)
                self._reports.tell_health(self._fleet.healths, self._pipeline.class_set, machine)
            if (problem := self._problem()) != problem_told:
                problem_told = problem
                self._publisher.announce(status_of(self._config.site, "online", self._journal.id, problem))
            if self._reload.is_set():
                self._reload.clear()
                self._take_up_config()
            if class_set.is_due(now_s):
                self._in_force.look()
            if self._in_force.take_up(self._pipeline):
                self._reports.tell_info(self._info(self._pipeline.class_set))
            while not self._tries.empty():
                self._in_force.try_out(self._pipeline, self._tries.get())
            if background.is_due(now_s):
                self._in_force.learn_background()
            if self._start_again.is_set() and not self._policy.open:
                log.info("stopping: a model of the centre begins with the next start")
                return

    def _problem(self) -> str:
        """Return why the site is degraded, nothing where it is not."""
        taught, gpu = self._in_force, GPU_LOST if self._classifier.encode.lost_device else ""
        disk = (self._journal.problem, self._ballast.problem)
        problems = (*disk, taught.problem, taught.doubt, self._publisher.problem, gpu)
        return "; ".join(filter(None, problems))

    def _step(self) -> None:
        self._watcher.step(self._stop, lambda: [*self._publisher.orders(), *self._asked()])
        self._stepped_s = self._now()
        if self._board is not None:
            self._board.site(self._states, self._policy.open, self._stepped_s)

    def _looked(self, frame: Frame, outcome: Outcome) -> None:
        self._metrics.analysed(frame)
        if self._board is not None:
            self._board.frame(frame, outcome.sightings, self._now())
        self._watch(frame, outcome)
        for situation in outcome.told if not self._ballast.problem else ():  # alerts come before pictures
            self._snapshots.take(situation, frame)

    def _told(self, alert: schema.Alert) -> None:
        self._metrics.told(alert)
        self._tell(alert)

    def _asked(self) -> Iterator[Order]:
        while not self._orders.empty():
            yield self._orders.get()

    def _lost(self, camera: str, reason: str) -> None:
        self._metrics.lost(camera, reason)
        self._pipeline.forget_camera(camera)

    def _time_of_day(self) -> dt_time | None:
        """Return the time on the site's own clock; None while that can't be trusted: no quiet hour holds then."""
        return self._site_clock() if self._clock.state().trusted else None

    def _take_up_config(self) -> None:
        """Go on with the cameras, zones and policy of the file as it is now; one that is refused changes nothing."""
        try:
            config = load_config(self._config_path)
            if fixed := [key for key in FIXED if getattr(config, key) != getattr(self._config, key)]:
                raise ConfigError(f"{', '.join(fixed)} can't change while the program runs; restart it")
            sources, zones = sources_of(config, self._config_path), zones_of(config, list(config.cameras))
            settings, facts = settings_of(config), facts_of(config, self._classifier.encoder_hash)
        except WildlaneError as error:
            log.error("the configuration is refused, all stays as it was: %s", error)  # noqa: TRY400  # one line
            return
        self._config = config
        self._fleet.change(sources)
        self._site_clock = clock_of(config.policy.timezone)
        self._watcher.publish(self._policy.change(settings, zones, facts.places, self._now()))
        self._pipeline.change(budgets_of(config))
        self._reports.change(facts, zones)
        self._publisher.change_zones(_ids(zones))
        self._info = partial(info_of, config, facts)
        self._reports.tell_info(self._info(self._pipeline.class_set))
        log.info("the configuration was read again: watching %s", ", ".join(self._fleet.names))

    def _shutdown(self) -> None:
        """Stop in the order that loses nothing: cameras, then the open situations, then the outbox, then the rest."""
        self._watchdog.stopping()
        self._watcher.end("shutdown")
        if left := self._publisher.stop(FLUSH_S):
            log.warning(
                "%d messages are not with the broker yet; they stay in the journal and go out at the next start", left
            )
        self._parts.close()
        log.info("stopped")


def _ids(zones: Mapping[str, Sequence[Zone]]) -> frozenset[str]:
    return frozenset(zone.id for drawn in zones.values() for zone in drawn)
