"""Which cameras must be watched together: all that see a zone of one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monitor.zones import Zone


@dataclass(frozen=True)
class Group:
    """Cameras that share zones, directly or through others; what is placed on a node as a whole.

    Attributes:
        name: of its first camera.
        cameras: in the order of the configuration.
        zones: that they see.
    """

    name: str
    cameras: tuple[str, ...]
    zones: frozenset[str]


def groups_of(zones: Mapping[str, Sequence[Zone]]) -> list[Group]:
    """Return the groups of a site from the zones of each camera."""
    groups: list[Group] = []
    for camera, drawn in zones.items():
        seen = frozenset(zone.id for zone in drawn)
        joined = [group for group in groups if group.zones & seen]
        cameras = (*(name for group in joined for name in group.cameras), camera)
        groups = [group for group in groups if group not in joined]
        groups.append(Group(cameras[0], cameras, seen.union(*(group.zones for group in joined))))
    return groups
