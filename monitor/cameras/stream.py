"""A camera as the daemon sees it: a decoder process that is started, listened to, watched, killed and started again."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Literal

from adapters.errors import InputError
from monitor.cameras.decoder import Request
from monitor.cameras.picture import UsualView
from monitor.cameras.ring import FrameRing, make_memory
from monitor.values import FAULT_TIMES_S, STALLED_S, WRONG_RATE_S, Box, Fault, Frame, Polygon

log = logging.getLogger(__name__)

Pace = Literal["live", "paced", "lossless"]
# a decoder multiplies no matrices: threads for that would only cost its start and its memory
ENVIRONMENT = {"OPENCV_LOG_LEVEL": "ERROR", "OPENCV_FFMPEG_LOGLEVEL": "-8", "OPENBLAS_NUM_THREADS": "1"}
HANG_MARGIN_S = 3.0  # beyond OpenCV's own time-outs, which do not cover every way to hang
START_MARGIN_S = 5.0  # to start Python and load OpenCV on a busy machine
GENTLE_NICE = 10
KILL_PATIENCE_S = 1.0  # for a killed process to be gone
LAST_WORDS_BYTES = 4096  # kept of what a decoder complained of
RETRY_FIRST_S = 1.0
RETRY_GROWTH = 1.5
RETRY_MOST_S = 10.0  # each attempt costs a third of a second of a processor core


class CameraError(InputError):
    """A camera or recording gives no frames; the message names it. The daemon opens it again later."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The source is open. `size` is (width, height) in pixels; `accelerator` is empty where the CPU decodes."""

    size: tuple[int, int]
    fps: float
    accelerator: str = ""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The source gives no more frames. An empty reason is the plain end of a recording of so many frames.

    `stage_s` tells what the decoder spent its time on, in seconds.
    """

    reason: str
    frames: int = 0
    stage_s: Mapping[str, float] = field(default_factory=dict, compare=False)


Event = Opened | Frame | Ended


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the pictures come from, and how they are to be read."""

    name: str  # of the camera
    url: str  # a file, a device number or path, or a URL
    analysis_rate_hz: float
    open_timeout_s: float = 5.0
    read_timeout_s: float = 5.0
    hardware: bool = False  # decode on the graphics chip where there is one
    masks_px: tuple[Polygon, ...] = ()  # nobody looks there
    fault_times_s: Mapping[Fault, float] = field(default_factory=lambda: FAULT_TIMES_S)
    stalled_s: float = STALLED_S
    wrong_rate_s: float = WRONG_RATE_S

    @property
    def is_recording(self) -> bool:
        """A file, which has an end and can be played at any speed."""
        return Path(self.url).is_file() or not (
            "://" in self.url or self.url.isdecimal() or self.url.startswith("/dev/")
        )


