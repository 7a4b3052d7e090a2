"""What is compared: what is deployed, and the plain methods it has to beat, each on the same pictures.

References:
    simpleshot: Wang et al. 2019, https://arxiv.org/abs/1911.04623
    tip-adapter: Zhang et al. 2022, https://arxiv.org/abs/2111.03930 (its cache alone; there is no text tower here)
    feat: Ye et al. 2020, https://arxiv.org/abs/1812.03664 (easyfsl's attention, trained on our features and classes)
    adaptshot: https://pypi.org/project/adaptshot, end to end with its own backbone
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from adapters.classifier import Classifier, mean_of_looks
from adapters.encoder import LOOKS, Features, joined, unit
from adapters.evaluation.episodes import Item
from adapters.runtime import Graph

# The best on the tuning classes, found by tools/tune_baselines.py.
LOGREG_C = 10.0
KNN_K = 3
TIP_BETA = 5.5

FEAT_FOLDER, FEAT = Path(__file__).with_name("feat"), "feat.onnx"  # made by tools/train_feat.py

Vectors = NDArray[np.float32]

DEPLOYED = attrgetter("deployed")  # of `Encoded`


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a method says to n queries.

    Attributes:
        best: the most likely taught class, (n,).
        known: higher where a taught class is more likely, (n,); its scale is the method's own.
        confidence: probability of the method's own first answer, *none* included; absent where it gives none.
        says_none: where that first answer is *none*.
    """

    best: NDArray[np.intp]
    known: NDArray[np.float32]
    confidence: NDArray[np.float32] | None = None
    says_none: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Encoded:
    """Pictures of an evaluation as their encoders see them; tokens as float16.

    Attributes:
        shots: what is learned from, by the number of its picture, in the views that the product learns it in.
        looks: every (picture, view) pair as the product looks at a still, `LOOKS` rows each.
        frozen: the same pairs as the pretrained encoder sees them, a row each.
        rows: the row of each pair.
        picture: the pair as a picture.
    """

    shots: dict[int, Features]
    looks: Features
    frozen: Vectors
    rows: dict[Item, int]
    picture: Callable[[Item], NDArray[np.uint8]]

    @property
    def deployed(self) -> Vectors:
        """The pooled vectors of the deployed encoder's first look, a row for each pair: what plain methods get."""
        return self.looks.glob[::LOOKS]

    def of(self, items: Sequence[Item]) -> list[int]:
        """Return the rows of (picture, view) pairs."""
        return [self.rows[item] for item in items]

    def support(self, items: Sequence[Item]) -> Features:
        """Return the deployed encoder's features of shots in all their views, float32."""
        features = joined([self.shots[row] for row, _ in items])
        return Features(features.tok.astype(np.float32), features.glob)

    def features(self, items: Sequence[Item]) -> Features:
        """Return the deployed encoder's features of (picture, view) pairs, `LOOKS` rows each, float32."""
        features = self.looks[[LOOKS * row + look for row in self.of(items) for look in range(LOOKS)]]
        return Features(features.tok.astype(np.float32), features.glob)


class Method(Protocol):
    """A few-shot classifier: learns from a support set, answers queries; keeps nothing from one episode to the next."""

    name: str

    def answer(self, encoded: Encoded, support: Sequence[Sequence[Item]], queries: Sequence[Item]) -> Answers:
        """Learn from the support (class by class) and answer the queries."""


class Wildlane:
    """What is deployed: adapt.onnx makes the class memory, match.onnx answers."""

    name = "wildlane"

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def answer(self, encoded: Encoded, support: Sequence[Sequence[Item]], queries: Sequence[Item]) -> Answers:
        """See `Method`."""
        memory = self._classifier.adapt({str(number): encoded.support(items) for number, items in enumerate(support)})
        weights, p_class, _, _ = map(mean_of_looks, self._classifier.match(encoded.features(queries), memory))
        return Answers(
            best=weights[:, :-1].argmax(axis=1),
            known=p_class.max(axis=1),
            confidence=weights.max(axis=1),
            says_none=weights.argmax(axis=1) == len(support),
        )


class OnVectors:
    """A plain method on centred unit vectors of one encoder."""

    def __init__(
        self,
        name: str,
        mu: Vectors,
        vectors: Callable[[Encoded], Vectors],
        score: Callable[[list[Vectors], Vectors], Vectors],
    ) -> None:
        """Build a method.

        Args:
            name: as the contract spells it.
            mu: centring vector (d,).
            vectors: takes the pooled vectors (n, d) of one encoder.
            score: (shots of each class, queries (n, d)) -> scores (n, C); both unit vectors.
        """
        self.name, self._mu, self._vectors, self._score = name, mu, vectors, score

    def answer(self, encoded: Encoded, support: Sequence[Sequence[Item]], queries: Sequence[Item]) -> Answers:
        """See `Method`."""
        vectors = self._vectors(encoded)
        shots = [unit(vectors[encoded.of(items)] - self._mu) for items in support]
        scores = self._score(shots, unit(vectors[encoded.of(queries)] - self._mu))
        return Answers(best=scores.argmax(axis=1), known=scores.max(axis=1))


