"""A release goes to a few sites first, is watched there beside the others, and goes on or back.

Nothing is kept of a roll-out but what the folder of releases says: one that was stopped is begun again, and watches its
first sites for the whole time once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean

from pydantic import ValidationError

from adapters.workers import Say
from monitor.alerts.schema import Alert, ReleasePart, SiteRelease, SiteStatus
from monitor.alerts.subscriber import Message, Subscriber
from monitor.fleet.names import Kind
from monitor.fleet.releases import Releases

TOPICS = ["+/release", "+/status", "+/event/#"]  # below wildlane/v1
MOST_TIMES, MOST_MORE = 3.0, 5  # situations at a first site beside the mean of the others: more is a flood
TICK_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who gets a release, and when.

    Attributes:
        release, kind: its name, and what it brings.
        first: sites that try it.
        rest: sites that follow; until then they are what the first ones are compared with.
        take_s: for which a site may take to put it in force.
        watch_s: for which the first sites are watched.
        most_dismissed: situations that people may dismiss at a first site meanwhile.
    """

    release: str
    kind: Kind
    first: tuple[str, ...]
    rest: tuple[str, ...]
    take_s: float
    watch_s: float
    most_dismissed: int = 0


@dataclass
class Seen:
    """What a site has said since the watch began; its release and status as last told."""

    release: SiteRelease | None = None
    status: SiteStatus | None = None
    starts: int = 0
    dismissed: int = 0


@dataclass
class Board:
    """What all sites say."""

    subscriber: Subscriber
    sites: dict[str, Seen] = field(default_factory=dict)

    def seen(self, site: str) -> Seen:
        """Return what a site has said."""
        return self.sites.setdefault(site, Seen())

    def forget_events(self) -> None:
        """Count from now on."""
        for seen in self.sites.values():
            seen.starts = seen.dismissed = 0

    def listen(self, seconds: float, done: Callable[[], bool]) -> bool:
        """Take in what comes for so long, or until it is done; tell whether it is."""
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline:
            for message in self.subscriber.messages(idle_s=min(TICK_S, max(0.0, deadline - time.monotonic()))):
                self.take(message)
                if done() or time.monotonic() >= deadline:
                    break
        return done()

    def take(self, message: Message) -> None:
        """Take in a message; one that is not understood says nothing."""
        site, _, topic = message.topic.partition("/")
        seen = self.seen(site)
        try:
            if topic == "release":
                seen.release = SiteRelease.model_validate_json(message.payload)
            elif topic == "status":
                seen.status = SiteStatus.model_validate_json(message.payload)
            else:
                situation = Alert.model_validate_json(message.payload).data.situation
                seen.starts += situation.phase == "start"
                seen.dismissed += situation.end_reason == "false-alarm"
        except ValidationError:
            return


def roll_out(releases: Releases, board: Board, plan: Plan, say: Say) -> bool:
    """Give a release to the first sites, watch, and give it to the rest or take it back; tell whether it went on.

    Raises:
        ConfigError: there is no such release.
        InputError: the folder of releases can't be written.
    """
    if objection := _try(releases, board, plan, say):
        say(f"back: {objection}")
        former = releases.former(plan.kind)
        _assign(releases, board, plan.kind, {site: former.get(site) for site in plan.first})
        return False
    say(f"on to {', '.join(plan.rest) or 'nobody else'}")
    _assign(releases, board, plan.kind, dict.fromkeys(plan.rest, plan.release))
    board.listen(plan.take_s, lambda: all(_is_settled(board, plan, site) for site in plan.rest))
    for site in plan.rest:
        say(f"{site}: {_standing(board, plan, site) or 'live'}")
    return True


def _try(releases: Releases, board: Board, plan: Plan, say: Say) -> str:
    """Give it to the first sites and watch them; return what speaks against it, empty where nothing does."""
    say(f"{plan.release} goes to {', '.join(plan.first)}")
    _assign(releases, board, plan.kind, dict.fromkeys(plan.first, plan.release))
    board.listen(plan.take_s, lambda: all(_is_settled(board, plan, site) for site in plan.first))
    if bad := next((f"{site}: {told}" for site in plan.first if (told := _standing(board, plan, site))), ""):
        return bad
    say(f"live there; watching for {plan.watch_s:.0f} s")
    board.forget_events()
    if board.listen(plan.watch_s, lambda: bool(_trouble(board, plan))):
        return _trouble(board, plan)
    return _flood(board, plan)


def _assign(releases: Releases, board: Board, kind: Kind, wanted: dict[str, str | None]) -> None:
    releases.assign(kind, wanted)
    for site in wanted:
        board.subscriber.say(f"{site}/cmd/update", "{}")


def _part(board: Board, plan: Plan, site: str) -> ReleasePart | None:
    """Return what a site has said of the release, None where it has not."""
    if (told := board.seen(site).release) is None:
        return None
    part = told.classes if plan.kind == "classes" else told.model
    return part if part.release == plan.release else None


def _is_settled(board: Board, plan: Plan, site: str) -> bool:
    """Tell whether a site has said what became of the release."""
    part = _part(board, plan, site)
    return part is not None and part.state != "starting"


def _standing(board: Board, plan: Plan, site: str) -> str:
    """Return why a release is not in force at a site, empty where it is."""
    part = _part(board, plan, site)
    if part is None or part.state == "starting":
        return "has not taken it in time"
    return "" if part.state == "live" else f"{part.state}: {part.why}"


def _trouble(board: Board, plan: Plan) -> str:
    """Return what is wrong at a first site, empty where nothing is."""
    for site in plan.first:
        seen = board.seen(site)
        if seen.status is not None and seen.status.status != "online":
            return f"{site} is {seen.status.status}: {seen.status.problem or 'not said why'}"
        if seen.dismissed > plan.most_dismissed:
            return f"{site}: people dismissed {seen.dismissed} situations, {plan.most_dismissed} are allowed"
    return ""


def _flood(board: Board, plan: Plan) -> str:
    """Return which first site alerts far more often than the sites without the release, empty where none does."""
    usual = fmean(board.seen(site).starts for site in plan.rest) if plan.rest else 0.0
    most = MOST_TIMES * usual + MOST_MORE
    for site in plan.first:
        if (starts := board.seen(site).starts) > most:
            return f"{site}: {starts} situations, the others had {usual:.1f}"
    return ""
