"""A site takes the releases that the centre has assigned to it, and says what became of them.

A thread beside the main loop: what goes wrong here stops no alert. The main loop takes new classes up from the state
folder, as those that were taught; a new model begins when it has started again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from adapters.errors import WildlaneError
from monitor.alerts.schema import SiteRelease
from monitor.fleet.site_classes import SiteClasses
from monitor.fleet.site_model import SiteModel
from monitor.fleet.updates import Updates

log = logging.getLogger(__name__)

CLOSE_S = 5.0
STARTING_S = 5.0  # between looks while a model is not proven yet


class Follower:
    """What a site does with the releases that are assigned to it."""

    def __init__(self, site: str, updates: Updates, classes: SiteClasses, model: SiteModel) -> None:
        """Take up what was done before.

        Args:
            site: its name, as the centre's.
            updates: what the centre offers.
            classes: what becomes of those of classes here.
            model: the same of models.
        """
        self._site, self._updates, self._classes, self._model = site, updates, classes, model

    def look(self) -> SiteRelease:
        """Take what is assigned where it is another than before, and return how things stand."""
        was = self._classes.told, self._model.told
        try:
            offered = self._updates.offered(self._site)
            self._model.look(offered)
            if not self._model.is_due:
                self._classes.look(offered)
        except WildlaneError as error:  # what was in force stays so
            log.warning("no release is taken: %s", error)
        told = SiteRelease(
            site=self._site,
            time=datetime.now(UTC),
            classes=self._classes.told,
            model=self._model.told,
            class_set=self._classes.live,
        )
        for before, part, kind in zip(was, (told.classes, told.model), ("classes", "model"), strict=True):
            if part != before:
                log.info("release %s (%s): %s", part.release, kind, part.why or part.state)
        return told

    @property
    def must_start_again(self) -> bool:
        """Whether a model is assigned that the next start loads."""
        return self._model.is_due


class Following:
    """A thread that looks, says what came of it, and waits for the next time or to be asked."""

    def __init__(
        self, follower: Follower, tell: Callable[[str], None], start_again: Callable[[], None], look_s: float
    ) -> None:
        """Begin.

        Args:
            follower: takes what is assigned.
            tell: is given how things stand after each look, as the topic's payload.
            start_again: called when the program must start again for a new model.
            look_s: seconds between looks.
        """
        self._follower, self._tell, self._start_again, self._look_s = follower, tell, start_again, look_s
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
            starting = False
            try:
                told = self._follower.look()
                self._tell(told.model_dump_json(by_alias=True))
                starting = told.model.state == "starting"
                if self._follower.must_start_again:
                    self._start_again()
            except Exception:  # the supervised loop: whatever happens here, alerts go on
                log.exception("fleet: unexpected error; looking again later")
            self._asked.wait(min(self._look_s, STARTING_S) if starting else self._look_s)
