"""From situations and camera health to the journal and the publisher: what a site tells, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from adapters.classes import ClassSet
from monitor import VERSION
from monitor.alerts import schema
from monitor.alerts.certificates import Validity
from monitor.alerts.compose import Draft, SiteFacts
from monitor.alerts.journal import Journal
from monitor.alerts.mirrors import Mirrors, Prefixes
from monitor.alerts.mqtt import LEVEL_EXPIRES_S, Publisher
from monitor.alerts.session import Address
from monitor.cameras.health import HealthMonitor
from monitor.clock import Clock, Every
from monitor.policy import Situation
from monitor.zones import Zone

LEVEL_EVERY_S = 10.0  # the level of each zone is told again this often


class Told(NamedTuple):
    """What was told of a zone: its level, since when, and its situations with whether they are tests."""

    level: schema.Level
    since_s: float
    inside: tuple[tuple[str, bool], ...]


class Machine(NamedTuple):
    """What `health` tells of the machine: where the encoder runs, whether its GPU failed, and our certificates."""

    provider: str
    lost_device: bool
    certificates: Sequence[Validity]


class Reports:
    """What a site tells: situation versions through the journal, the level of each zone, the health of its cameras."""

    def __init__(
        self,
        facts: SiteFacts,
        journal: Journal,
        publisher: Publisher,
        zones: Mapping[str, Sequence[Zone]],
        now: Callable[[], float],
        clock: Clock,
        mirrors: Prefixes,
        evidence: Callable[[Situation], schema.EvidencePart | None],
    ) -> None:
        self._facts, self._journal, self._publisher, self._now, self._clock = facts, journal, publisher, now, clock
        self._cameras_of, self._evidence = _cameras_of(zones), evidence
        self._prefixes, self._mirrors = mirrors, Mirrors(mirrors, publisher, facts.site, self._cameras_of)
        self._told: dict[str, Told] = {}
        self._telling = Every(LEVEL_EVERY_S)
        self.health: schema.SiteHealth | None = None  # as told last

    def change(self, facts: SiteFacts, zones: Mapping[str, Sequence[Zone]]) -> None:
        """Go on with other zones; nobody knows of those that are gone."""
        now_s, known = self._now(), _cameras_of(zones)
        for zone in self._cameras_of.keys() - known.keys():
            state = self._level(zone, "unknown", (), now_s)
            self._publisher.set_level(f"state/{zone}", state.model_dump_json(by_alias=True))
            self._mirrors.show(state)
            self._told.pop(zone, None)
        self._facts, self._cameras_of = facts, known
        self._mirrors = Mirrors(self._prefixes, self._publisher, facts.site, known)

    def tell(self, situations: Sequence[Situation], class_set: ClassSet) -> list[schema.Alert]:
        """Commit situation versions, hand them to the publisher, and return the alerts."""
        at = wall_clock(self._now())
        drafts = [
            Draft(
                situation=situation,
                facts=self._facts,
                class_set=class_set.version,
                attributes=class_set.attributes.get(situation.label),
                at=at,
                clock=self._clock_part(),
                evidence=self._evidence(situation),
            )
            for situation in situations
        ]
        alerts = self._journal.append(drafts) if drafts else []
        if alerts:
            self._publisher.event_committed()
        return alerts

    def tell_levels(self, open_situations: Sequence[Situation], healths: Mapping[str, HealthMonitor]) -> None:
        """Leave the level of each zone for the publisher, when it changed and every few seconds."""
        now_s = self._now()
        again = self._telling.is_due(now_s)
        trusted = self._clock.state().trusted  # else nobody can tell how long a level holds
        for zone, watching in self._cameras_of.items():
            inside = [situation for situation in open_situations if situation.zone.id == zone]
            blind = all(healths[name].check().state == "blind" for name in watching)
            level: schema.Level = "active" if inside else "unknown" if blind or not trusted else "clear"
            told = self._told.get(zone)
            since_s = told.since_s if told is not None and told.level == level else now_s
            news = Told(level, since_s, tuple((situation.id, situation.rehearsal) for situation in inside))
            if again or news != told:
                self._told[zone] = news
                state = self._level(zone, level, inside, since_s)
                self._publisher.set_level(f"state/{zone}", state.model_dump_json(by_alias=True))
                self._mirrors.show(state)

    def _level(self, zone: str, level: schema.Level, inside: Sequence[Situation], since_s: float) -> schema.ZoneState:
        now_s = self._now()
        at = wall_clock(now_s)
        return schema.ZoneState(
            site=self._facts.site,
            zone=zone,
            level=level,
            situations=tuple(situation.id for situation in inside),
            since=at(since_s),
            time=at(now_s),
            valid_until=at(now_s + LEVEL_EXPIRES_S),
            mode="test" if inside and all(situation.rehearsal for situation in inside) else self._facts.mode,
            advisory=schema.ADVISORY,
        )

    def tell_health(self, healths: Mapping[str, HealthMonitor], class_set: ClassSet, machine: Machine) -> None:
        """Leave the health of the site for the publisher."""
        unsent, parked = self._journal.counts()
        now = datetime.now(UTC)
        self.health = health = schema.SiteHealth(
            site=self._facts.site,
            time=now,
            cameras={name: self._camera_health(monitor) for name, monitor in healths.items()},
            journal=self._journal.id,
            newest=self._journal.newest(),
            unsent=unsent,
            parked=parked,
            class_set=class_set.version,
            provider=machine.provider,
            clock=self._clock_part(),
            certificates=tuple(
                schema.CertificatePart(role=known.role, not_after=known.not_after, days_left=known.days_left(now))
                for known in machine.certificates
            ),
            warnings=self._warnings(healths, machine),
        )
        self._publisher.set_level("health", health.model_dump_json(by_alias=True), expires_s=None, qos=0)

    def _warnings(self, healths: Mapping[str, HealthMonitor], machine: Machine) -> tuple[schema.Warned, ...]:
        warned: dict[schema.Warned, bool] = {
            "no-subscriber": self._publisher.unheard,
            "gpu-lost": machine.lost_device,
            "overloaded": any(monitor.overloaded for monitor in healths.values()),
        }
        return tuple(warning for warning, holds in warned.items() if holds)

    def tell_info(self, info: schema.SiteInfo) -> None:
        """Leave what consumers must know of the site for the publisher."""
        self._publisher.set_level("info", info.model_dump_json(by_alias=True), expires_s=None)

    def _clock_part(self) -> schema.ClockPart:
        state = self._clock.state()
        return schema.ClockPart(synced=state.synced, source=state.source, error_ms=state.error_ms)

    def _camera_health(self, monitor: HealthMonitor) -> schema.CameraHealth:
        health = monitor.check()
        since = wall_clock(self._now())(health.since_s)
        rate = monitor.analysed_per_s
        return schema.CameraHealth(state=health.state, reason=health.reason, since=since, analysed_per_s=rate)


def _cameras_of(zones: Mapping[str, Sequence[Zone]]) -> dict[str, list[str]]:
    """Return which cameras see each zone, from the zones of each camera."""
    cameras: dict[str, list[str]] = {}
    for camera, drawn in zones.items():
        for zone in drawn:
            cameras.setdefault(zone.id, []).append(camera)
    return cameras


def publisher_of(site: str, address: Address, journal: Journal, zones: frozenset[str], problem: str) -> Publisher:
    """Return a publisher of a site's journal, which is born as `problem` says; more is known only once it publishes."""
    return Publisher(
        address,
        journal,
        root=f"wildlane/v1/{site}",
        online=status_of(site, "online", journal.id, problem),
        offline=status_of(site, "offline", journal.id, problem),
        zones=zones,
    )


def status_of(site: str, word: Literal["online", "offline"], journal: str, problem: str) -> str:
    """Return the birth or the will of a journal's publisher; a site in trouble is born degraded."""
    status = schema.SiteStatus(
        site=site,
        status="degraded" if word == "online" and problem else word,
        since=datetime.now(UTC),
        software=VERSION,
        journal=journal,
        problem=problem or None,
    )
    return status.model_dump_json(by_alias=True)


def wall_clock(now_s: float) -> Callable[[float], datetime]:
    """Return the translation of monotonic times to wall times as of now; all times of one message use the same one."""
    wall = datetime.now(UTC)
    return lambda at_s: wall - timedelta(seconds=now_s - at_s)
