"""What an animal looked like: one small picture a situation, a mosaic around the animal, kept for a number of days."""

from __future__ import annotations

import hashlib
import logging
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2

from adapters.errors import InputError
from monitor.alerts.schema import EvidencePart
from monitor.policy import Phase, Situation
from monitor.stills import cut
from monitor.values import Frame

log = logging.getLogger(__name__)

FOLDER = "snapshots"
JPEG_QUALITY = 88
NAME = re.compile(r"[0-9a-f-]{36}")  # a situation's id; nothing else is looked for in the folder


class Snapshots:
    """The pictures of one state folder. Reading is safe from any thread; a disk that is full costs pictures alone."""

    def __init__(self, state_dir: Path, days: float, console_url: str | None) -> None:
        """Use the folder; pictures are erased after so many days. The console shows them where it has an address."""
        self._folder, self._kept, self._console_url = state_dir / FOLDER, timedelta(days=days), console_url
        self._open: dict[str, tuple[float, EvidencePart]] = {}  # probability of the look that was taken
        self._failed = False

    def take(self, situation: Situation, frame: Frame) -> None:
        """Keep how the animal of a situation looks in the frame that it was just seen in, where it never looked better.

        Outside its box a mosaic takes the picture's place before anything is written.
        """
        seen = situation.newest
        best, _ = self._open.get(situation.id, (0.0, None))
        in_this_frame = seen.camera == frame.camera and seen.seen_s == situation.decided_s
        if situation.rehearsal or not in_this_frame or seen.p_animal <= best:
            return
        box = seen.box
        try:
            crop = cut(frame.image, (box.x1, box.y1, box.width, box.height), situation.id)
            _, coded = cv2.imencode(".jpg", crop.masked(), (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
            self._write(situation.id, coded.tobytes())
        except (InputError, OSError) as error:
            if not self._failed:
                log.warning("snapshots can't be kept: %s", error)
            self._failed = True
            return
        self._failed = False
        digest = hashlib.sha256(coded.tobytes()).hexdigest()
        delete_after = datetime.now(UTC) + self._kept
        evidence = EvidencePart(sha256=digest, href=self._href(situation.id), redacted=True, delete_after=delete_after)
        self._open[situation.id] = (seen.p_animal, evidence)

    def _href(self, situation: str) -> str | None:
        return None if self._console_url is None else f"{self._console_url}/situations/{situation}/picture"

    def _write(self, situation: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f"{situation}.part"
        try:
            draft.write_bytes(content)
            draft.replace(self._folder / f"{situation}.jpg")
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def evidence(self, situation: Situation) -> EvidencePart | None:
        """Return what is known of a situation's picture; with its end it is forgotten here, the picture stays."""
        _, evidence = self._open.get(situation.id, (0.0, None))
        if situation.phase is Phase.END:
            self._open.pop(situation.id, None)
        return evidence

    def read(self, situation: str) -> bytes | None:
        """Return the picture of a situation, a JPEG; None where there is none, or none any more."""
        path = self._folder / f"{situation}.jpg"
        return path.read_bytes() if NAME.fullmatch(situation) and path.exists() else None

    def forget_old(self, now: datetime) -> int:
        """Erase the pictures whose days are over, and return how many."""
        late = (now - self._kept).timestamp()
        old = [path for path in self._folder.glob("*") if path.stat().st_mtime < late]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)
