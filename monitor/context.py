"""What most verbs begin with: the configuration, the state folder, and the parts that are made from them."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.output import say

if TYPE_CHECKING:
    from adapters.class_set import ClassSetStore
    from adapters.classes import ClassSet
    from adapters.classifier import Classifier
    from monitor.config import Config
    from monitor.pipeline import Learn, Pipeline

DEFAULT_RATE_HZ = 5.0  # at which recordings are analysed: a camera's own default

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration; default ./config.toml, else the shipped defaults.")
]
StateOption = Annotated[
    Path | None, typer.Option("--state", help="State folder; default `state_dir` of the configuration.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON value on standard output, logs on standard error.")]


class Context:
    """What most verbs begin with: the configuration, and the parts made from it when they are asked for."""

    def __init__(self, config_path: Path | None, state: Path | None) -> None:
        from monitor.config import find_config, load_config

        self.path = find_config(config_path)
        self.config: Config = load_config(self.path)
        self.state_dir = state or Path(self.config.state_dir)

    @property
    def models_dir(self) -> Path:
        """Return the folder of the graphs."""
        from monitor.assembly import models_of

        return models_of(self.config, self.state_dir)

    def classifier(self) -> Classifier:
        """Load the graphs on the configured device."""
        from monitor.assembly import classifier_of

        return classifier_of(self.config, self.state_dir)

    @contextmanager
    def store(self, classifier: Classifier) -> Iterator[ClassSetStore]:
        """Open the class store of the state folder, seeded where it is new."""
        from monitor.assembly import open_classes

        store = open_classes(classifier, self.state_dir)
        try:
            yield store
        finally:
            store.close()

    def note(self, what: str, about: str) -> None:
        """Write into the audit of the site's console, where it has one, what was done here and by which user.

        What can't be written is told; what was done, is done.
        """
        from adapters.errors import StoreError
        from monitor.console.accounts import FILE, Accounts

        if not (self.state_dir / FILE).exists():
            return
        try:
            with closing(Accounts(self.state_dir)) as accounts:
                accounts.note(f"{_user()}, command line", what, about)
        except StoreError as error:
            say(f"the audit does not have it: {error}")

    def class_set(self, classifier: Classifier, only: str | None) -> ClassSet:
        """Load the active version, or just the classes `A,B` of it."""
        with self.store(classifier) as store:
            return store.load(classifier, names_of(only))

    def pipelines(self, only: str | None) -> Callable[[str], Pipeline]:
        """Return a maker of fresh pipelines, one a recording, that know what the site has learned of its background."""
        from adapters.site_knowledge import Background

        classifier = self.classifier()
        Background(classifier, self.state_dir).close()
        return self.pipelines_of(classifier, self.class_set(classifier, only))

    def pipelines_of(
        self, classifier: Classifier, class_set: ClassSet, learn: Learn = lambda features, answers: None
    ) -> Callable[[str], Pipeline]:
        """Return a maker of fresh pipelines with a class set; `learn` is given all that is classified."""
        from monitor.assembly import budgets_of, places_of, settings_of, zones_of
        from monitor.pipeline import Budget, Pipeline
        from monitor.policy import Policy

        settings, places, budgets = settings_of(self.config), places_of(self.config), budgets_of(self.config)
        return lambda camera: Pipeline(
            classifier,
            class_set,
            Policy(settings, zones_of(self.config, [camera]), places=places),
            {camera: budgets.get(camera, Budget())},
            learn=learn,
        )


def _user() -> str:
    """Return who runs this: the user before `sudo`, where that was used."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return f"user {os.getuid()}"


def names_of(only: str | None) -> list[str] | None:
    """Return the class names of `A,B`; None where none were given, which means all."""
    return None if only is None else [name.strip() for name in only.split(",") if name.strip()]
