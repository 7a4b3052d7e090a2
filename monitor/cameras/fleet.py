"""All cameras of a site: their decoders are opened, listened to, and opened again; their health is kept."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from monitor.cameras.health import Health, HealthMonitor
from monitor.cameras.knock import Knock, wants_knock
from monitor.cameras.picture import UsualView
from monitor.cameras.stream import DecoderProcess, Ended, Event, Opened, Reconnection, Source
from monitor.values import Frame

log = logging.getLogger(__name__)

OPEN_ANYWAY_S = 20.0
USUAL_FOR_S = 3600.0  # after a longer absence the light is another, and with it the view
STEADY_S = 30.0  # a stream that lasts so long has not just come back to break again
KNOCK_MOST_S = 1.0  # between knocks, which cost next to nothing: a camera must be back within five seconds


@dataclass
class Camera:
    """A camera of the running program: its source, its decoder while there is one, and its health."""

    source: Source
    health: HealthMonitor
    reconnection: Reconnection
    decoder: DecoderProcess | None = None
    opened_s: float = 0.0
    lost_s: float = 0.0
    usual: UsualView | None = None  # what it showed before its stream broke
    retry_at_s: float = 0.0
    knock: Knock | None = None  # while it is not known whether somebody is at its address
    knock_at_s: float = 0.0
    at_home: bool = True  # whether somebody answered there last; nobody has asked yet
    open_anyway_at_s: float = 0.0  # where somebody takes connections but answers no knock
    knocking: Reconnection = field(default_factory=lambda: Reconnection(most_s=KNOCK_MOST_S))
    said: Health | None = None  # what the log said last
    finished: bool = False  # a recording that was played to its end

    @property
    def name(self) -> str:
        """The camera's name in the configuration."""
        return self.source.name

    @property
    def about(self) -> dict[str, str]:
        """What a line of the log about it is found by."""
        return {"camera": self.name}


