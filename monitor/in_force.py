"""The class set in force: versions taught meanwhile are taken up, tried beside it, and told the site's background."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

from adapters.class_set import ClassSetStore
from adapters.classes import ClassSet
from adapters.classifier import Classifier
from adapters.errors import DamagedError, StoreError, WildlaneError
from adapters.golden import FILE, GoldenSet
from adapters.reencoding import REASON
from adapters.site_knowledge import Background
from monitor import heap
from monitor.assembly import open_classes
from monitor.pipeline import Pipeline
from monitor.shadow import Shadow

log = logging.getLogger(__name__)


class InForce:
    """What a running program has of its state folder's class sets and knowledge base."""

    def __init__(self, classifier: Classifier, state_dir: Path) -> None:
        """Open both. Where the folder can't be written, go on with what it holds: alerting matters more.

        Raises:
            StoreError: the class sets can't be read.
        """
        self._classifier, self._parts = classifier, ExitStack()
        self.problem = ""  # why nothing can be taught, where that is so
        self.doubt = ""  # why what was taught may be named worse than before
        self.background = Background(classifier, state_dir)
        self._parts.callback(self.background.close)
        try:
            self._store = self._opened(state_dir)
        except BaseException:
            self._parts.close()
            raise
        self._parts.callback(self._store.close)
        self._aside = ThreadPoolExecutor(1, "class-set")
        self._parts.callback(self._aside.shutdown, cancel_futures=True)
        self._loading: Future[ClassSet] | None = None
        self._tried: Future[ClassSet] | None = None
        self._version, self._state_dir = self._store.active_version(), state_dir

    def _opened(self, state_dir: Path) -> ClassSetStore:
        try:
            return open_classes(self._classifier, state_dir)
        except DamagedError:
            raise
        except StoreError as error:
            self.problem = f"{error}; the class set is read from there, and nothing can be taught"
            log.error("%s", self.problem)  # noqa: TRY400  # one line
            return open_classes(self._classifier, state_dir, in_memory=True)

    def close(self) -> None:
        """Close both."""
        self._parts.close()

    def class_set(self) -> ClassSet:
        """Return the active version to begin with; where the encoder is new, it is tried on the checked frames."""
        class_set = self._store.load(self._classifier)
        log.info("class set %s: %s", class_set.version, ", ".join(class_set.attributes) or "nothing taught")
        self._check_left_out()
        self._check_encoder(class_set)
        return class_set

    def _check_left_out(self) -> None:
        if any(record.active and record.reason == REASON for record in self._store.versions()):
            self.doubt = (
                f"{REASON}; `wildlane classes list` says which: go back to the former encoder, or teach them anew"
            )
            log.error("%s", self.doubt)

    def _check_encoder(self, class_set: ClassSet) -> None:
        if not (self._state_dir / FILE).exists():
            return
        try:
            with closing(GoldenSet(self._state_dir)) as golden:
                trial = golden.trial_of_encoder(self._classifier, class_set.memory)
        except StoreError as error:
            log.warning("the checked frames can't be tried: %s", error)
            return
        if trial.is_worse:
            worse = f"the encoder is new: {trial.told}; go back to the former one, or teach these animals anew"
            log.error("%s", worse)
            self.doubt = "; ".join(filter(None, (self.doubt, worse)))

    def look(self) -> None:
        """Begin to load another version where one is active now, aside: frames can't wait for a hundred classes."""
        if self._loading is not None:
            return
        try:
            version = self._store.active_version()
        except WildlaneError as error:
            log.error("the class sets can't be read: %s", error)  # noqa: TRY400  # one line
            return
        if version != self._version:
            self._version = version  # also where it can't be loaded: the next version is tried
            self._loading = self._load(None)

    def _load(self, version: str | None) -> Future[ClassSet]:
        return self._aside.submit(self._store.load, self._classifier, version=version)

    def take_up(self, pipeline: Pipeline) -> bool:
        """Let the pipeline go on with what has been loaded; tell whether another class set is in force now.

        One that can't be loaded is said once, and changes nothing.
        """
        if self._tried is not None and self._tried.done():
            tried, self._tried = self._tried, None
            self._try_beside(pipeline, tried)
        if self._loading is None or not self._loading.done():
            return False
        loading, self._loading = self._loading, None
        live = pipeline.class_set.version
        try:
            pipeline.take_up(class_set := loading.result())
        except WildlaneError as error:
            log.error("a new class set can't be taken up, %s stays live: %s", live, error)  # noqa: TRY400  # one line
            return False
        heap.give_back()
        if class_set.version != live:
            log.info("class set %s is live: %s", class_set.version, ", ".join(class_set.attributes))
        return True

    def try_out(self, pipeline: Pipeline, version: str) -> None:
        """Let the pipeline run a version beside the active one once it is loaded; none where the name is empty."""
        pipeline.shadow = None
        self._tried = self._load(version) if version else None

    def _try_beside(self, pipeline: Pipeline, tried: Future[ClassSet]) -> None:
        try:
            pipeline.shadow = Shadow(tried.result())
        except WildlaneError as error:
            log.error("it can't be tried: %s", error)  # noqa: TRY400  # one line

    def learn_background(self) -> None:
        """Cluster what was seen, and load the class set anew, which then knows of it."""
        try:
            rows = self.background.learn()
        except WildlaneError as error:
            log.error("the site's background can't be learned: %s", error)  # noqa: TRY400  # one line
            return
        if rows:
            log.info("the site's background is known by %d kinds of crops", rows)
            self._loading = self._load(None)
