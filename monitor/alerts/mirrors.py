"""The level of each zone in the words of other systems, beside our own topics: Home Assistant and ONVIF.

Mirrors say no more than `state/{zone}` does; who needs every event, or a proof, reads our own topics.

References:
    Home Assistant, MQTT discovery: https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
    ONVIF Core Specification, events over MQTT; Analytics Service Specification, rule `FieldDetector/ObjectsInside`
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monitor import VERSION
from monitor.alerts.mqtt import LEVEL_EXPIRES_S, Publisher
from monitor.alerts.schema import ZoneState


@dataclass(frozen=True, kw_only=True)
class Prefixes:
    """Where the mirrors are published; None turns one off."""

    home_assistant: str | None
    onvif: str | None


class Mirrors:
    """Retained messages that follow the levels."""

    def __init__(
        self, prefixes: Prefixes, publisher: Publisher, site: str, cameras_of: Mapping[str, Sequence[str]]
    ) -> None:
        """Announce the zones where discovery is on; `cameras_of` names the cameras that see each zone."""
        self._prefixes, self._publisher, self._cameras_of = prefixes, publisher, cameras_of
        for zone in cameras_of if prefixes.home_assistant else ():
            topic = f"{prefixes.home_assistant}/binary_sensor/wildlane-{site}/{zone}/config"
            publisher.mirror(topic, json.dumps(_discovery(site, zone)))

    def show(self, state: ZoneState) -> None:
        """Mirror a level; Home Assistant reads `state/{zone}` itself.

        ONVIF knows only yes and no: while nobody knows, and in a test, it is told nothing at all.
        """
        told = state.level != "unknown" and state.mode == "real"
        for camera in self._cameras_of.get(state.zone, ()) if self._prefixes.onvif is not None else ():
            topic = f"{self._prefixes.onvif}/onvif-ej/RuleEngine/FieldDetector/ObjectsInside/{camera}/{state.zone}"
            payload = json.dumps(_objects_inside(state, camera)) if told else ""
            self._publisher.mirror(topic, payload, expires_s=LEVEL_EXPIRES_S)


def _discovery(site: str, zone: str) -> dict[str, object]:
    root = f"wildlane/v1/{site}"
    return {
        "name": zone,
        "unique_id": f"wildlane-{site}-{zone}",
        "device_class": "motion",
        "state_topic": f"{root}/state/{zone}",
        # a level that nobody knows is neither on nor off
        "value_template": "{{ {'active': 'ON', 'clear': 'OFF'}.get(value_json.level, 'None') }}",
        "json_attributes_topic": f"{root}/state/{zone}",
        "expire_after": LEVEL_EXPIRES_S,
        "availability_topic": f"{root}/status",
        "availability_template": "{{ 'offline' if value_json.status == 'offline' else 'online' }}",
        "device": {"identifiers": [f"wildlane-{site}"], "name": f"Wildlane {site}", "sw_version": VERSION},
        "origin": {"name": "Wildlane", "sw_version": VERSION},
    }


def _objects_inside(state: ZoneState, camera: str) -> dict[str, object]:
    return {
        "UtcTime": state.model_dump(mode="json", by_alias=True)["time"],
        "Source": {"VideoSourceConfigurationToken": camera, "Rule": state.zone},
        "Data": {"IsInside": state.level == "active"},
    }
