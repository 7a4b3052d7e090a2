"""Recorded clips to label, from one folder and those in it: half a minute of one, as a camera's last half minute."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from adapters.errors import ConfigError, InputError
from monitor.cameras.stream import CameraError, Source, opened, read_recording
from monitor.console.board import JPEG_QUALITY, KEEP_EVERY_S, KEEP_S
from monitor.console.picture import Picture
from monitor.replay import is_clip
from monitor.truth import Look, note_visit
from monitor.values import Frame

MOST_LISTED = 500
LONGEST_S = 60.0  # of reading; what lies farther into a clip is reached by cutting it


class Recordings:
    """The clips of a folder; none where there is no folder. One is read at a time: the cameras need the processor."""

    def __init__(self, folder: Path | None) -> None:
        self._folder, self._busy = folder, Lock()

    def listed(self) -> list[str]:
        """Return the names of the clips, in order."""
        if self._folder is None or not self._folder.is_dir():
            return []
        inside = self._folder.resolve()
        found = [*self._folder.glob("*"), *self._folder.glob("*/*")]  # a folder for each camera, as `accept` wants it
        clips = [clip for clip in found if is_clip(clip) and clip.resolve().is_relative_to(inside)]
        own = [clip.relative_to(self._folder) for clip in clips]
        return sorted(str(name) for name in own)[:MOST_LISTED]

    def pictures(self, name: str, from_s: float) -> list[Picture]:
        """Return half a minute of a clip from a time on; `at` of each is its time in the clip.

        Raises:
            ConfigError: there is no such clip, or another one is being read.
            InputError: it can't be read, or not that far.
        """
        clip = self._clip(name)
        if not self._busy.acquire(blocking=False):
            raise ConfigError("another recording is being read: wait a moment")
        try:
            return self._read(name, clip, from_s)
        finally:
            self._busy.release()

    def note(self, name: str, label: str, looks: Sequence[Look]) -> int:
        """Add a visit to the truth file of a clip, or say that it shows no animal; return how many visits it has.

        Raises:
            ConfigError: there is no such clip.
            InputError: see `note_visit`; or the clip can't be opened.
        """
        clip = self._clip(name)
        try:
            shown = opened(Source(name=name, url=str(clip), analysis_rate_hz=1.0))
        except CameraError as error:
            raise InputError(str(error)) from None
        return note_visit(clip, shown.fps, shown.size, label, looks)

    def _clip(self, name: str) -> Path:
        if self._folder is None or name not in self.listed():
            raise ConfigError("there is no recording of that name")
        return self._folder / name

    def _read(self, name: str, clip: Path, from_s: float) -> list[Picture]:
        begun_s, found = time.monotonic(), []
        events = read_recording(Source(name=name, url=str(clip), analysis_rate_hz=1 / KEEP_EVERY_S), gently=True)
        try:
            for event in events:
                if not isinstance(event, Frame):
                    continue
                if event.time_s > from_s + KEEP_S:
                    break
                if event.time_s >= from_s:
                    found.append(Picture.of(event, event.image, at=event.time_s, quality=JPEG_QUALITY))
                elif time.monotonic() - begun_s > LONGEST_S:
                    raise InputError(
                        f"{clip.name}: {event.time_s:.0f} s of it were read in {LONGEST_S:.0f} s; "
                        "begin before that, or cut the clip"
                    )
        except CameraError as error:
            raise InputError(str(error).replace(str(clip), clip.name)) from None
        finally:
            events.close()
        return found
