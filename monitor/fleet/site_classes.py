"""What a site does with a release of classes: it is taken in as a version of its own, and left for another again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from adapters.class_file import read_classes
from adapters.class_set import ClassSetStore
from adapters.classifier import Classifier
from adapters.errors import ConfigError, InputError
from adapters.golden import GoldenSet
from adapters.teaching import take_in
from monitor.alerts.schema import ReleasePart
from monitor.fleet.chosen import Release
from monitor.fleet.names import FOLDER
from monitor.fleet.updates import Offered
from monitor.notes import read_note, write_note

TAKEN = "classes.json"

Version = Annotated[str, Field(pattern=r"^cs-[0-9]{1,9}$")]


class Taken(BaseModel):
    """What became of the releases so far.

    Attributes:
        release, state, why: of the one that is assigned now.
        before: the version that was in force before the first release.
        versions: release -> the version that it made.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    release: Release | None = None
    state: Literal["live", "held-back", "refused", "none"] = "none"
    why: str = ""
    before: Version | None = None
    versions: dict[str, Version] = Field(default_factory=dict)


class SiteClasses:
    """The releases of classes at one site."""

    def __init__(
        self, classifier: Classifier, state_dir: Path, store: Callable[[], AbstractContextManager[ClassSetStore]]
    ) -> None:
        """Take up what was done before.

        Args:
            classifier: encodes what a release brings.
            state_dir: keeps the golden set, and what became of the releases.
            store: opens the class sets.

        Raises:
            StoreError: what was done before can't be read.
        """
        self._classifier, self._state_dir, self._store = classifier, state_dir, store
        self._file = state_dir / FOLDER / TAKEN
        self._taken = read_note(self._file, Taken)

    @property
    def told(self) -> ReleasePart:
        """How things stand."""
        return ReleasePart(release=self._taken.release, state=self._taken.state, why=self._taken.why)

    @property
    def live(self) -> str:
        """The version in force, a release's or not."""
        with self._store() as store:
            return _live(store)

    def look(self, offered: Offered) -> None:
        """Put the assigned release in force where it is another than before.

        Raises:
            InputError: the centre does not give its file.
            StoreError: it can't be kept.
        """
        release = offered.releases["classes"]
        if release == self._taken.release:
            return
        file = None if release is None else offered.classes(release)
        self._note_what_was_before()
        self._taken = self._take(release, file)
        write_note(self._file, self._taken)

    def _note_what_was_before(self) -> None:
        """Keep the version to go back to, before the first release: a power cut may come between the two."""
        if self._taken.before is None:
            self._taken = self._taken.model_copy(update={"before": self.live})
            write_note(self._file, self._taken)

    def _take(self, release: str | None, file: Path | None) -> Taken:
        """Put a release in force: a new one is taken in, one that was there before is gone back to."""
        with self._store() as store, closing(GoldenSet(self._state_dir)) as golden:
            taken = self._taken.model_copy(update={"release": release, "state": "live", "why": ""})
            if release is None or file is None:
                store.rollback(taken.before)
                return taken.model_copy(update={"state": "none"})
            if release in taken.versions:
                store.rollback(taken.versions[release])
                return taken
            try:
                carried = read_classes(file, self._classifier)
                got = take_in(store, self._classifier, carried, f"release {release}", checked_on=golden)
            except (InputError, ConfigError) as error:
                return taken.model_copy(update={"state": "refused", "why": str(error)})
            if got.version is None and got.left_out and not carried.classes:
                return taken.model_copy(update={"state": "refused", "why": _reasons(got.left_out)})
            if got.held_back:  # no version to go back to: assigned once more, it is tried once more
                return taken.model_copy(update={"state": "held-back", "why": got.held_back})
            return taken.model_copy(update={"versions": {**taken.versions, release: got.version or _live(store)}})


def _live(store: ClassSetStore) -> str:
    return next(record.version for record in store.versions() if record.active)


def _reasons(left_out: dict[str, str]) -> str:
    return "; ".join(f"{name} {why}" for name, why in left_out.items())
