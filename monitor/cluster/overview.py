"""What monitoring systems and the service manager read of a site on a cluster, at the driver.

Times of stages, frames and inference stay with the watchers: here are states, counts, and both probes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from monitor.alerts.schema import Alert
from monitor.cluster.coordinator import News
from monitor.config import Config
from monitor.metrics import Metrics, MetricsServer
from monitor.watchdog import Watchdog

# Without news of the coordinator: before the first, and from then on. A journal that gets new ends takes sixteen.
BEGIN_S, STUCK_S = 60.0, 30.0


class Overview:
    """The newest news of a site, as others ask for it."""

    def __init__(self, config: Config) -> None:
        """Serve the meters, where the configuration says so.

        Raises:
            ConfigError: the port can't be had.
        """
        self._cameras = tuple(config.cameras)
        self._metrics, self._news, self._heard_s = Metrics(), News(), time.monotonic()
        self._patience_s = BEGIN_S
        self._frames: dict[str, int] = {}
        self._watchdog, self._ready = Watchdog({}), False
        self._server: MetricsServer | None = None
        if config.metrics.port is not None:
            probes = {"/livez": self._liveness, "/readyz": self._readiness}
            self._server = MetricsServer(config.metrics.host, config.metrics.port, self._metrics, probes)

    def take(self, news: News) -> None:
        """Show what the coordinator says, and feed the watchdog."""
        self._news, self._heard_s, self._patience_s = news, time.monotonic(), STUCK_S
        self._metrics.site(news.healths, news.sending.unsent, news.sending.parked, gpu_lost=False)
        for camera, count in news.frames.items():
            before = self._frames.get(camera, 0)
            self._metrics.frames.labels(camera).inc(count - before if count >= before else count)  # it began anew
        self._frames |= news.frames
        for alert in news.alerts:
            self._metrics.told(Alert.model_validate_json(alert))
        if not self._ready and news.healths:
            self._ready = True
            self._watchdog.ready(f"watching {', '.join(self._cameras)}")
        self._watchdog.feed(self._heard_s)

    def close(self) -> None:
        """Say that the end was asked for, and close the port."""
        self._watchdog.stopping()
        if self._server is not None:
            self._server.stop()

    def _liveness(self) -> Sequence[str]:
        silent_s = time.monotonic() - self._heard_s
        return (f"no word of the coordinator for {silent_s:.0f} s",) if silent_s > self._patience_s else ()

    def _readiness(self) -> Sequence[str]:
        news = self._news
        blind = sorted(set(self._cameras) - news.watched)
        problems = {
            f"blind: {', '.join(blind)}": 2 * len(blind) >= len(self._cameras),
            "the broker is not connected": not news.sending.connected,
            "the journal has no copy on another node": not news.sending.has_copy,
        }
        return [told for told, holds in problems.items() if holds]
