"""A site takes the release that the centre has assigned to it, and says what became of it.

A thread beside the main loop: what goes wrong here stops no alert. The main loop takes the new version up from the
state folder, as it does one that was taught.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.class_file import read_classes
from adapters.class_set import ClassSetStore
from adapters.classifier import Classifier
from adapters.errors import ConfigError, InputError, StoreError, WildlaneError
from adapters.files import write_whole
from adapters.golden import GoldenSet
from adapters.teaching import take_in
from monitor.alerts.schema import SiteRelease
from monitor.fleet.updates import FOLDER, Release, Updates

log = logging.getLogger(__name__)

TAKEN = "taken.json"
CLOSE_S = 5.0

State = Literal["live", "held-back", "refused", "none"]
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
    state: State = "none"
    why: str = ""
    before: Version | None = None
    versions: dict[str, Version] = Field(default_factory=dict)


class Follower:
    """What a site does with the releases that are assigned to it."""

    def __init__(
        self,
        site: str,
        updates: Updates,
        classifier: Classifier,
        state_dir: Path,
        store: Callable[[], AbstractContextManager[ClassSetStore]],
    ) -> None:
        """Take up what was done before.

        Args:
            site: its name, as the centre's.
            updates: what the centre offers.
            classifier: encodes what a release brings.
            state_dir: keeps the golden set, and what became of the releases.
            store: opens the class sets.
        """
        self._site, self._updates, self._classifier, self._state_dir = site, updates, classifier, state_dir
        self._store, self._file = store, state_dir / FOLDER / TAKEN
        self._taken = self._read()

    def look(self) -> SiteRelease:
        """Take the assigned release where it is another than before, and return how things stand."""
        try:
            release, file = self._updates.assigned(self._site)
            if release != self._taken.release:
                self._note_what_was_before()
                self._taken = self._take(release, file)
                self._write()
                log.info("release %s: %s %s", release, self._taken.state, self._taken.why)
        except WildlaneError as error:  # what was in force stays so
            log.warning("no release is taken: %s", error)
        with self._store() as store:
            live = _live(store)
        taken = self._taken
        return SiteRelease(
            site=self._site,
            time=datetime.now(UTC),
            release=taken.release,
            state=taken.state,
            class_set=live,
            why=taken.why,
        )

    def _note_what_was_before(self) -> None:
        """Keep the version to go back to, before the first release: a power cut may come between the two."""
        if self._taken.before is None:
            with self._store() as store:
                self._taken = self._taken.model_copy(update={"before": _live(store)})
            self._write()

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
                return taken.model_copy(update={"state": "refused", "why": _told(got.left_out)})
            if got.held_back:  # no version to go back to: assigned once more, it is tried once more
                return taken.model_copy(update={"state": "held-back", "why": got.held_back})
            return taken.model_copy(update={"versions": {**taken.versions, release: got.version or _live(store)}})

    def _read(self) -> Taken:
        try:
            return Taken.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return Taken()
        except (OSError, ValidationError) as error:
            raise StoreError(f"{self._file}: can't be read ({str(error).splitlines()[0]})") from None

    def _write(self) -> None:
        try:
            write_whole(self._file, self._taken.model_dump_json(indent=1).encode())
        except OSError as error:
            raise StoreError(f"{self._file}: can't be written ({error.strerror})") from None


class Following:
    """A thread that looks, says what came of it, and waits for the next time or to be asked."""

    def __init__(self, look: Callable[[], SiteRelease], tell: Callable[[str], None], look_s: float) -> None:
        """Begin.

        Args:
            look: takes what is assigned.
            tell: is given how things stand after each look, as the topic's payload.
            look_s: seconds between looks.
        """
        self._look, self._tell, self._look_s = look, tell, look_s
        self._asked, self._stop = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)
        self._thread.start()

    def look_now(self) -> None:
        """Look at once, or once more where a look is under way; returns at once."""
        self._asked.set()

    def close(self) -> None:
        """End it; a release that is being taken in is finished, where that does not take long."""
        self._stop = True
        self._asked.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._stop:
            self._asked.clear()
            try:
                self._tell(self._look().model_dump_json(by_alias=True))
            except Exception:  # the supervised loop: whatever happens here, alerts go on
                log.exception("fleet: unexpected error; looking again later")
            self._asked.wait(self._look_s)


def _live(store: ClassSetStore) -> str:
    return next(record.version for record in store.versions() if record.active)


def _told(left_out: dict[str, str]) -> str:
    return "; ".join(f"{name} {why}" for name, why in left_out.items())
