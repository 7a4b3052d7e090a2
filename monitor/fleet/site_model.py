"""What a site does with a release of a model: tried beside the one in use, begun by a new start, proven by running."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from adapters.classifier import Classifier
from adapters.errors import ConfigError, ModelError
from adapters.golden import GoldenSet
from monitor.alerts.schema import ReleasePart
from monitor.assembly import open_classes
from monitor.fleet.chosen import ChosenModel
from monitor.fleet.updates import Offered


class SiteModel:
    """The releases of models at one site."""

    def __init__(
        self, classifier: Classifier, state_dir: Path, load: Callable[[Path], Classifier], proven_s: float
    ) -> None:
        """Take up what was done before.

        Args:
            classifier: the one in use.
            state_dir: keeps the models, and which of them is in use.
            load: checks a model's folder, and loads it where it takes nothing from the one in use.
            proven_s: seconds for which the program must run with a model that is new to it.

        Raises:
            StoreError: what was done before can't be read.
        """
        self._classifier, self._state_dir, self._load = classifier, state_dir, load
        self._chosen = ChosenModel(state_dir)
        self._begun_s, self._proven_s = time.monotonic(), proven_s

    @property
    def told(self) -> ReleasePart:
        """How things stand."""
        choice = self._chosen.choice
        state = "starting" if choice.state == "trying" else choice.state
        return ReleasePart(release=choice.release, state=state, why=choice.why)

    @property
    def is_due(self) -> bool:
        """Whether the program must start again to load what is assigned."""
        return self._chosen.choice.is_due

    def look(self, offered: Offered) -> None:
        """Try the assigned model where it is another than before; note that the one in use is proven where it is.

        Raises:
            InputError: the centre does not give its files.
            StoreError: what came of it can't be noted.
        """
        choice, release = self._chosen.choice, offered.releases["model"]
        if choice.state == "trying":  # and not by us: it is left with another state below
            self._chosen.note(state="refused", why="the program ended while it was tried")
        elif release != choice.release:
            self._change(release, offered)
        elif self._chosen.is_new and self._ran_s >= self._proven_s:
            self._chosen.note(state=_proven(release), starts=0)
            self._clear_up()

    @property
    def _ran_s(self) -> float:
        return time.monotonic() - self._begun_s

    def _change(self, release: str | None, offered: Offered) -> None:
        choice = self._chosen.choice
        if release == choice.in_use:
            self._chosen.note(release=release, state="starting" if choice.starts else _proven(release), why="")
        elif release is None:
            self._chosen.note(release=None, state="starting", why="")
        else:
            folder = self._chosen.folder_of(release)
            offered.model(release, folder, like=self._classifier.folder)
            self._chosen.note(release=release, state="trying", why="")
            try:
                objection = self._objection(self._load(folder))
            except (ModelError, ConfigError) as error:
                self._chosen.note(state="refused", why=str(error))
            else:
                self._chosen.note(state="held-back" if objection else "starting", why=objection)

    def _objection(self, new: Classifier) -> str:
        """Return what speaks against a model: classes that it can't know, or checked frames that it names worse."""
        with (
            closing(open_classes(self._classifier, self._state_dir)) as store,
            closing(open_classes(new, self._state_dir, in_memory=True)) as copy,
            closing(GoldenSet(self._state_dir)) as golden,
        ):
            before, after = store.load(self._classifier).memory, copy.load(new).memory
            if lost := [name for name in before.names if name not in after.names]:
                return f"it does not know {', '.join(lost)}, and no pictures are kept to teach it from"
            trial = golden.trial_of_model((self._classifier, before), (new, after))
        return trial.told if trial.is_worse else ""

    def _clear_up(self) -> None:
        """Delete the models that are neither in use nor what one would go back to."""
        kept = {self._chosen.choice.in_use, self._chosen.choice.before}
        for folder in self._chosen.folders():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def _proven(release: str | None) -> str:
    """Return the state of what has run for long enough."""
    return "none" if release is None else "live"
