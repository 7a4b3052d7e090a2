"""Frames that an operator has checked: every new version is tried on them before it goes live, and so is an encoder.

A frame's label is a class or `none`. Rows hold labels, features, and what the live version took the frame for; the
crops lie beside as files.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from adapters.classes import check_taught
from adapters.classifier import NONE, Classification, Classifier, ClassMemory
from adapters.crops import Crops, LabelledCrop, crop_hash
from adapters.database import closed_if_unusable, transaction
from adapters.encoder import MAX_BATCH, Features, joined, stored
from adapters.errors import StoreError, TeachError
from adapters.frames import illegible

FILE = "golden.sqlite3"
CROPS = "golden"
MOST_FRAMES = 1000
SCHEMA = """
CREATE TABLE IF NOT EXISTS frame (crop_sha256 TEXT PRIMARY KEY, label TEXT NOT NULL, source TEXT NOT NULL,
  created TEXT NOT NULL, encoder TEXT NOT NULL, tokens INTEGER NOT NULL, tok BLOB NOT NULL, glob BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS verdict (crop_sha256 TEXT PRIMARY KEY REFERENCES frame ON DELETE CASCADE,
  named TEXT NOT NULL, encoder TEXT NOT NULL);
"""
GOLDEN_MARGIN = 0.02  # share of the checked frames that a new version may lose and still go live


@dataclass(frozen=True)
class Trial:
    """How two class memories did on the frames whose class both know.

    Attributes:
        frames: how many those are.
        before, after: how many of them the memory in force, and the new one, named right.
        lost: frames that only the memory in force named right, and what the new one takes each for.
    """

    frames: int
    before: int
    after: int
    lost: tuple[tuple[str, str], ...]

    @property
    def is_worse(self) -> bool:
        """Whether the new memory loses more than `GOLDEN_MARGIN` of the frames."""
        return self.before - self.after > GOLDEN_MARGIN * self.frames

    @property
    def told(self) -> str:
        """What an operator reads."""
        lost = ", ".join(f"{source} as {label}" for source, label in self.lost[:3])
        return f"of {self.frames} checked frames {self.after} are named right, {self.before} before ({lost})"


@dataclass(frozen=True)
class _Frame:
    crop: str
    label: str
    source: str
    features: Features


class GoldenSet:
    """The checked frames of one state folder. Safe to use from several threads and programs at once."""

    def __init__(self, state_dir: Path) -> None:
        """Open or make it.

        Raises:
            StoreError: the folder can't be written, or the file is no such store.
        """
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            self._crops, self._lock = Crops(state_dir / CROPS), RLock()
            if not (state_dir / FILE).exists():
                self._crops.set_aside()
            self._db = sqlite3.connect(state_dir / FILE, isolation_level=None, timeout=10, check_same_thread=False)
            with closed_if_unusable(self._db):
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA foreign_keys = ON")
                self._db.execute("PRAGMA secure_delete = ON")
                self._db.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{state_dir / FILE}: can't be opened as the golden set ({error})") from None
        if self._crops.others(self._crops_named()):
            with suppress(StoreError):  # somebody adds frames just now: the next time will do
                self._erase_loose_crops()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(
        self,
        label: str,
        frames: Sequence[tuple[str, LabelledCrop]],
        classifier: Classifier,
        *,
        taught: Collection[str] | None = None,
    ) -> int:
        """Take in checked frames under a label; one that is there already gets the new label.

        Args:
            label: a class, or `none`.
            frames: what each is called, and its crop.
            classifier: encodes the crops.
            taught: the classes of the active version; None where whoever asks has seen to it.

        Returns:
            How many frames the set has now.

        Raises:
            ConfigError: the label is no taught class.
            TeachError: there is nothing to see in a frame, or the set would grow beyond `MOST_FRAMES`.
            StoreError: they can't be kept; nothing was changed.
        """
        if taught is not None and label != NONE:
            check_taught(label, taught)
        reasons = [f"{source}: {why}" for source, crop in frames if (why := illegible(crop)) is not None]
        if reasons:
            raise TeachError(f"no frame was added to the checked ones: {'; '.join(reasons)}")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        if len(frames) > MOST_FRAMES:
            raise TeachError(f"{len(frames)} frames at once; at most {MOST_FRAMES} are kept")
        kept = [(source, crop.masked(), classifier.encode([crop.pixels])) for source, crop in frames]
        with self._change():
            for source, crop, seen in kept:
                self._crops.keep(crop)
                row = (crop_hash(crop), label, source, now, classifier.encoder_hash, *stored(seen))
                self._db.execute("INSERT OR REPLACE INTO frame VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            count = len(self)
            if count > MOST_FRAMES:
                raise TeachError(f"the golden set would have {count} frames; at most {MOST_FRAMES} are kept")
        return count

    def remove(self, crop_sha256: str) -> None:
        """Take a frame out, and erase its picture."""
        self._run("DELETE FROM frame WHERE crop_sha256 = ?", [(crop_sha256,)])
        self._erase_loose_crops()

    def forget(self, label: str) -> None:
        """Take out the frames of a class that was forgotten, and erase their pictures.

        Raises:
            StoreError: a picture can't be erased.
        """
        self._run("DELETE FROM frame WHERE label = ?", [(label,)])
        self._erase_loose_crops()

    def listed(self) -> list[tuple[str, str, str, str]]:
        """Return (crop, label, source, created) of each frame, oldest first."""
        return self._rows("SELECT crop_sha256, label, source, created FROM frame ORDER BY created, crop_sha256")

    def png(self, crop_sha256: str) -> bytes | None:
        """Return the picture of a frame."""
        return self._crops.png(crop_sha256) if any(row[0] == crop_sha256 for row in self.listed()) else None

    def __len__(self) -> int:
        return int(self._rows("SELECT count(*) FROM frame")[0][0])

    def rebuild(self, classifier: Classifier) -> int:
        """Encode anew what another encoder made, and return how many frames; one whose crop is lost is dropped."""
        stale = self._rows("SELECT crop_sha256 FROM frame WHERE encoder != ?", classifier.encoder_hash)
        fresh, lost = [], []
        for (crop,) in stale:
            picture = self._crops.picture(crop)
            if picture is None:
                lost.append((crop,))
            else:
                fresh.append((classifier.encoder_hash, *stored(classifier.encode([picture])), crop))
        self._run("UPDATE frame SET encoder = ?, tokens = ?, tok = ?, glob = ? WHERE crop_sha256 = ?", fresh)
        self._run("DELETE FROM frame WHERE crop_sha256 = ?", lost)
        return len(fresh)

    def trial(self, classifier: Classifier, before: ClassMemory, after: ClassMemory) -> Trial:
        """Try two class memories on the frames whose class both know; a memory that knows none names none right."""
        known = (set(before.names) & set(after.names)) | {NONE}
        frames = [frame for frame in self._frames(classifier) if frame.label in known]
        return _compared(frames, _named(classifier, frames, before), _named(classifier, frames, after))

    def trial_of_encoder(self, classifier: Classifier, memory: ClassMemory) -> Trial:
        """Try the live class memory against what it took the frames for when the former encoder made it.

        The answers are kept for the next change of the encoder.
        """
        self.rebuild(classifier)
        frames = self._frames(classifier)
        now = _named(classifier, frames, memory)
        former = dict(self._rows("SELECT crop_sha256, named FROM verdict WHERE encoder != ?", classifier.encoder_hash))
        verdicts = [(frame.crop, named, classifier.encoder_hash) for frame, named in zip(frames, now, strict=True)]
        self._run("INSERT OR REPLACE INTO verdict VALUES (?, ?, ?)", verdicts)
        both = [(frame, named) for frame, named in zip(frames, now, strict=True) if frame.crop in former]
        return _compared([frame for frame, _ in both], [former[frame.crop] for frame, _ in both], [n for _, n in both])

    def trial_of_model(self, now: tuple[Classifier, ClassMemory], new: tuple[Classifier, ClassMemory]) -> Trial:
        """Try another model with its own class memory beside the live one; nothing is kept of it."""
        classifier, memory = now
        other, other_memory = new
        frames = self._frames(classifier)
        pictures = {frame.crop: self._crops.picture(frame.crop) for frame in frames}
        seen = [(frame, picture) for frame in frames if (picture := pictures[frame.crop]) is not None]
        before = [frame for frame, _ in seen]
        after = [replace(frame, features=other.encode([picture])) for frame, picture in seen]
        return _compared(before, _named(classifier, before, memory), _named(other, after, other_memory))

    def _frames(self, classifier: Classifier) -> list[_Frame]:
        """Return the frames that this encoder has encoded."""
        query = "SELECT crop_sha256, label, source, tokens, tok, glob FROM frame WHERE encoder = ?"
        return [
            _Frame(crop, label, source, _read(*features))
            for crop, label, source, *features in self._rows(query, classifier.encoder_hash)
        ]

    def _crops_named(self) -> set[str]:
        return {crop for (crop,) in self._rows("SELECT crop_sha256 FROM frame")}

    def _erase_loose_crops(self) -> None:
        """Erase the crops that no frame names, while nobody else can be about to name one."""
        with self._change():
            self._crops.delete_others(self._crops_named())

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"{FILE}: {error}") from None

    def _run(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        with self._change():
            self._db.executemany(statement, rows)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """One thread at a time, as they share a connection, and one program at a time, as they share the file."""
        with self._lock, transaction(self._db, FILE):
            yield


def _read(tokens: int, tok: bytes, glob: bytes) -> Features:
    pooled = np.frombuffer(glob, np.float32).reshape(1, -1)
    return Features(np.frombuffer(tok, np.float16).astype(np.float32).reshape(1, tokens, -1), pooled)


def _named(classifier: Classifier, frames: Sequence[_Frame], memory: ClassMemory) -> list[str]:
    """Return what a class memory takes each frame for."""
    answers: list[Classification] = []
    for first in range(0, len(frames), MAX_BATCH):
        seen = joined([frame.features for frame in frames[first : first + MAX_BATCH]])
        answers += classifier.judge(seen, memory, [True] * len(seen))
    return [answer.label for answer in answers]


def _compared(frames: Sequence[_Frame], was: Sequence[str], now: Sequence[str]) -> Trial:
    """Compare what each frame was taken for with what it is taken for now."""
    told = list(zip(frames, was, now, strict=True))
    before = sum(named == frame.label for frame, named, _ in told)
    after = sum(named == frame.label for frame, _, named in told)
    lost = tuple((frame.source, later) for frame, earlier, later in told if earlier == frame.label != later)
    return Trial(len(told), before, after, lost)
