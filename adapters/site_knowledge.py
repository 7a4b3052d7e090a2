"""What a site's own unlabelled crops teach the knowledge base: clusters of its background, stored as versions.

Most of what a camera crops out is the same cars, shadows and signs for ever. A random sample of it, clustered, tells
the head what is *not* an animal here. The only other module beside the class set that knows SQLite on this side.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from adapters.classifier import NONE, Classification, Classifier
from adapters.database import closed_if_unusable, transaction
from adapters.encoder import Features, unit
from adapters.errors import DamagedError, StoreError
from adapters.knowledge import KnowledgeBase, Row

log = logging.getLogger(__name__)

FILE = "knowledge.sqlite3"
SAMPLE = 512  # crops that are remembered
HORIZON = 100_000  # crops after which most of the sample is new: about a day of a busy junction
CLUSTERS = 16
SURELY_NONE = 0.9  # weight of none from which a crop may count as background,
MOST_P_ANIMAL = 0.1  # and probability of an animal up to which it may
KEPT_VERSIONS = 10
SCHEMA = """
CREATE TABLE IF NOT EXISTS version (id INTEGER PRIMARY KEY, encoder TEXT NOT NULL, created TEXT NOT NULL,
  crops INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS row (version INTEGER NOT NULL REFERENCES version ON DELETE CASCADE, kind TEXT NOT NULL,
  label TEXT NOT NULL, count INTEGER NOT NULL, key BLOB NOT NULL, mean BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS dismissed (encoder TEXT NOT NULL, created TEXT NOT NULL, camera TEXT NOT NULL,
  x1 REAL NOT NULL, y1 REAL NOT NULL, x2 REAL NOT NULL, y2 REAL NOT NULL, looks_like BLOB NOT NULL);
"""


Place = tuple[str, tuple[float, ...], NDArray[np.float32]]  # camera, box, look


class Sample:
    """A random sample of an endless stream of crops' features: uniform at first, then slowly forgetting.

    References:
        Vitter 1985, algorithm R; Aggarwal 2006 (biased reservoir sampling)
    """

    def __init__(self, rng: Generator) -> None:
        self._rng = rng
        self._tokens: list[NDArray[np.float32]] = []
        self._pooled: list[NDArray[np.float32]] = []
        self.offered = 0

    def __len__(self) -> int:
        return len(self._pooled)

    def offer(self, features: Features) -> None:
        """Take in crops."""
        for tok, glob in zip(features.tok, features.glob, strict=True):
            self.offered += 1
            if len(self) < SAMPLE:
                self._tokens.append(tok.mean(axis=0))
                self._pooled.append(glob.copy())
            elif (place := int(self._rng.integers(min(self.offered, HORIZON)))) < SAMPLE:
                self._tokens[place], self._pooled[place] = tok.mean(axis=0), glob.copy()

    def vectors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean tokens (n, d_token) and pooled vectors (n, d_pooled)."""
        return np.stack(self._tokens), np.stack(self._pooled)


def cluster(sample: Sample, base: KnowledgeBase) -> list[Row]:
    """Return the background rows of a sample: spherical k-means on centred pooled vectors.

    Reference:
        Dhillon and Modha 2001, https://doi.org/10.1023/A:1007612920971
    """
    from sklearn.cluster import KMeans  # takes two seconds of a start, and is needed now and then

    tokens, pooled = sample.vectors()
    vectors = unit(pooled - base.mu)
    count = min(CLUSTERS, len(sample) // 8)
    member = KMeans(count, n_init=3, random_state=0).fit(vectors).labels_  # on unit vectors it groups by cosine
    return [
        Row(
            kind="background",
            label=f"background {number}",
            key=base.key_of(tokens[member == number].mean(axis=0)),
            count=int((member == number).sum()),
            mean=pooled[member == number].mean(axis=0),
        )
        for number in range(count)
        if (member == number).any()
    ]


class SiteKnowledge:
    """The versions of what one site has shown."""

    def __init__(self, state_dir: Path | None) -> None:
        """Open or make the store; without a folder it lives in memory.

        Raises:
            DamagedError: the file is no such store.
            StoreError: the folder can't be written.
        """
        file = ":memory:" if state_dir is None else state_dir / FILE
        try:
            if state_dir is not None:
                state_dir.mkdir(parents=True, exist_ok=True)
            self._db = _opened(file)
        except (OSError, sqlite3.OperationalError) as error:  # read-only, full, locked: the file itself is sound
            raise StoreError(f"{file}: can't be opened as a knowledge base ({error})") from None
        except sqlite3.Error as error:
            raise DamagedError(f"{file}: is no knowledge base ({error})") from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def load(self, encoder_hash: str) -> list[Row]:
        """Return the rows of the newest version that this encoder made; features of another mean nothing to it."""
        try:
            found = self._db.execute("SELECT max(id) FROM version WHERE encoder = ?", (encoder_hash,)).fetchone()
            rows = self._db.execute("SELECT kind, label, count, key, mean FROM row WHERE version = ?", found).fetchall()
            return [
                Row(kind=kind, label=label, count=count, key=_numbers(key), mean=_numbers(mean))
                for kind, label, count, key, mean in rows
            ]
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise DamagedError(f"{FILE}: damaged ({error})") from None

    def save(self, rows: list[Row], encoder_hash: str, crops: int) -> int:
        """Keep rows as a new version and return its number; versions long past are dropped."""
        with transaction(self._db, FILE):
            version = self._db.execute(
                "INSERT INTO version (encoder, created, crops) VALUES (?, ?, ?)",
                (encoder_hash, datetime.now(UTC).isoformat(timespec="seconds"), crops),
            ).lastrowid
            self._db.executemany(
                "INSERT INTO row VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (version, row.kind, row.label, row.count, _bytes(row.key), _bytes(row.mean))
                    for row in rows
                    if row.mean is not None
                ],
            )
            self._db.execute("DELETE FROM version WHERE id <= ?", (int(version or 0) - KEPT_VERSIONS,))
        return int(version or 0)

    def dismissed(self, encoder_hash: str) -> list[Place]:
        """Return the dismissed places that this encoder has seen."""
        try:
            rows = self._db.execute(
                "SELECT camera, x1, y1, x2, y2, looks_like FROM dismissed WHERE encoder = ?", (encoder_hash,)
            ).fetchall()
            return [(camera, tuple(box), _numbers(looks_like)) for camera, *box, looks_like in rows]
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise DamagedError(f"{FILE}: damaged ({error})") from None

    def keep_dismissed(self, encoder_hash: str, place: Place) -> None:
        """Keep a place that a person has dismissed."""
        camera, box, looks_like = place
        created = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self._db.execute(
                "INSERT INTO dismissed VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (encoder_hash, created, camera, *box, _bytes(looks_like)),
            )
        except sqlite3.Error as error:
            raise StoreError(f"{FILE}: {error}; nothing was changed") from None


class Background:
    """What the running program learns of its site by watching: crops that surely show no animal, clustered.

    It also keeps what people have dismissed.
    """

    def __init__(self, classifier: Classifier, state_dir: Path) -> None:
        """Take up what was learned before.

        A damaged file is begun anew, since all in it is learned again; where the folder can't be written, what is
        learned lives in memory.
        """
        self._classifier, self._base = classifier, classifier.knowledge
        self._sample = Sample(np.random.default_rng())  # which crops of a site are drawn need not be the same twice
        self._learned_of = 0  # crops that had been offered at the last clustering
        self._store = SiteKnowledge(None)
        self._dismissed: list[Place] = []
        try:
            self._take_up(state_dir)
        except DamagedError as error:
            log.warning("%s; it is begun anew", error)
            for suffix in ("", "-wal", "-shm"):
                (state_dir / (FILE + suffix)).unlink(missing_ok=True)
            self._take_up(state_dir)
        except StoreError as error:
            log.error("%s; what is learned of the site is forgotten at the end", error)  # noqa: TRY400  # one line

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def dismissed(self) -> list[Place]:
        """Return what people have dismissed, as it was kept at the start."""
        return self._dismissed

    def keep_dismissed(self, camera: str, box: tuple[float, ...], looks_like: NDArray[np.float32]) -> None:
        """Keep a place that a person has dismissed, for as long as the encoder stays.

        Raises:
            StoreError: it can't be kept.
        """
        self._store.keep_dismissed(self._classifier.encoder_hash, (camera, box, looks_like))

    def _take_up(self, state_dir: Path) -> None:
        store = SiteKnowledge(state_dir)
        try:
            self._use(store.load(self._classifier.encoder_hash))
            self._dismissed = self._checked(store.dismissed(self._classifier.encoder_hash))
        except StoreError:
            store.close()
            raise
        self._store.close()
        self._store = store

    def _checked(self, places: list[Place]) -> list[Place]:
        if any(len(looks_like) != len(self._base.mu) for _, _, looks_like in places):
            raise DamagedError(f"{FILE}: damaged (a look of another width)")
        return places

    def offer(self, features: Features, answers: Sequence[Classification]) -> None:
        """Take in encoded crops and what they were found to be."""
        sure = np.array([_is_background(answer) for answer in answers], bool)
        if sure.any():
            self._sample.offer(Features(features.tok[sure], features.glob[sure]))

    def learn(self) -> int:
        """Cluster the sample, keep the result and use it; return how many rows it gave.

        Class memories made before know nothing of it: load them anew. With too little that is new, nothing happens
        and 0 is returned.

        Raises:
            StoreError: the result can't be kept; nothing was changed.
        """
        if self._sample.offered - self._learned_of < SAMPLE:
            return 0
        rows = cluster(self._sample, self._base)
        self._store.save(rows, self._classifier.encoder_hash, self._sample.offered)
        self._learned_of = self._sample.offered
        self._use(rows)
        return len(rows)

    def _use(self, rows: list[Row]) -> None:
        widths = (self._base.keys.shape[1], len(self._base.mu))
        if any((len(row.key), 0 if row.mean is None else len(row.mean)) != widths for row in rows):
            raise DamagedError(f"{FILE}: damaged (a row of another width)")
        self._classifier.knowledge = self._base.with_rows(rows)


def _opened(file: Path | str) -> sqlite3.Connection:
    # a cluster's coordinator uses it from several threads, one at a time
    db = sqlite3.connect(file, isolation_level=None, timeout=10, check_same_thread=False)
    with closed_if_unusable(db):
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA foreign_keys = ON")
        db.executescript(SCHEMA)
    return db


def _is_background(answer: Classification) -> bool:
    return answer.legible and answer.p_animal <= MOST_P_ANIMAL and answer.weights[NONE] >= SURELY_NONE


def _numbers(stored: bytes) -> NDArray[np.float32]:
    numbers = np.frombuffer(stored, np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError("a row is no number")
    return numbers


def _bytes(array: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(array, np.float32).tobytes()