class DecoderProcess:
    """One run of the decoder of a source, from its start to its end.

    `connection` becomes readable when `receive` has something to tell.
    """

    def __init__(
        self,
        source: Source,
        pace: Pace,
        *,
        usual: UsualView | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start it.

        Args:
            source: what to decode.
            pace: at which speed.
            usual: what the camera showed before its stream broke.
            now: the clock that tells when it hangs.

        Raises:
            OSError: it can't be started.
        """
        self._source, self._now = source, now
        self.usual = usual  # what the camera usually shows, as far as it is known
        self._ring: FrameRing | None = None
        self._last_words = b""
        self._parts = contextlib.ExitStack()
        try:
            self._start(pace)
        except BaseException:
            self._parts.close()
            raise
        self._deadline = now() + START_MARGIN_S + source.open_timeout_s

    def _start(self, pace: Pace) -> None:
        source = self._source
        self._memory = make_memory()
        self._parts.callback(os.close, self._memory)
        self._errors, their_errors = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)  # a child that complains never waits for us
        self._parts.callback(os.close, self._errors)
        ours, theirs = socket.socketpair()
        self.connection = Connection(ours.detach())
        self._parts.callback(self.connection.close)
        request = Request(
            source=source.url,
            pace=pace,
            analysis_rate_hz=source.analysis_rate_hz,
            open_timeout_s=source.open_timeout_s,
            read_timeout_s=source.read_timeout_s,
            hardware=source.hardware,
            masks_px=source.masks_px,
            fault_times_s=dict(source.fault_times_s),
            usual=self.usual,
            memory=self._memory,
        )
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own module
                [sys.executable, "-m", "monitor.cameras.decoder", str(theirs.fileno()), source.name],
                pass_fds=(theirs.fileno(), self._memory),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=their_errors,
                env={**os.environ, **ENVIRONMENT},
            )
        finally:
            theirs.close()
            os.close(their_errors)
        self._parts.callback(self._end)
        self.connection.send_bytes(json.dumps(asdict(request)).encode())

    def receive(self) -> Event | None:
        """Return what the decoder has said, None where it has said nothing.

        The image of a frame is a view that stays valid until `release`.
        A decoder that hung is killed, one that crashed is told of, both as `Ended`.
        """
        self._hear()
        try:
            if not self.connection.poll():
                return self._hung() if self._now() > self._deadline else None
            message = json.loads(self.connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            return Ended(reason=self._crash())
        self._renew()
        if message["event"] == "opened":
            size = (message["width"], message["height"])
            self._ring = FrameRing(self._memory, size)
            return Opened(size=size, fps=message["fps"], accelerator=message["accelerator"])
        if message["event"] == "usual":
            self.usual = UsualView(message["sharpness"], tuple(message["edges"]))
            return None
        if message["event"] == "ended":
            return Ended(
                reason=message["reason"] or self._crash_at_exit(),
                frames=message["frames"],
                stage_s=message["stage_s"],
            )
        return self._frame(message)

    def _frame(self, message: dict[str, object]) -> Frame:
        assert self._ring is not None  # "opened" always comes first
        return Frame(
            camera=self._source.name,
            index=message["index"],  # type: ignore[arg-type]  # our own decoder wrote it
            time_s=message["time_s"],  # type: ignore[arg-type]
            captured_s=message["captured_s"],  # type: ignore[arg-type]
            image=self._ring.slot(message["slot"]),  # type: ignore[arg-type]
            slot=message["slot"],  # type: ignore[arg-type]
            moving=tuple(Box(*box) for box in message["moving"]),  # type: ignore[attr-defined]
            fault=message["fault"],  # type: ignore[arg-type]
            dropped=message["dropped"],  # type: ignore[arg-type]
            stage_s=message["stage_s"],  # type: ignore[arg-type]
        )

    def release(self, frame: Frame) -> None:
        """Hand a frame's slot back to the decoder; its image must not be used any more."""
        self._renew()
        with contextlib.suppress(OSError):  # the decoder is gone; the next `receive` says so
            self.connection.send_bytes(json.dumps({"free": frame.slot}).encode())

    def step_back(self) -> None:
        """Let others have the processor first."""
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, GENTLE_NICE)

    def stop(self) -> None:
        """Kill the decoder; it holds nothing that needs a goodbye."""
        self._parts.close()

    def _renew(self) -> None:
        """Wait again as long as a decoder may take that waits for its source, not for us."""
        self._deadline = self._now() + self._source.read_timeout_s + HANG_MARGIN_S

    def _end(self) -> int | None:
        """Kill the decoder and return its exit status; None where the kernel keeps it (a driver, a network disk).

        Python itself reaps such a one later; the other cameras must not wait for it.
        """
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=KILL_PATIENCE_S)
        return None

    def _hung(self) -> Ended:
        self._process.kill()
        return Ended(reason="the decoder hung and was killed")

    def _crash(self) -> str:
        try:
            status: int | None = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            status = self._end()
        self._hear()
        how = "does not end"
        if status is not None:
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        lines = self._last_words.decode("utf-8", "replace").strip().splitlines()
        said = f" ({lines[-1][:200]})" if lines else ""
        return f"the decoder {how}{said}"

    def _crash_at_exit(self) -> str:
        """Return '' for a decoder that ended in peace: some files abort it at the very end, after all frames came."""
        try:
            return "" if self._process.wait(timeout=2) == 0 else self._crash()
        except subprocess.TimeoutExpired:
            return self._hung().reason

    def _hear(self) -> None:
        """Take in what the decoder complained of, and keep the end of it."""
        with contextlib.suppress(BlockingIOError):
            while said := os.read(self._errors, 65_536):
                self._last_words = (self._last_words + said)[-LAST_WORDS_BYTES:]


def read_recording(source: Source, *, gently: bool = False) -> Generator[Event]:
    """Yield every event of a recording to its end, none dropped; a frame is released after its use.

    Args:
        source: the recording.
        gently: leave the processor to others who want it.

    Raises:
        CameraError: it can't be read to its end.
    """
    decoder = DecoderProcess(source, "lossless")
    if gently:
        decoder.step_back()
    try:
        while True:
            wait([decoder.connection], timeout=1)
            event = decoder.receive()
            if isinstance(event, Ended) and event.reason:
                raise CameraError(f"{source.url}: {event.reason}")
            if event is not None:
                yield event
            if isinstance(event, Frame):
                decoder.release(event)
            elif isinstance(event, Ended):
                return
    finally:
        decoder.stop()


def opened(source: Source) -> Opened:
    """Return what a source is like, after opening it once.

    Raises:
        CameraError: it can't be opened.
    """
    decoder = DecoderProcess(source, "live")
    try:
        while not isinstance(event := decoder.receive(), Opened | Ended):
            wait([decoder.connection], timeout=0.1)
    finally:
        decoder.stop()
    if isinstance(event, Ended):
        raise CameraError(f"camera {source.name}: {event.reason}")
    return event


class Reconnection:
    """When to try again: pauses that grow by half from a second, each drawn at random up to that length."""

    def __init__(self, *, most_s: float = RETRY_MOST_S, draw: Callable[[float, float], float] = random.uniform) -> None:
        """Begin with the shortest pause.

        Args:
            most_s: the longest pause.
            draw: draws one between two lengths.
        """
        self._most_s, self._draw, self._failures = most_s, draw, 0

    def next_pause_s(self) -> float:
        """Return the pause before the next attempt."""
        grown = RETRY_GROWTH ** min(self._failures, 20)  # without a bound it overflows after a while
        longest = min(self._most_s, RETRY_FIRST_S * grown)
        self._failures += 1
        return self._draw(longest / 2, longest)

    def succeeded(self) -> None:
        """Begin again with the shortest pause; call it when a frame came, not when the source only opened."""
        self._failures = 0
