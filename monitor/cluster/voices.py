"""What the watchers of a site have said last: its health as one, and what is not known where one is silent."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from monitor.alerts.journal import Journal
from monitor.alerts.mqtt import LEVEL_EXPIRES_S
from monitor.alerts.schema import ADVISORY, CameraHealth, SiteHealth, ZoneState
from monitor.cluster.remote import Level
from monitor.config import Config

SILENT_S = 5.0  # a watcher says something at least every second


@dataclass
class Voice:
    """One watcher's: when it spoke last, its health, and its zones."""

    heard_s: float = 0.0
    health: SiteHealth | None = None
    zones: frozenset[str] = frozenset()
    is_silent: bool = False


class Voices:
    """The watchers, by their groups; all of them are expected to speak, also one that never has."""

    def __init__(self, config: Config, groups: Mapping[str, str]) -> None:
        """Know who is to speak.

        Args:
            config: of the site.
            groups: zone -> the group that watches it.
        """
        self._config, self._lock = config, threading.Lock()
        self._expected = datetime.now(UTC)
        self._voices = {
            group: Voice(zones=frozenset(zone for zone, its in groups.items() if its == group))
            for group in sorted(set(groups.values()))
        }

    def expect(self, now_s: float) -> None:
        """Count everybody's silence from now on."""
        self._expected = datetime.now(UTC)
        with self._lock:
            for voice in self._voices.values():
                voice.heard_s = now_s

    def hear(self, group: str, levels: Sequence[Level], now_s: float) -> bool:
        """Take in what a watcher says; tell whether the site's health is another now."""
        told = [level for level in levels if level.topic == "health"]
        with self._lock:
            voice = self._voices[group]
            back, voice.heard_s, voice.is_silent = voice.is_silent, now_s, False
            for level in told:
                voice.health = SiteHealth.model_validate_json(level.payload)
            return back or bool(told)

    def newly_silent(self, now_s: float) -> list[ZoneState]:
        """Return, of zones whose watcher has fallen silent since the last call, that nobody knows."""
        silent: list[Voice] = []
        with self._lock:
            for voice in self._voices.values():
                if not voice.is_silent and now_s - voice.heard_s > SILENT_S:
                    voice.is_silent = True
                    silent.append(voice)
        now = datetime.now(UTC)
        return [self._unknown(zone, now) for voice in silent for zone in sorted(voice.zones)]

    def _unknown(self, zone: str, now: datetime) -> ZoneState:
        return ZoneState(
            site=self._config.site,
            zone=zone,
            level="unknown",
            situations=(),
            since=now,
            time=now,
            valid_until=now + timedelta(seconds=LEVEL_EXPIRES_S),
            mode=self._config.policy.mode,
            advisory=ADVISORY,
        )

    def health(self, journal: Journal) -> SiteHealth | None:
        """Return the health of all cameras as one; those of a watcher that is silent are lost.

        None until everybody has spoken, or was silent for too long, and before anybody has.
        """
        with self._lock:
            voices = [replace(voice) for voice in self._voices.values()]
        told = [voice for voice in voices if voice.health is not None]
        if not told or any(voice.health is None and not voice.is_silent for voice in voices):
            return None
        newest = max(told, key=lambda voice: voice.heard_s).health
        assert newest is not None  # by the choice of `told`
        unsent, parked = journal.counts()
        lost = {"state": "blind", "reason": "lost", "analysed_per_s": 0.0}
        unheard = CameraHealth.model_validate({"since": self._expected, **lost})
        cameras = dict.fromkeys(self._config.cameras, unheard)
        for voice in told:
            for name, health in voice.health.cameras.items() if voice.health is not None else ():
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
