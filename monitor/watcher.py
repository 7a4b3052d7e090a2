"""One loop over some cameras: frames in, situation versions and levels out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from monitor.alerts.consumers import Order
from monitor.alerts.reports import Reports
from monitor.alerts.schema import Alert
from monitor.cameras.fleet import Fleet
from monitor.pipeline import Outcome, Pipeline
from monitor.policy import EndReason, Policy, Situation
from monitor.values import Frame

log = logging.getLogger(__name__)

TICK_S = 0.1


class Watcher:
    """Cameras that are watched together: all that see a zone of it are among them."""

    def __init__(
        self,
        fleet: Fleet,
        pipeline: Pipeline,
        policy: Policy,
        reports: Reports,
        *,
        looked: Callable[[Frame, Outcome], None],
        told: Callable[[Alert], None],
    ) -> None:
        """Use the parts; nothing is watched yet.

        Args:
            fleet: the cameras.
            pipeline: looks at their frames.
            policy: of that pipeline.
            reports: commits what is decided, and keeps the levels.
            looked: called after each analysed frame, while its image is valid, and before its situations are told.
            told: called with each alert, once it is on disk.
        """
        self._fleet, self._pipeline, self._policy, self._reports = fleet, pipeline, policy, reports
        self._looked, self._told = looked, told

    def step(self, stop: threading.Event, orders: Callable[[], Iterable[Order]]) -> None:
        """Wait for something to happen, and deal with one frame of each camera that has one, and with people's orders.

        Args:
            stop: ends the waiting.
            orders: asked for what people want done.
        """
        self._fleet.wait(stop, TICK_S)
        now_s = time.monotonic()
        if frames := self._fleet.frames():
            outcome = self._pipeline.process(frames, now_s, wall_s=time.time(), blind=self._fleet.blind())
            for frame in frames:
                self._looked(frame, outcome)
                self._fleet.release(frame)
            self.publish(outcome.told)
        else:
            self.publish(self._pipeline.idle(now_s, blind=self._fleet.blind()))
        for order in orders():
            log.info("%s %s, asked for by %s", order.verb, order.about, order.by)
            self.publish(self._carry_out(order))
        self._reports.tell_levels(self._policy.open, self._fleet.healths)

    def _carry_out(self, order: Order) -> list[Situation]:
        act = {
            "confirm": self._policy.confirm,
            "dismiss": self._pipeline.dismiss,
            "test-alert": self._policy.rehearse,
        }[order.verb]
        return act(order.about, order.by, time.monotonic())

    def publish(self, situations: Sequence[Situation]) -> None:
        """Commit situation versions and hand them on."""
        for alert in self._reports.tell(situations, self._pipeline.class_set):
            data, because = alert.data, "; ".join(alert.data.because)
            phase, name, zone = data.situation.phase, data.animal.class_, data.where.zone.id
            log.info("%s %s in zone %s: %s", phase, name, zone, because, extra=about(alert))
            self._told(alert)

    def end(self, reason: EndReason) -> None:
        """Close the cameras, end what is open, and say of every zone that nobody looks any more."""
        self._fleet.close()
        self.publish(self._pipeline.end_all(reason, time.monotonic()))
        self._fleet.lose()
        self._reports.tell_levels((), self._fleet.healths)


def about(alert: Alert) -> dict[str, str]:
    """Return what a line of the log about an alert is found by."""
    where = alert.data.where
    situation = alert.data.situation.id
    return {"camera": where.cameras[0], "zone": where.zone.id, "situation": situation, "event": alert.id}
