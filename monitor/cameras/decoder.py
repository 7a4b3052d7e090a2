"""The child process of a camera: decodes, finds motion, hands frames over. `python -m monitor.cameras.decoder FD NAME`.

It is a process because a decoder can hang for ever or abort, and must then be killable without harm to the other
cameras. Messages to and from the parent are JSON, one object each; see `stream.py` for their meaning.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from monitor.cameras.container import cut_short
from monitor.cameras.handover import HandOver
from monitor.cameras.picture import PictureWatch, UsualView
from monitor.cameras.ring import FrameRing
from monitor.cameras.timing import StreamTiming
from monitor.clock import Every
from monitor.regions import MotionRegions
from monitor.stages import Stages
from monitor.values import Fault, Polygon

MIN_DECODED_SHARE = 0.9  # of the frames a container declares; healthy files were seen to fall 3 % short
FALLBACK_FPS = 25.0  # where the container names no usable rate
SILENT = 0.9  # of the read time-out; a grab that took so long found nothing
USUAL_EVERY_S = 30.0  # the parent is told what the camera usually shows, for its next stream
FAULT_EVERY_S = 0.9  # pictures are judged about once a second: a fault lasts for several
ACCELERATORS = {
    cv2.VIDEO_ACCELERATION_D3D11: "D3D11",
    cv2.VIDEO_ACCELERATION_VAAPI: "VA-API",
    cv2.VIDEO_ACCELERATION_MFX: "oneVPL",
    cv2.VIDEO_ACCELERATION_DRM: "DRM",
}
MASKED = (114, 114, 114)  # what nobody may look at is shown in this grey, BGR
PR_SET_PDEATHSIG = 1


class StreamEnded(Exception):  # noqa: N818  # an end is no error
    """The source gives no more frames; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the parent asks for; `stream.py` fills it."""

    source: str
    # "live": as the source comes; "paced": a recording at its own speed; "lossless": as fast as the parent takes
    pace: str
    analysis_rate_hz: float
    open_timeout_s: float
    read_timeout_s: float
    hardware: bool  # decode on the graphics chip where there is one
    masks_px: tuple[Polygon, ...]
    fault_times_s: dict[Fault, float]  # how long each must last before it is told
    usual: UsualView | None  # what the camera showed before its stream broke
    memory: int  # inherited descriptor


class Decoder:
    """One opened source, and the parent at the other end of a connection."""

    def __init__(self, request: Request, parent: Connection) -> None:
        self._request = request
        self._masks = [np.array(mask, np.float64).round().astype(np.int32) for mask in request.masks_px]
        self._motion = MotionRegions(self._masks)
        self._watch, self._judging = PictureWatch(request.fault_times_s, request.usual), Every(FAULT_EVERY_S)
        self._telling_usual = Every(USUAL_EVERY_S, first_s=USUAL_EVERY_S)
        self._timing = StreamTiming(request.fault_times_s["clock"])
        self._fault: Fault | None = None
        self._stages = Stages()
        self._grabbed_frames = 0
        self._first_stamp_s = self._last_time_s = 0.0
        self._capture = _open(request)
        self.size = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        declared = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = declared if 1 <= declared <= 240 else FALLBACK_FPS
        self._parent = HandOver(parent, FrameRing(request.memory, self.size))

    def run(self) -> None:
        """Hand over every frame that is due, until the source ends.

        Raises:
            StreamEnded: always, in the end.
        """
        self._parent.say(
            event="opened",
            width=self.size[0],
            height=self.size[1],
            fps=self.fps,
            accelerator=ACCELERATORS.get(int(self._capture.get(cv2.CAP_PROP_HW_ACCELERATION)), ""),
        )
        next_due_s = 0.0
        for index, time_s, captured_s in self._grabbed():
            # half a frame of slack, so that 30 frames a second at 5 Hz is every sixth frame whatever the rounding
            if time_s + 0.5 / self.fps < next_due_s:
                continue
            next_due_s = max(next_due_s + 1 / self._request.analysis_rate_hz, time_s)
            self._hand_over(index, time_s, captured_s)

    def _grabbed(self) -> Iterator[tuple[int, float, float]]:
        """Yield (index, seconds since the first frame, wall time) of each grabbed frame, at the pace asked for."""
        started = time.monotonic()
        while True:
            asked_s = time.monotonic()
            with self._stages.timed("grab"):
                grabbed = self._capture.grab()
            if self._request.pace == "live" and time.monotonic() - asked_s > SILENT * self._request.read_timeout_s:
                # what comes after a time-out are frames that FFmpeg had kept, not a camera that is back
                raise StreamEnded(f"no frame for {time.monotonic() - asked_s:.0f} s")
            if not grabbed:
                raise StreamEnded(self._why_ended(self._grabbed_frames))
            index = self._grabbed_frames
            self._grabbed_frames += 1
            time_s = time.monotonic() - started if self._request.pace == "live" else self._video_time_s(index)
            if self._request.pace == "paced":
                time.sleep(max(0.0, started + time_s - time.monotonic()))
            yield index, time_s, time.time()

    def _video_time_s(self, index: int) -> float:
        """Return the time of the grabbed frame since the first: the container's stamp, else one period after the last.

        Frame rates vary and are named wrongly; stamps that stand still or run backwards are no better.
        """
        stamp_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if index == 0:
            self._first_stamp_s = stamp_s
            self._last_time_s = 0.0
        elif stamp_s - self._first_stamp_s > self._last_time_s:
            self._last_time_s = stamp_s - self._first_stamp_s
        else:
            self._last_time_s += 1 / self.fps
        return self._last_time_s

    def _why_ended(self, frames: int) -> str:
        if self._request.pace == "live":
            return "the stream stopped"
        declared = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        if frames == 0:
            return "no frame of it can be decoded"
        if frames < MIN_DECODED_SHARE * declared:
            return f"cut short: {frames} of {declared:.0f} frames can be decoded"
        return ""

    def _hand_over(self, index: int, time_s: float, captured_s: float) -> None:
        if self._request.pace == "lossless":
            self._parent.wait_for_room()
        image = self._retrieved()
        if image is None:
            return
        with self._stages.timed("motion"):
            moving = self._motion.find(image)
        if self._motion.luma is not None and self._judging.is_due(time_s):
            with self._stages.timed("health"):
                self._fault = self._watch.look(self._motion.luma, time_s)
            if self._fault is None and self._is_off(time_s):
                self._fault = "clock"
            if self._telling_usual.is_due(time_s) and (usual := self._watch.usual) is not None:
                self._parent.say(event="usual", **asdict(usual))
        for mask in self._masks:  # after its health was judged: a covered camera has no grey patches
            cv2.fillPoly(image, [mask], MASKED)  # one by one: together, what two of them cover would be left open
        with self._stages.timed("hand-over"):
            self._parent.offer(
                index=index,
                time_s=time_s,
                captured_s=captured_s,
                moving=[list(box) for box in moving],
                fault=self._fault,
                stage_s=self._stages.since_last(),
            )

    def _retrieved(self) -> NDArray[np.uint8] | None:
        """Return the grabbed frame, in the memory that the parent shares; None where it can't be converted."""
        room = self._parent.room()
        with self._stages.timed("retrieve"):
            ok, image = self._capture.retrieve(room)
        if not ok:
            return None
        if (image.shape[1], image.shape[0]) != self.size:
            raise StreamEnded(
                f"the picture changed from {self.size[0]}x{self.size[1]} to {image.shape[1]}x{image.shape[0]}"
            )
        if not np.shares_memory(room, image):  # not every backend takes the memory it is given
            room[:] = image
        return room

    def _is_off(self, time_s: float) -> bool:
        """Tell whether the stream's own time has left ours; a recording has no other than its own."""
        stamp_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return self._request.pace == "live" and self._timing.is_off(stamp_s, time_s)

    def close(self, reason: str) -> None:
        """Release the source, since some files abort the process there, and only then say how it ended."""
        if self._request.pace == "lossless":
            self._parent.wait_for_room()
        self._capture.release()
        self._parent.say(event="ended", reason=reason, frames=self._grabbed_frames, stage_s=self._stages.seconds)


