"""Accuracy of the fp16 and int8 encoders beside the full one: python benchmarks/precision.py FOLDER_OF_CLASS_FOLDERS...

Each precision learns and answers the same episodes with its own features, and int8 answers also with what was learned
in full precision, as a site does whose classes were taught on another machine; the difference is paired, Wildlane in
full precision minus the other.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from pathlib import Path

from adapters.classifier import Classifier, mean_of_looks
from adapters.encoder import Encoder, Features, joined
from adapters.evaluation.conditions import VIEWS
from adapters.evaluation.episodes import Item
from adapters.evaluation.evaluate import Task, evaluate
from adapters.evaluation.methods import Answers, Encoded, Wildlane
from adapters.runtime import MODELS, Precision


class InPrecision(Wildlane):
    """What is deployed, its encoder in fewer bits; every picture is encoded once."""

    def __init__(self, classifier: Classifier, precision: Precision, taught_in: Precision | None = None) -> None:
        super().__init__(classifier)
        self.name = precision if taught_in is None else f"{precision}, taught in {taught_in}"
        self._look, self._learn = (
            Encoder(MODELS, device="cpu", precision=one) for one in (precision, taught_in or precision)
        )
        self._shots: dict[Item, Features] = {}
        self._looks: dict[Item, Features] = {}
        self._lock = threading.Lock()

    def answer(self, encoded: Encoded, support: Sequence[Sequence[Item]], queries: Sequence[Item]) -> Answers:
        """See `Method`."""
        with self._lock:
            for item in (item for items in support for item in items if item not in self._shots):
                self._shots[item] = self._learn.shots([encoded.picture(item)])[0]
            for item in (item for item in queries if item not in self._looks):
                self._looks[item] = self._look.looks([encoded.picture(item)])
        memory = self._classifier.adapt(
            {str(number): joined([self._shots[item] for item in items]) for number, items in enumerate(support)}
        )
        seen = joined([self._looks[item] for item in queries])
        weights, p_class, _, _ = map(mean_of_looks, self._classifier.match(seen, memory))
        return Answers(best=weights[:, :-1].argmax(axis=1), known=p_class.max(axis=1))


KINDS: tuple[tuple[Precision, Precision | None], ...] = (("fp16", None), ("int8", None), ("int8", "fp32"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", type=Path, nargs="+", help="folders of class folders")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--conditions", nargs="+", choices=tuple(VIEWS), default=["clean", "infrared"])
    options = parser.parse_args()
    classifier = Classifier(device="cpu", precision="fp32")
    for images in options.images:
        for condition in options.conditions:
            task = Task(images=images, condition=condition, episodes=options.episodes, slow_episodes=0)
            others = [InPrecision(classifier, precision, taught_in) for precision, taught_in in KINDS]
            names = {"wildlane", *(other.name for other in others)}
            for row in evaluate(classifier, task, more=others).rows:
                if row.method in names:
                    to_it = "" if row.method == "wildlane" else f"  {row.paired_diff:+.2f} +- {row.paired_ci95:.2f}"
                    what = f"{images.name} {condition:9} {row.shots}-shot {row.method:9}"
                    print(f"{what} {row.accuracy:6.2f}  AUROC {row.auroc:.1f}{to_it}", flush=True)


if __name__ == "__main__":
    main()
