"""What the watchers of a site have said last: its health as one, and what is not known where one is silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from monitor.alerts.journal import Journal
from monitor.alerts.mqtt import LEVEL_EXPIRES_S
from monitor.alerts.schema import SiteHealth, ZoneState
from monitor.cluster.remote import Level

SILENT_S = 5.0  # a watcher says something at least every second


@dataclass
class Voice:
    """One watcher's: when it spoke last, its health, and the level of each of its zones."""

    heard_s: float = 0.0
    health: SiteHealth | None = None
    zones: dict[str, ZoneState] = field(default_factory=dict)
    is_silent: bool = False


class Voices:
    """The watchers, by their groups."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._voices: dict[str, Voice] = {}

    def hear(self, group: str, levels: Sequence[Level], now_s: float) -> bool:
        """Take in what a watcher says; tell whether the site's health is another now."""
        voice = self._voices.setdefault(group, Voice())
        back, voice.heard_s, voice.is_silent = voice.is_silent, now_s, False
        for level in levels:
            if level.topic == "health":
                voice.health = SiteHealth.model_validate_json(level.payload)
            elif level.topic.startswith("state/"):
                state = ZoneState.model_validate_json(level.payload)
                voice.zones[state.zone] = state
        return back or any(level.topic == "health" for level in levels)

    def newly_silent(self, now_s: float) -> list[ZoneState]:
        """Return, of zones whose watcher has fallen silent since the last call, that nobody knows."""
        unknown: list[ZoneState] = []
        now = datetime.now(UTC)
        for voice in self._voices.values():
            if not voice.is_silent and now_s - voice.heard_s > SILENT_S:
                voice.is_silent = True
                said = {"level": "unknown", "situations": (), "since": now, "time": now}
                said["valid_until"] = now + timedelta(seconds=LEVEL_EXPIRES_S)
                unknown += [state.model_copy(update=said) for state in voice.zones.values()]
        return unknown

    def health(self, journal: Journal) -> SiteHealth | None:
        """Return the health of all cameras as one; those of a silent watcher are lost. None before anybody spoke."""
        told = [voice for voice in self._voices.values() if voice.health is not None]
        if not told:
            return None
        newest = max(told, key=lambda voice: voice.heard_s).health
        assert newest is not None  # by the choice of `told`
        unsent, parked = journal.counts()
        cameras = {}
        for voice in told:
            for name, health in voice.health.cameras.items() if voice.health is not None else ():
                lost = {"state": "blind", "reason": "lost", "analysed_per_s": 0.0}
                cameras[name] = health.model_copy(update=lost) if voice.is_silent else health
        return newest.model_copy(
            update={
                "time": datetime.now(UTC),
                "cameras": cameras,
                "journal": journal.id,
                "newest": journal.newest(),
                "unsent": unsent,
                "parked": parked,
                "warnings": tuple(sorted({one for voice in told if voice.health for one in voice.health.warnings})),
            }
        )
