"""What each part of the head is worth: heads trained without it, judged beside the whole on the same episodes.

    python tools/ablation.py --run runs/first --images runs/report-species --out runs/ablation

Trains one head for each part on the run's feature banks (resumable), then runs the episodes of `wildlane evaluate` in
every condition. `untrained` is the head with all gates at zero, `plain shots` the whole one taught without mirrored
views, `one look` the whole one asked about the crop alone, `first-order` the one whose outer gradient ignores how the
descent depends on itself.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from adapters.classifier import Classifier
from adapters.encoder import LOOKS, Features
from adapters.evaluation.conditions import VIEWS
from adapters.evaluation.episodes import Item
from adapters.evaluation.evaluate import Task, evaluate
from adapters.evaluation.methods import Answers, Encoded, Wildlane
from adapters.runtime import SHIPPED, copy_models, write_manifest
from adapters.training.attention import Head
from adapters.training.bank import Bank
from adapters.training.calibration import calibrate
from adapters.training.export import STATISTICS, export_head, load_head
from adapters.training.meta_train import PARTS, HeadRecipe, class_tokens, train_head
from adapters.training.statistics import head_statistics
from adapters.training.train import bank_of


class FirstLook(Encoded):
    """Pictures of an evaluation, each looked at once."""

    def features(self, items: Sequence[Item]) -> Features:
        features = super().features(items)
        first = np.arange(0, len(features), LOOKS)
        return features[first.repeat(LOOKS)]  # the mean of two looks that are one


class OneLook(Wildlane):
    """What is deployed, looking at each query once."""

    name = "one look"

    def answer(self, encoded: Encoded, support: Sequence[Sequence[Item]], queries: Sequence[Item]) -> Answers:
        return super().answer(FirstLook(**vars(encoded)), support, queries)


class PlainShots(Wildlane):
    """What is deployed, taught from the crops alone."""

    name = "plain shots"

    def answer(self, encoded: Encoded, support: Sequence[Sequence[Item]], queries: Sequence[Item]) -> Answers:
        plain = replace(encoded, shots={row: features[:1] for row, features in encoded.shots.items()})
        return super().answer(plain, support, queries)


def variants(run: Path, out: Path, steps: int) -> Iterator[Wildlane]:
    """Train what is not trained yet, and yield each variant as `evaluate` takes it."""
    models = run / "models"
    banks = Bank.load(bank_of(run, "train")), Bank.load(bank_of(run, "tune"))
    with np.load(run / STATISTICS) as stored:
        mu = torch.from_numpy(stored["mu"])
    start = head_statistics(run / STATISTICS)
    whole = HeadRecipe(steps=steps)
    recipes = {f"without {part}": replace(whole, without=part) for part in PARTS}
    recipes |= {"whole, as long": whole, "first-order": replace(whole, first_order=True)}
    heads = {"untrained": Head(start).eval()}
    for name, recipe in recipes.items():
        heads[name] = load_head(train_head(banks, out / name.replace(" ", "-"), recipe, start, mu, say=print))
        heads[name].match.hard = recipe.without != "hard-attention"
    for name, head in heads.items():
        calibrate(head, banks[1], mu, class_tokens(banks[0]), whole.seed)
        folder = out / "models" / name.replace(" ", "-")
        copy_models(models, folder)
        export_head(head, folder)
        write_manifest(folder, SHIPPED)
        method = Wildlane(Classifier(folder, device="cpu"))
        method.name = name
        yield method


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge heads trained without each part beside the whole one.")
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished `wildlane model train`")
    parser.add_argument("--images", type=Path, required=True, help="class folders that no training saw")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500, help="of each head; all are trained equally long")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--conditions", nargs="+", choices=tuple(VIEWS), default=list(VIEWS))
    options = parser.parse_args()
    deployed = Classifier(options.run / "models", device="cpu")
    methods = [*variants(options.run, options.out, options.steps), PlainShots(deployed), OneLook(deployed)]
    table = []
    for condition in options.conditions:
        task = Task(images=options.images, condition=condition, episodes=options.episodes, slow_episodes=0)
        table += [row.answer() for row in evaluate(deployed, task, print, methods).rows]
    (options.out / "rows.json").write_text(json.dumps(table, indent=1) + "\n")
    for row in table:
        what = f"{row['condition']:11} {row['shots']}-shot {row['method']:24}"
        print(f"{what} {row['accuracy']:6.2f}  wildlane {row['paired_diff']:+.2f} +- {row['paired_ci95']:.2f}")


if __name__ == "__main__":
    main()