def nearest_centroid(shots: list[Vectors], queries: Vectors) -> Vectors:
    """Return the cosine to each class's mean."""
    return queries @ unit(np.stack([rows.mean(axis=0) for rows in shots])).T


def logistic_regression(shots: list[Vectors], queries: Vectors, c: float = LOGREG_C) -> Vectors:
    """Return the class probabilities of a logistic regression; `c` is the inverse of its regularisation."""
    if len(shots) == 1:  # nothing to tell apart
        return nearest_centroid(shots, queries)
    labels = np.repeat(np.arange(len(shots)), [len(rows) for rows in shots])
    model = LogisticRegression(C=c, max_iter=300).fit(np.concatenate(shots), labels)
    return np.asarray(model.predict_proba(queries), np.float32)


def k_nearest(shots: list[Vectors], queries: Vectors, k: int = KNN_K) -> Vectors:
    """Return the summed cosine to those of a class's shots that are among the k nearest of all, plus a tie-breaker."""
    cosine = queries @ np.concatenate(shots).T
    k = min(k, cosine.shape[1])
    nearest = cosine >= np.partition(cosine, -k, axis=1)[:, -k][:, None]
    bounds = np.cumsum([0, *[len(rows) for rows in shots]])[:-1]
    votes = np.add.reduceat(np.where(nearest, 1 + cosine, 0), bounds, axis=1)
    return np.asarray(votes + 1e-3 * np.maximum.reduceat(cosine, bounds, axis=1), np.float32)


def tip_adapter(shots: list[Vectors], queries: Vectors, beta: float = TIP_BETA) -> Vectors:
    """Return the cache's affinity to each class, a mean over its shots."""
    return np.stack([np.exp(beta * (queries @ rows.T - 1)).mean(axis=1) for rows in shots], axis=1)


class Adaptshot:
    """The package adaptshot, asked picture by picture; it reads files, so it is given files."""

    name = "adaptshot"

    def __init__(self) -> None:
        import adaptshot

        self._learner = adaptshot.FewShotLearner
        self._turn = threading.Lock()  # it takes all cores by itself
        self._folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel to another process without the files."""
        return Adaptshot, ()

    def answer(self, encoded: Encoded, support: Sequence[Sequence[Item]], queries: Sequence[Item]) -> Answers:
        """See `Method`."""
        with self._turn:
            learner = self._learner()
            paths = [self._file(encoded, item) for items in support for item in items]
            learner.load_support_images(paths, [str(number) for number, items in enumerate(support) for _ in items])
            results = [learner.predict(self._file(encoded, item)) for item in queries]
        return Answers(
            best=np.array([int(result.prediction) for result in results]),
            known=np.array([result.calibrated_confidence for result in results], np.float32),
        )

    def _file(self, encoded: Encoded, item: Item) -> str:
        path = self._folder / f"{item[0]}-{item[1]}.png"
        if not path.exists():
            cv2.imwrite(str(path), encoded.picture(item))
        return str(path)


def plain_methods(mu: Vectors, pretrained_mu: Vectors) -> list[Method]:
    """Return the baselines that need nothing but what is installed with Wildlane."""
    return [
        OnVectors("simpleshot", mu, DEPLOYED, nearest_centroid),
        OnVectors("simpleshot-frozen", pretrained_mu, attrgetter("frozen"), nearest_centroid),
        OnVectors("logreg", mu, DEPLOYED, logistic_regression),
        OnVectors("knn", mu, DEPLOYED, k_nearest),
        OnVectors("tip-adapter", mu, DEPLOYED, tip_adapter),
    ]


def optional_methods(mu: Vectors, encoder_hash: str) -> tuple[list[Method], dict[str, str]]:
    """Return the baselines that can be had here, and for each other one the reason why not."""
    found: list[Method] = []
    missing = {}
    feat = _SetToSet()
    if feat.encoder == encoder_hash:
        found.append(OnVectors("feat", mu, DEPLOYED, feat))
    else:
        missing["feat"] = "its attention was trained for another encoder; run tools/train_feat.py"
    try:
        found.append(Adaptshot())
    except ImportError:
        missing["adaptshot"] = "not installed; run: pip install --no-deps 'adaptshot>=0.3,<0.4'"
    return found, missing


class _SetToSet:
    """Scores by FEAT's attention."""

    def __init__(self) -> None:
        self._graph = Graph(FEAT_FOLDER, FEAT, "cpu", threads=1)
        self.encoder = self._graph.metadata.get("encoder")

    def __reduce__(self) -> tuple[object, ...]:
        return _SetToSet, ()

    def __call__(self, shots: list[Vectors], queries: Vectors) -> Vectors:
        return np.asarray(self._graph.run(means=np.stack([rows.mean(axis=0) for rows in shots]), queries=queries)[0])
