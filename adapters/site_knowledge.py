"""What a site's own unlabelled crops teach the knowledge base: clusters of its background, stored as versions.

Most of what a camera crops out is the same cars, shadows and signs for ever. A random sample of it, clustered, tells
the head what is *not* an animal here. The only other module beside the class set that knows SQLite on this side.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from adapters.encoder import Features, unit
from adapters.errors import StoreError
from adapters.knowledge import KnowledgeBase, Row

FILE = "knowledge.sqlite3"
SAMPLE = 512  # crops that are remembered between two clusterings
CLUSTERS = 16
KEPT_VERSIONS = 10
SCHEMA = """
CREATE TABLE IF NOT EXISTS version (id INTEGER PRIMARY KEY, encoder TEXT NOT NULL, created TEXT NOT NULL,
  crops INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS row (version INTEGER NOT NULL REFERENCES version ON DELETE CASCADE, kind TEXT NOT NULL,
  label TEXT NOT NULL, count INTEGER NOT NULL, key BLOB NOT NULL, mean BLOB NOT NULL);
"""


class Sample:
    """A uniform random sample of an endless stream of crops' features (Vitter 1985, algorithm R)."""

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
            elif (place := int(self._rng.integers(self.offered))) < SAMPLE:
                self._tokens[place], self._pooled[place] = tok.mean(axis=0), glob.copy()

    def vectors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean tokens (n, d_token) and pooled vectors (n, d_pooled)."""
        return np.stack(self._tokens), np.stack(self._pooled)


def cluster(sample: Sample, base: KnowledgeBase) -> list[Row]:
    """Return the background rows of a sample: spherical k-means on centred pooled vectors.

    Reference:
        Dhillon and Modha 2001, https://doi.org/10.1023/A:1007612920971
    """
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

    def __init__(self, state_dir: Path) -> None:
        """Open or make the store.

        Raises:
            StoreError: the folder can't be written, or the file is no such store.
        """
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(state_dir / FILE, isolation_level=None, timeout=10)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{state_dir / FILE}: can't be opened as a knowledge base ({error})") from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def load(self, encoder_hash: str) -> list[Row]:
        """Return the rows of the newest version that this encoder made; features of another mean nothing to it."""
        try:
            found = self._db.execute("SELECT max(id) FROM version WHERE encoder = ?", (encoder_hash,)).fetchone()
            rows = self._db.execute("SELECT kind, label, count, key, mean FROM row WHERE version = ?", found).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{FILE}: damaged ({error}); remove it, it fills again by itself") from None
        return [
            Row(
                kind=kind,
                label=label,
                count=count,
                key=np.frombuffer(key, np.float32),
                mean=np.frombuffer(mean, np.float32),
            )
            for kind, label, count, key, mean in rows
        ]

    def save(self, rows: list[Row], encoder_hash: str, crops: int) -> int:
        """Keep rows as a new version and return its number; versions long past are dropped."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
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
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreError(f"{FILE}: {error}; nothing was changed") from None
        return int(version or 0)


def _bytes(array: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(array, np.float32).tobytes()
