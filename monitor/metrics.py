"""What monitoring systems read: `/metrics` for Prometheus, `/livez` and `/readyz` for whoever restarts or routes.

Names follow the conventions of Prometheus: base units, `_total` for counters, `wildlane_` before all.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app

from adapters.errors import ConfigError
from monitor.alerts.schema import Alert
from monitor.cameras.health import Health
from monitor.values import Frame

LATENCIES_S = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
STAGES_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
STATES = ("ok", "degraded", "blind")


Probe = Callable[[], Sequence[str]]  # what is wrong, in plain words; nothing where all is well


class Metrics:
    """The meters of one run; a registry of its own, so that two runs of one process do not mix."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.frame_age = Histogram(
            "wildlane_frame_age_seconds",
            "From the capture of an analysed frame to the decision about it",
            ["camera"],
            buckets=LATENCIES_S,
            registry=registry,
        )
        self.glass_to_alert = Histogram(
            "wildlane_glass_to_alert_seconds",
            "From the capture of the frame that confirmed an animal to its alert's commit to disk",
            buckets=LATENCIES_S,
            registry=registry,
        )
        self.stage = Histogram(
            "wildlane_stage_seconds",
            "Time of a stage of the live path, for a round of frames; of a decoder, for a frame handed over",
            ["stage"],
            buckets=STAGES_S,
            registry=registry,
        )
        self.inference = Histogram(
            "wildlane_inference_seconds",
            "Time of one run of the encoder",
            ["provider", "batch"],
            buckets=STAGES_S,
            registry=registry,
        )
        self.frames = Counter("wildlane_frames_analysed_total", "Frames analysed", ["camera"], registry=registry)
        self.dropped = Counter(
            "wildlane_frames_dropped_total", "Due frames that were not taken in time", ["camera"], registry=registry
        )
        self.ended = Counter(
            "wildlane_streams_ended_total", "Streams that ended, by cause", ["camera", "reason"], registry=registry
        )
        self.alerts = Counter("wildlane_alerts_total", "Situation versions committed", ["phase"], registry=registry)
        self.state = Gauge(
            "wildlane_camera_state", "1 for the state that a camera is in", ["camera", "state"], registry=registry
        )
        self.unsent = Gauge("wildlane_events_unsent", "Events that no broker has taken yet", registry=registry)
        self.parked = Gauge("wildlane_events_parked", "Events that the broker refused for good", registry=registry)
        self.gpu_lost = Gauge("wildlane_gpu_lost", "1 where the GPU failed and the CPU took over", registry=registry)
        self._dropped_before: dict[str, int] = {}
        self._shown: set[str] = set()

    def stage_took(self, stage: str, seconds: float) -> None:
        """Note the time of a stage."""
        self.stage.labels(stage).observe(seconds)

    def encoded(self, provider: str, crops: int, seconds: float) -> None:
        """Note a run of the encoder; the batch is told as the power of two that holds it."""
        self.inference.labels(provider, 1 << (crops - 1).bit_length()).observe(seconds)

    def analysed(self, frame: Frame) -> None:
        """Note a frame that a decision was made about just now."""
        self.frames.labels(frame.camera).inc()
        self.frame_age.labels(frame.camera).observe(max(0.0, time.time() - frame.captured_s))
        self.dropped.labels(frame.camera).inc(frame.dropped - self._dropped_before.get(frame.camera, 0))
        self._dropped_before[frame.camera] = frame.dropped
        for stage, seconds in frame.stage_s.items():
            self.stage_took(stage, seconds)

    def told(self, alert: Alert) -> None:
        """Note an alert that is on disk."""
        phase, provenance = alert.data.situation.phase, alert.data.provenance
        self.alerts.labels(phase).inc()
        if phase == "start":
            self.glass_to_alert.observe(max(0.0, time.time() - provenance.captured.timestamp()))

    def lost(self, camera: str, reason: str) -> None:
        """Note a stream that ended."""
        self.ended.labels(camera, _cause(reason)).inc()
        self._dropped_before.pop(camera, None)  # the next stream counts anew

    def site(self, healths: Mapping[str, Health], unsent: int, parked: int, *, gpu_lost: bool) -> None:
        """Show the state of each camera and of the GPU, and what is on its way to the broker."""
        for name in self._shown - healths.keys():
            for state in STATES:
                self.state.remove(name, state)
        self._shown = set(healths)
        for name, health in healths.items():
            for state in STATES:
                self.state.labels(name, state).set(health.state == state)
        self.unsent.set(unsent)
        self.parked.set(parked)
        self.gpu_lost.set(gpu_lost)


def _cause(reason: str) -> str:
    """Return one of a few causes: a label of a meter must not hold whatever a decoder says."""
    known = {"hung": "hung", "was ended by": "killed", "ended with status": "crashed", "can't be opened": "not-opened"}
    found = next((cause for words, cause in known.items() if words in reason), "ended")
    return found if reason else "over"


class MetricsServer:
    """Serves the meters and both probes over HTTP, on threads of its own."""

    def __init__(self, host: str, port: int, metrics: Metrics, probes: Mapping[str, Probe]) -> None:
        """Begin to serve.

        Args:
            host: address to listen on.
            port: TCP port, 0 for any free one.
            metrics: what `/metrics` shows.
            probes: by path, such as `/livez`.

        Raises:
            ConfigError: the port can't be had.
        """
        self._show, self._probes = make_wsgi_app(metrics.registry), probes
        try:
            self._server = make_server(host, port, self._serve, server_class=_Server, handler_class=_Quiet)
        except OSError as error:
            raise ConfigError(f"[metrics] can't listen on {host}:{port} ({error}); set another port") from None
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return self._show(environ, start_response)  # type: ignore[no-any-return]  # untyped there
        if path not in self._probes:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"there are /metrics, /livez and /readyz\n"]
        problems = self._probes[path]()
        start_response(
            "503 Service Unavailable" if problems else "200 OK", [("Content-Type", "application/json; charset=utf-8")]
        )
        return [json.dumps({"ok": not problems, "problems": problems}).encode() + b"\n"]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10  # seconds: a connection that says nothing is closed

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Say nothing: a scrape every few seconds is no news."""