def _open(request: Request) -> cv2.VideoCapture:
    source = request.source
    if request.pace != "live" and (missing := _missing_part(Path(source))):
        raise StreamEnded(missing)
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")  # UDP loses packets without a word
    wanted = [
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
        round(1000 * request.open_timeout_s),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC,
        round(1000 * request.read_timeout_s),
        cv2.CAP_PROP_HW_ACCELERATION,
        cv2.VIDEO_ACCELERATION_ANY if request.hardware else cv2.VIDEO_ACCELERATION_NONE,
    ]
    if request.pace != "lossless":
        # each further thread of FFmpeg holds back a frame, which nobody could tell from a late camera
        wanted += [cv2.CAP_PROP_N_THREADS, 1]
    if request.pace != "live":
        # absolute, so that a colon in the name is no protocol
        capture = cv2.VideoCapture(str(Path(source).absolute()), cv2.CAP_FFMPEG, wanted)
    elif source.isdecimal() or source.startswith("/dev/"):
        capture = cv2.VideoCapture(int(source) if source.isdecimal() else source, cv2.CAP_V4L2)
    else:
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, wanted)
    if not capture.isOpened():
        raise StreamEnded(
            "can't be opened: "
            + ("no answer, or not a camera stream" if request.pace == "live" else "not a video that FFmpeg knows")
        )
    return capture


def _missing_part(path: Path) -> str | None:
    if not path.is_file():
        return "no such file"
    if path.stat().st_size == 0:
        return "the file is empty"
    missing = cut_short(path)
    return f"cut short: {missing}" if missing else None


def main() -> None:
    """Serve one parent until the source or the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides when to stop
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a decoder hung in the network outlives no parent
    cv2.setNumThreads(1)  # one camera, one core: more cameras run beside
    parent = Connection(int(sys.argv[1]))
    asked = json.loads(parent.recv_bytes())  # not in argv, which every user of the machine may read
    request = Request(**asked | {"usual": UsualView(**asked["usual"]) if asked["usual"] else None})
    try:
        decoder = Decoder(request, parent)
    except StreamEnded as ended:
        parent.send_bytes(json.dumps({"event": "ended", "reason": str(ended), "frames": 0, "stage_s": {}}).encode())
        return
    try:
        try:
            decoder.run()
        except StreamEnded as ended:
            decoder.close(str(ended))
    except (BrokenPipeError, ConnectionResetError, EOFError):
        return  # the parent is gone or wants no more


if __name__ == "__main__":
    main()
