"""The meta-knowledge base M: what was learned before anything is taught; every taught class is compared with it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.errors import ModelError
from adapters.runtime import KNOWLEDGE, read_verified


@dataclass(frozen=True)
class KnowledgeBase:
    """Base classes as unit keys, and the centring vector of the features.

    Attributes:
        labels: name of each row.
        keys: unit rows, float32 (n_row, d_key).
        counts: pictures behind each row, int32 (n_row,).
        mu: mean pooled vector of the base pictures, float32 (d_pooled,).
        pretrained_mu: the same of the encoder before our training, which `evaluate` compares with.
    """

    labels: tuple[str, ...]
    keys: NDArray[np.float32]
    counts: NDArray[np.int32]
    mu: NDArray[np.float32]
    pretrained_mu: NDArray[np.float32]

    @classmethod
    def load(cls, folder: Path) -> KnowledgeBase:
        """Read the base that is shipped beside the graphs.

        Raises:
            ModelError: the file is missing, altered, or holds something else.
        """
        try:
            with np.load(io.BytesIO(read_verified(folder, KNOWLEDGE)), allow_pickle=False) as stored:
                return cls(
                    labels=tuple(str(label) for label in stored["labels"]),
                    keys=stored["keys"].astype(np.float32),
                    counts=stored["counts"].astype(np.int32),
                    mu=stored["mu"].astype(np.float32),
                    pretrained_mu=stored["pretrained_mu"].astype(np.float32),
                )
        except (ValueError, KeyError) as error:
            raise ModelError(f"{folder / KNOWLEDGE}: not a knowledge base ({error})") from None
