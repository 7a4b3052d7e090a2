"""What a running program does every hour: it drops what is old, looks at certificates, keeps the ballast."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from adapters.errors import WildlaneError
from monitor.alerts.certificates import Validity, validities
from monitor.alerts.journal import Journal
from monitor.alerts.tls import Tls
from monitor.ballast import Ballast
from monitor.clock import Clock
from monitor.snapshots import Snapshots

log = logging.getLogger(__name__)


class Upkeep:
    """The chores of a site.

    Attributes:
        certificates: how long they hold, as last seen.
    """

    def __init__(
        self,
        journal: Journal,
        snapshots: Snapshots,
        ballast: Ballast,
        clock: Clock,
        tls: Tls | None,
        kept: timedelta,
    ) -> None:
        """Do nothing yet; `kept` is the retention of delivered events."""
        self._journal, self._snapshots, self._ballast, self._clock = journal, snapshots, ballast, clock
        self._tls, self._kept = tls, kept
        self.certificates: Sequence[Validity] = ()

    def run(self) -> None:
        """Do all of it once; what fails is told in the log, and the rest is done."""
        self._check_certificates()
        if self._clock.state().steady:  # a clock set ahead by mistake must not empty the journal
            self._forget_what_is_old(datetime.now(UTC))
        self._ballast.take()

    def _check_certificates(self) -> None:
        try:
            self.certificates = validities(self._tls)
        except WildlaneError as error:
            log.error("%s", error)  # noqa: TRY400  # one line: the cause is in it
            return
        now = datetime.now(UTC)
        for warning in filter(None, (validity.warning(now) for validity in self.certificates)):
            log.warning("%s", warning)

    def _forget_what_is_old(self, now: datetime) -> None:
        self._snapshots.forget_old(now)
        try:
            self._journal.forget_before(now - self._kept)
        except WildlaneError as error:
            log.error("old rows stay in the journal: %s", error)  # noqa: TRY400  # one line
