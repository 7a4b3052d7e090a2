"""Choose the constants of the baselines on the classes that tune: the best mean over conditions and shots.

    python tools/held_back.py --data ../shared/data --role tune --out runs/tune
    python tools/tune_baselines.py runs/tune/species runs/tune/mini-imagenet

The three numbers it ends with belong into adapters/evaluation/methods.py. A few minutes on two cores.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from adapters.classifier import Classifier
from adapters.evaluation.evaluate import Task, evaluate
from adapters.evaluation.methods import DEPLOYED, OnVectors, k_nearest, logistic_regression, tip_adapter

GRIDS = {
    "logreg C": (logistic_regression, "c", (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)),
    "knn k": (k_nearest, "k", (1, 3, 5, 7, 9)),
    "tip-adapter beta": (tip_adapter, "beta", (0.5, 1.0, 2.0, 3.5, 5.5, 8.0, 12.0)),
}
CONDITIONS = ("clean", "32px")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", type=Path, nargs="+", help="folders of class folders")
    parser.add_argument("--episodes", type=int, default=100)
    options = parser.parse_args()
    classifier = Classifier(device="cpu")
    mu = classifier.knowledge.mu
    methods = [
        OnVectors(f"{name} {value}", mu, DEPLOYED, partial(score, **{key: value}))
        for name, (score, key, values) in GRIDS.items()
        for value in values
    ]
    found: dict[str, list[float]] = defaultdict(list)
    for images in options.images:
        for condition in CONDITIONS:
            task = Task(images=images, condition=condition, episodes=options.episodes, slow_episodes=0)
            for row in evaluate(classifier, task, print, methods).rows:
                found[row.method].append(row.accuracy)
    for name, (_, _, values) in GRIDS.items():
        means = {value: float(np.mean(found[f"{name} {value}"])) for value in values}
        print(name, "  ".join(f"{value}: {mean:.2f}" for value, mean in means.items()))
        print(f"  best {max(means, key=means.__getitem__)}")


if __name__ == "__main__":
    main()
