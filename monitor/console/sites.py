"""Many sites, one screen: what they say of themselves, on a page of the centre's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.alerts.schema import ReleasePart, SiteHealth, SiteRelease, SiteStatus, ZoneState
from monitor.alerts.subscriber import Message, Subscriber
from monitor.console.access import needs
from monitor.console.accounts import Accounts
from monitor.console.app import guarded_app
from monitor.console.pages import page

log = logging.getLogger(__name__)

TOPICS = ["+/status", "+/health", "+/state/+", "+/release"]  # below wildlane/v1
MOST_SITES = 10_000
TICK_S = 1.0
PAGES = (("/", "Sites", "viewer"), ("/accounts", "Accounts", "viewer"), ("/audit", "Audit", "admin"))

Mark = Literal["ok", "degraded", "blind"]  # the colours of the console


@dataclass
class Known:
    """What a site has said last, and when it said anything."""

    status: SiteStatus | None = None
    health: SiteHealth | None = None
    release: SiteRelease | None = None
    zones: dict[str, ZoneState] = field(default_factory=dict)
    heard: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A site on the screen.

    Attributes:
        status, problem, mark: `online`, `degraded`, `offline` or `not known`; why; and its colour.
        active, unknown: zones with an animal now, and those of which nobody knows.
        cameras, seeing, blind: how many there are and see; the others with their reasons.
        class_set, release, model, unsent: in force; the centre's releases; alerts that the broker does not have yet.
        heard: when it last said anything.
    """

    site: str
    status: str
    problem: str
    mark: Mark
    active: tuple[str, ...]
    unknown: tuple[str, ...]
    cameras: int
    seeing: int
    blind: tuple[str, ...]
    class_set: str | None
    release: str
    model: str
    unsent: int | None
    heard: datetime | None


class SitesBoard:
    """What all sites have said; filled by one thread, read by those of the pages."""

    def __init__(self) -> None:
        self._sites: dict[str, Known] = {}
        self._lock = threading.Lock()

    def take(self, message: Message, now: datetime) -> None:
        """Take in a message; one that is not understood says nothing, an empty one takes a level back."""
        site, _, topic = message.topic.partition("/")
        with self._lock:
            if site not in self._sites and len(self._sites) >= MOST_SITES:
                return
            known = self._sites.setdefault(site, Known())
            try:
                self._note(known, topic, message.payload)
                known.heard = now
            except ValidationError as error:
                log.debug("%s: not understood (%s)", message.topic, error)

    def _note(self, known: Known, topic: str, payload: str) -> None:
        kind, _, zone = topic.partition("/")
        if kind == "state":
            if payload:
                known.zones[zone] = ZoneState.model_validate_json(payload)
            else:
                known.zones.pop(zone, None)
        elif kind == "status":
            known.status = SiteStatus.model_validate_json(payload)
        elif kind == "health":
            known.health = SiteHealth.model_validate_json(payload)
        else:
            known.release = SiteRelease.model_validate_json(payload)

    def rows(self, now: datetime) -> list[Row]:
        """Return all sites: what needs somebody first, then by name."""
        with self._lock:
            rows = [_row(site, known, now) for site, known in self._sites.items()]
        return sorted(rows, key=lambda row: (not row.active, row.mark == "ok", row.site))


def _row(site: str, known: Known, now: datetime) -> Row:
    status, problem = ("not known", "") if known.status is None else (known.status.status, known.status.problem or "")
    here = status in ("online", "degraded")
    cameras = known.health.cameras if known.health is not None and here else {}
    blind = tuple(f"{name} {one.state}: {one.reason}" for name, one in cameras.items() if one.state != "ok")
    levels = {zone: _level(state, now) if here else "unknown" for zone, state in sorted(known.zones.items())}
    warnings = ", ".join(known.health.warnings) if known.health is not None and here else ""
    return Row(
        site=site,
        status=status,
        problem=problem or warnings,
        mark="blind" if not here else "degraded" if status == "degraded" or blind or warnings else "ok",
        active=tuple(zone for zone, level in levels.items() if level == "active"),
        unknown=tuple(zone for zone, level in levels.items() if level == "unknown"),
        cameras=len(cameras),
        seeing=sum(one.state != "blind" for one in cameras.values()),
        blind=blind,
        class_set=known.health.class_set if known.health is not None else None,
        release=_told(None if known.release is None else known.release.classes),
        model=_told(None if known.release is None else known.release.model),
        unsent=known.health.unsent if known.health is not None else None,
        heard=known.heard,
    )


def _level(state: ZoneState, now: datetime) -> str:
    return state.level if now <= state.valid_until else "unknown"


def _told(part: ReleasePart | None) -> str:
    if part is None or part.release is None:
        return ""
    return f"{part.release}, {part.state}" if part.state != "live" else part.release


class Listening:
    """A thread that fills the board from a broker."""

    def __init__(self, subscriber: Subscriber, board: SitesBoard) -> None:
        """Begin."""
        self._subscriber, self._board, self._stop = subscriber, board, threading.Event()
        self._thread = threading.Thread(target=self._run, name="sites", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join(2 * TICK_S)
        self._subscriber.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for message in self._subscriber.messages(idle_s=TICK_S):
                self._board.take(message, datetime.now(UTC))
                if self._stop.is_set():
                    break


@dataclass(frozen=True)
class Centre:
    """What the pages are about, as they know a site."""

    name: str
    names: Callable[[], Mapping[str, str]] = dict


def make_screen(name: str, board: SitesBoard, accounts: Accounts, *, https: bool = False) -> Starlette:
    """Return the pages of a centre: its sites, behind the console's own login."""
    app = guarded_app([Route("/", sites, name="wall"), Route("/api/sites", table)], PAGES, accounts, https=https)
    app.state.site, app.state.board = Centre(name), board
    return app


@needs("viewer")
def sites(request: Request) -> Response:
    """Show every site."""
    return page(request, "sites.html", {"rows": request.app.state.board.rows(datetime.now(UTC))})


@needs("viewer")
def table(request: Request) -> Response:
    """Return the table alone, as it is now."""
    return page(request, "sites_table.html", {"rows": request.app.state.board.rows(datetime.now(UTC))})
