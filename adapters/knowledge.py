"""The meta-knowledge base M: what was learned before anything is taught, and what a site has shown since.

Base classes come with the model (supervised); background is found in a site's own unlabelled crops (unsupervised, see
`site_knowledge.py`); taught classes join when a class set is loaded.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapters.encoder import unit
from adapters.errors import ModelError
from adapters.runtime import KNOWLEDGE, read_verified

LARGEST = 1e6  # of a feature, here as in the graphs; the encoder's are below 100

Kind = Literal["base-class", "background"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that is known.

    Attributes:
        kind: how it came to be known.
        label: its name; of clusters a number.
        key: unit vector in key space, float32 (d_key,).
        count: crops or pictures behind it.
        mean: mean pooled vector, float32 (d_pooled,), of background and of land animals; None of other base classes.
    """

    kind: Kind
    label: str
    key: NDArray[np.float32]
    count: int
    mean: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class KnowledgeBase:
    """The rows of M, and what turns features into keys.

    Attributes:
        rows: base classes first.
        mu: mean pooled vector of the base pictures, which centres all pooled vectors, float32 (d_pooled,).
        pretrained_mu: the same of the encoder before our training, which `evaluate` compares with.
        projection: token -> key space, float32 (d_token, d_key).
        token_mean: float32 (d_token,).
    """

    rows: tuple[Row, ...]
    mu: NDArray[np.float32]
    pretrained_mu: NDArray[np.float32]
    projection: NDArray[np.float32]
    token_mean: NDArray[np.float32]

    @classmethod
    def load(cls, folder: Path) -> KnowledgeBase:
        """Read the base that is shipped beside the graphs.

        Raises:
            ModelError: the file is missing, altered, or holds something else.
        """
        try:
            with np.load(io.BytesIO(read_verified(folder, KNOWLEDGE)), allow_pickle=False) as stored:
                means = dict(zip(stored["animals"].tolist(), stored["means"].astype(np.float32), strict=True))
                rows = tuple(
                    Row(
                        kind="base-class",
                        label=str(label),
                        key=key.astype(np.float32),
                        count=int(count),
                        mean=means.get(str(label)),
                    )
                    for label, key, count in zip(stored["labels"], stored["keys"], stored["counts"], strict=True)
                )
                arrays = {
                    name: stored[name].astype(np.float32)
                    for name in ("mu", "pretrained_mu", "projection", "token_mean")
                }
        except (ValueError, KeyError) as error:
            raise ModelError(f"{folder / KNOWLEDGE}: not a knowledge base ({error})") from None
        return cls(rows=rows, **arrays)

    def with_rows(self, rows: Sequence[Row]) -> KnowledgeBase:
        """Return the base with what a site has shown added to it."""
        return replace(self, rows=(*self.rows, *rows))

    @property
    def keys(self) -> NDArray[np.float32]:
        """Unit keys of all rows (n_row, d_key)."""
        return np.stack([row.key for row in self.rows])

    @property
    def negatives(self) -> NDArray[np.float32]:
        """Mean pooled vectors of the site's background (n, d_pooled); one row of zeros where none is known."""
        means = [row.mean for row in self.rows if row.kind == "background" and row.mean is not None]
        return np.stack(means) if means else np.zeros((1, len(self.mu)), np.float32)

    @property
    def animals(self) -> NDArray[np.float32]:
        """How the base classes that are land animals look: centred unit vectors (n, d_pooled)."""
        means = [row.mean for row in self.rows if row.kind == "base-class" and row.mean is not None]
        return unit(np.stack(means) - self.mu)

    def key_of(self, mean_tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the unit keys (..., d_key) of mean tokens (..., d_token)."""
        return unit(np.asarray((sound(mean_tokens) - self.token_mean) @ self.projection, np.float32))


def sound(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return features in which what is no number counts as 0, as in the graphs."""
    return np.clip(np.where(np.isfinite(features), features, 0), -LARGEST, LARGEST)