class Fleet:
    """The cameras, each with a decoder process of its own, so that a broken one leaves the others alone."""

    def __init__(
        self, sources: Sequence[Source], now: Callable[[], float], *, lost: Callable[[str, str], None]
    ) -> None:
        """Begin with all cameras closed.

        Args:
            sources: of the cameras.
            now: the clock of the run, in seconds.
            lost: told of each stream that ended: the camera's name, and why; '' is a recording's plain end.
        """
        self._now, self._lost = now, lost
        self._cameras = {source.name: self._camera(source) for source in sources}

    @property
    def names(self) -> tuple[str, ...]:
        """The cameras' names."""
        return tuple(self._cameras)

    @property
    def healths(self) -> Mapping[str, HealthMonitor]:
        """The health of each camera."""
        return {name: camera.health for name, camera in self._cameras.items()}

    @property
    def finished(self) -> bool:
        """Every source was a recording and has ended."""
        return all(camera.finished for camera in self._cameras.values())

    def check(self) -> dict[str, Health]:
        """Return the health of each camera, after noticing streams that give nothing."""
        healths = {name: camera.health.check() for name, camera in self._cameras.items()}
        for camera in self._cameras.values():
            _say(camera)
        return healths

    def blind(self) -> frozenset[str]:
        """Return the cameras that see nothing now."""
        return frozenset(name for name, health in self.check().items() if health.state == "blind")

    def open(self) -> None:
        """Start every decoder."""
        for camera in self._cameras.values():
            self._open(camera)

    def change(self, sources: Sequence[Source]) -> None:
        """Close the cameras that are gone or changed and open the new ones; the others notice nothing."""
        wanted = {source.name: source for source in sources}
        for name, camera in list(self._cameras.items()):
            if wanted.get(name) == camera.source:
                continue
            log.info("camera %s: %s", name, "changed" if name in wanted else "removed", extra=camera.about)
            if camera.decoder is not None:
                camera.decoder.stop()
            self._lost(name, "")
            del self._cameras[name]
        for name, source in wanted.items():
            if name not in self._cameras:
                self._cameras[name] = self._camera(source)
                self._open(self._cameras[name])

    def close(self) -> None:
        """Stop every decoder."""
        for camera in self._cameras.values():
            if camera.decoder is not None:
                camera.decoder.stop()
                camera.decoder = None

    def lose(self) -> None:
        """Note that nobody looks any more."""
        for camera in self._cameras.values():
            camera.health.lost()

    def wait(self, stop: threading.Event, timeout_s: float) -> None:
        """Wait until a decoder has something to tell, or for so long."""
        listening = [camera.decoder.connection for camera in self._cameras.values() if camera.decoder]
        if listening:
            wait(listening, timeout=timeout_s)
        else:
            stop.wait(timeout_s)

    def frames(self) -> list[Frame]:
        """Return the newest frame of each camera that has one, after dealing with all else that happened."""
        events = [self._next_event(camera) for camera in self._cameras.values()]
        return [event for event in events if isinstance(event, Frame)]

    def release(self, frame: Frame) -> None:
        """Hand a frame's memory back to its decoder."""
        decoder = self._cameras[frame.camera].decoder
        if decoder is not None:
            decoder.release(frame)

    def _camera(self, source: Source) -> Camera:
        times = {"stalled_s": source.stalled_s, "wrong_rate_s": source.wrong_rate_s}
        return Camera(source, HealthMonitor(self._now, source.analysis_rate_hz, **times), Reconnection())

    def _next_event(self, camera: Camera) -> Event | None:
        if camera.decoder is None:
            if not camera.finished:
                self._try(camera)
            return None
        event = camera.decoder.receive()
        if isinstance(event, Opened):
            camera.opened_s = self._now()
            decoded_by = event.accelerator or "the CPU"
            log.info(
                "camera %s: open, %d x %d at %.1f frames a second, decoded by %s",
                camera.name,
                *event.size,
                event.fps,
                decoded_by,
                extra=camera.about,
            )
        elif isinstance(event, Frame):
            self._take(camera, event)
        elif isinstance(event, Ended):
            self._close(camera, event)
        return event

    def _take(self, camera: Camera, frame: Frame) -> None:
        camera.health.frame(frame.fault, frame.dropped)
        _say(camera)
        if self._now() - camera.opened_s >= STEADY_S:
            camera.reconnection.succeeded()

    def _try(self, camera: Camera) -> None:
        """Open a camera that was lost: after its pause, and at once where somebody answers who was away."""
        due = self._now() >= camera.retry_at_s
        if not wants_knock(camera.source.url):
            if due:
                self._open(camera)
            return
        if camera.knock is None:
            if self._now() >= camera.knock_at_s and (due or not camera.at_home):
                camera.knock = Knock(camera.source.url)
            return
        if (answered := camera.knock.answered) is None:
            return
        silent = camera.knock.connected and not answered and self._now() >= camera.open_anyway_at_s
        back = answered and not camera.at_home
        camera.knock, camera.at_home = None, answered
        if back or (due and (answered or silent)):
            camera.knocking.succeeded()
            camera.knock_at_s = 0.0
            self._open(camera)
        else:
            camera.knock_at_s = self._now() + camera.knocking.next_pause_s()

    def _open(self, camera: Camera) -> None:
        try:
            fresh = self._now() - camera.lost_s < USUAL_FOR_S
            camera.decoder = DecoderProcess(
                camera.source,
                "paced" if camera.source.is_recording else "live",
                usual=camera.usual if fresh else None,
            )
        except OSError as error:  # no memory, no process, no descriptor: the other cameras go on
            pause_s = camera.reconnection.next_pause_s()
            camera.retry_at_s = self._now() + pause_s
            words = "camera %s: no decoder can be started (%s); next attempt in %.1f s"
            log.error(words, camera.name, error, pause_s, extra=camera.about)  # noqa: TRY400  # one line

    def _close(self, camera: Camera, ended: Ended) -> None:
        assert camera.decoder is not None  # it has just told its end
        camera.usual, camera.lost_s = camera.decoder.usual, self._now()
        camera.decoder.stop()
        camera.decoder = None
        camera.health.lost()
        self._lost(camera.name, ended.reason)
        if camera.source.is_recording and not ended.reason:
            camera.finished = True
            log.info("camera %s: the recording is over", camera.name, extra=camera.about)
            return
        pause_s = camera.reconnection.next_pause_s()
        camera.retry_at_s = self._now() + pause_s
        camera.open_anyway_at_s = self._now() + OPEN_ANYWAY_S
        url = redacted(camera.source.url)
        words = "camera %s: %s: %s; next attempt in %.1f s"
        log.warning(words, camera.name, url, ended.reason, pause_s, extra=camera.about)


def _say(camera: Camera) -> None:
    """Log the health of a camera where it changed; how a stream ended is said with its cause."""
    health = camera.health.health
    if camera.said == health:
        return
    camera.said = health
    if health.state == "ok":
        log.info("camera %s: sees", camera.name, extra=camera.about)
    elif health.reason != "lost":
        log.warning("camera %s: %s: %s", camera.name, health.state, health.reason, extra=camera.about)


def redacted(url: str) -> str:
    """Return a source without the user name and password that it may hold."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"  # a password may hold a slash
