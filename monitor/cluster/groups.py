"""Which cameras one watcher watches: all that see a zone of one of them, and some more that may be anywhere too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monitor.config import CameraConfig
from monitor.zones import Zone

# Of a group that need not be together: a watcher has one core for them, and they are lost with it.
MOST_TOGETHER, MOST_FRAMES_S = 4, 20.0


@dataclass(frozen=True)
class Group:
    """Cameras that one watcher watches; what is placed on a node as a whole.

    Attributes:
        name: of its first camera.
        cameras: in the order of the configuration, as far as zones do not join them.
        zones: that they see.
    """

    name: str
    cameras: tuple[str, ...]
    zones: frozenset[str]

    def with_those_of(self, other: Group) -> Group:
        """Return the group that has another's cameras too."""
        return Group(self.name, self.cameras + other.cameras, self.zones | other.zones)


def groups_of(zones: Mapping[str, Sequence[Zone]]) -> list[Group]:
    """Return the least groups of a site from the zones of each camera: those that share zones, also through others."""
    groups: list[Group] = []
    for camera, drawn in zones.items():
        seen = frozenset(zone.id for zone in drawn)
        joined = [group for group in groups if group.zones & seen]
        cameras = (*(name for group in joined for name in group.cameras), camera)
        groups = [group for group in groups if group not in joined]
        groups.append(Group(cameras[0], cameras, seen.union(*(group.zones for group in joined))))
    return groups


def packed(groups: Sequence[Group], cameras: Mapping[str, CameraConfig], cores: int) -> list[Group]:
    """Join groups, for a watcher more than there are cores takes memory and time, and brings nothing.

    Args:
        groups: the least ones.
        cameras: of the site, by name; only those that want the same node are joined.
        cores: of the whole cluster, now: where more nodes may come, all cameras must not be with one watcher for good.
    """
    most = min(MOST_TOGETHER, -(-len(cameras) // max(1, cores)))

    def fits(whole: Group) -> bool:
        rates = sum(cameras[name].analysis_rate_hz for name in whole.cameras)
        alike = all(cameras[name].node == cameras[whole.name].node for name in whole.cameras)
        return alike and len(whole.cameras) <= most and rates <= MOST_FRAMES_S

    found: list[Group] = []
    for group in groups:
        for at, other in enumerate(found):
            if fits(whole := other.with_those_of(group)):
                found[at] = whole
                break
        else:
            found.append(group)
    return found
