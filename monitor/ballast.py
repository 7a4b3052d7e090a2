"""A file that holds some of the disk, and is given up when that is full, so that alerts are still recorded."""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

FILE = "ballast"
SIZE = 16 << 20  # bytes: some thousand alerts
FULL = SIZE // 16  # a disk with less than this left is full
SPARE = 4  # times its size must be free before it is taken


class Ballast:
    """The ballast of a state folder."""

    def __init__(self, state_dir: Path) -> None:
        """Do nothing yet."""
        self._file, self._given_up = state_dir / FILE, False

    @property
    def problem(self) -> str:
        """Why the site is degraded; empty where the ballast is there, or was never needed."""
        return f"the disk is full: alerts use the {SIZE >> 20} MiB that were kept for them" if self._given_up else ""

    def take(self) -> None:
        """Hold the disk, where it has room and does not hold it yet; what goes wrong is no reason to stop."""
        try:
            if self._file.exists() and self._file.stat().st_blocks * 512 >= SIZE:
                return
            if self._free() < SPARE * SIZE:
                return
            with self._file.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, SIZE)
        except OSError as error:
            log.warning("%s: no ballast is kept (%s)", self._file, error.strerror)
            return
        self._given_up = False

    def give_up(self) -> bool:
        """Give it up where the disk is full; tell whether that made room."""
        try:
            if self._free() >= FULL:
                return False
            self._file.unlink()
        except OSError:  # there is none, or the folder can't be written
            return False
        self._given_up = True
        log.error("%s", self.problem)
        return True

    def _free(self) -> int:
        """Return how many bytes of the disk are free."""
        disk = os.statvfs(self._file.parent)
        return disk.f_bavail * disk.f_frsize
