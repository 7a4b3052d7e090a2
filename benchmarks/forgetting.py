"""Old classes' accuracy before and after ten more are taught: python benchmarks/forgetting.py FOLDER_OF_CLASS_FOLDERS

Five classes are taught from five pictures each and asked; then ten more join and the same queries are asked again, once
among the old names (what was forgotten) and once among all fifteen (what the new ones take).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from adapters.classifier import Classifier
from adapters.encoder import joined
from adapters.evaluation.episodes import read_pool
from adapters.evaluation.figures import mean_and_ci95
from adapters.stills import read_picture

EPISODES, OLD, NEW, SHOTS, QUERIES = 100, 5, 10, 5, 10


def main() -> None:
    classifier, rng = Classifier(device="cpu"), np.random.default_rng(1)
    pool = read_pool(Path(sys.argv[1]), rng)
    members = [rows[: SHOTS + QUERIES] for rows in pool.of_class]
    crops = {row: read_picture(pool.pictures[row]) for rows in members for row in rows}
    shots = {row: classifier.encode.shots([crop])[0] for row, crop in crops.items()}
    before, kept, among_all = [], [], []
    for _ in range(EPISODES):
        classes = rng.choice(len(members), OLD + NEW, replace=False)
        rows = [rng.permutation(members[c]) for c in classes]
        supports = {str(c): joined([shots[row] for row in r[:SHOTS]]) for c, r in zip(classes, rows, strict=True)}
        asked = np.concatenate([r[SHOTS:] for r in rows[:OLD]])
        queries = joined([shots[row][:1] for row in asked])
        truth = np.repeat(np.arange(OLD), [len(r) - SHOTS for r in rows[:OLD]])
        few = classifier.match(queries, classifier.adapt(dict(list(supports.items())[:OLD])))[0]
        many = classifier.match(queries, classifier.adapt(supports))[0]
        before.append(100 * (few[:, :OLD].argmax(axis=1) == truth).mean())
        kept.append(100 * (many[:, :OLD].argmax(axis=1) == truth).mean())
        among_all.append(100 * (many[:, : OLD + NEW].argmax(axis=1) == truth).mean())
    for name, values in (("before", before), ("after, among the old names", kept), ("after, among all", among_all)):
        mean, ci95 = mean_and_ci95(np.array(values))
        difference, paired = mean_and_ci95(np.array(values) - np.array(before))
        print(f"{name:28} {mean:6.2f} +- {ci95:.2f}   to before {difference:+.2f} +- {paired:.2f}")


if __name__ == "__main__":
    main()
