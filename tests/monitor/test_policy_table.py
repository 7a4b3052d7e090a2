"""The road authority's table: which line holds for which animal, and what it changes."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from monitor.places import METRES_A_DEGREE, GroundPlane, size_of
from monitor.policy import Policy
from monitor.policy_table import Hours, Line
from monitor.values import Box
from monitor.watch import light_of
from monitor.zones import Zone, whole_view
from tests.monitor.test_policy import phases, policy, settings, sighting

ROAD = Zone(id="road", kind="carriageway", polygon_px=((0, 200), (600, 200), (600, 400), (0, 400)))
VERGE = Zone(id="verge-east", kind="verge", polygon_px=((0, 0), (600, 0), (600, 200), (0, 200)))
WATCH = {"action": "watch"}


def at(hour: int, minute: int = 0) -> datetime.time:
    return datetime.time(hour, minute)


def starts(site: Policy, **facts: object) -> bool:
    return phases(site.decide([sighting(**{"seen_s": 2.0, **facts})], 2.0)) == ["start"]


@pytest.mark.parametrize(
    ("line", "held", "free"),
    [
        (Line(name="x", classes=frozenset({"dog"}), then=WATCH), {"label": "dog"}, {"label": "cow"}),
        (Line(name="x", classes=frozenset({"unknown-animal"}), then=WATCH), {"label": "unknown-animal"}, {}),
        (Line(name="x", light=frozenset({"infra-red", "dark"}), then=WATCH), {"light": "dark"}, {"light": "day"}),
        (Line(name="x", sizes=frozenset({"small"}), then=WATCH), {"label": "dog"}, {"label": "cow"}),
        (Line(name="x", then={"min_probability": 0.95}), {"probability": 0.9}, {"probability": 0.96}),
        (Line(name="x", then={"confirm_frames": 12}), {"looks": 9}, {"looks": 12}),
        (Line(name="x", then={"confirm_s": 3.0}), {"first_seen_s": 0.0}, {"first_seen_s": -2.0}),
    ],
    ids=["class", "unknown animal", "light", "size", "probability", "looks", "time"],
)
def test_a_line_holds_for_what_it_names_and_nothing_else(
    line: Line, held: dict[str, object], free: dict[str, object]
) -> None:
    def site() -> Policy:
        made = policy(settings(line))
        made.sizes = {"dog": "small", "cow": "large"}
        return made

    assert not starts(site(), **held)
    assert starts(site(), **free)


def test_the_first_line_that_holds_decides_alone() -> None:
    dogs = Line(name="dogs", classes=frozenset({"dog"}), then={"min_probability": 0.5})
    nothing = Line(name="nothing", then={"action": "ignore"})

    assert starts(policy(settings(dogs, nothing)), probability=0.55)
    assert not starts(policy(settings(nothing, dogs)), probability=0.55)


def test_a_decision_names_the_line_it_was_made_by() -> None:
    line = Line(name="deer at dusk", then={"min_probability": 0.3})

    (told,) = policy(settings(line)).decide([sighting(2.0)], 2.0)

    assert told.because[2] == "zone north: dog is to warn from 0.30, by 'deer at dusk'"


def test_zones_are_named_by_id_or_kind() -> None:
    def site(*zones: str) -> Policy:
        return policy(settings(Line(name="x", zones=frozenset(zones), then=WATCH)), north=(ROAD, VERGE))

    assert not starts(site("verge"))
    assert not starts(site("verge-east"))
    assert starts(site("carriageway", "verge-west"))


@pytest.mark.parametrize(
    ("begin", "end", "now", "holds"),
    [
        (at(8), at(16), at(12), True),
        (at(8), at(16), at(16), False),
        (at(22), at(5), at(23, 59), True),
        (at(22), at(5), at(4, 59), True),
        (at(22), at(5), at(5), False),
        (at(22), at(5), at(12), False),
    ],
)
def test_hours_may_span_midnight(begin: datetime.time, end: datetime.time, now: datetime.time, *, holds: bool) -> None:
    assert Hours(begin=begin, end=end).hold(now) is holds


def test_in_quiet_hours_nothing_alerts_and_a_recording_has_no_hours() -> None:
    quiet = Line(name="drovers", hours=(Hours(begin=at(6), end=at(7)),), then=WATCH)

    def site(now: datetime.time | None) -> Policy:
        return Policy(settings(quiet), {"north": (whole_view("north"),)}, time_of_day=lambda: now)

    assert not starts(site(at(6, 30)))
    assert starts(site(at(7, 30)))
    assert starts(site(None))


def test_an_animal_on_its_way_to_the_road_is_told_from_one_that_leaves() -> None:
    towards = Line(name="towards", towards_road=True, then={"action": "warn"})
    rest = Line(name="rest", zones=frozenset({"verge"}), then=WATCH)

    def site() -> Policy:
        return policy(settings(towards, rest), north=(ROAD, VERGE))

    assert starts(site(), velocity_px_s=(0, 60))  # its foot, at y = 130, will be at 250
    assert not starts(site(), velocity_px_s=(0, 20))
    assert not starts(site(), velocity_px_s=(0, -60))


def test_a_line_may_hold_a_situation_open_for_longer() -> None:
    site = policy(settings(Line(name="x", classes=frozenset({"dog"}), then={"hold_s": 20.0})))
    site.decide([sighting(2.0)], 2.0)

    assert site.decide([], 20.0) == []
    assert phases(site.decide([], 22.1)) == ["end"]


def ground(camera: str, metres_a_px: float) -> GroundPlane:
    """A camera that looks straight down, x to the east, y to the south, its corner at 60 N, 10 E."""
    degrees = metres_a_px / METRES_A_DEGREE
    corners = [(x, y, 60 - y * degrees, 10 + 2 * x * degrees) for x, y in ((0, 0), (600, 0), (600, 400), (0, 400))]
    return GroundPlane(camera, corners)


@pytest.mark.parametrize(("x", "together"), [(110, True), (580, False)])
def test_two_cameras_join_what_meets_on_the_ground(x: int, *, together: bool) -> None:
    zone = Zone(id="crossing", kind="carriageway")
    places = {name: ground(name, 0.1) for name in ("north", "south")}
    site = Policy(settings(), {"north": (zone,), "south": (zone,)}, places=places)

    told = site.decide([sighting(1.0), sighting(1.0, camera="south", x=x)], 1.0)

    assert phases(told) == (["start", "update"] if together else ["start", "start"])


def test_an_unknown_animal_has_the_size_that_the_ground_gives_it() -> None:
    box = Box(100, 100, 140, 130)

    assert size_of(ground("north", 0.05), box) == "large"  # two metres long
    assert size_of(ground("north", 0.01), box) == "small"
    assert size_of(None, box) == "unknown"
    site = Policy(
        settings(Line(name="x", sizes=frozenset({"small"}), then=WATCH)),
        {"north": (whole_view("north"),)},
        places={"north": ground("north", 0.01)},
    )
    assert not starts(site, label="unknown-animal", probability=0.95)


def test_the_light_is_that_of_the_picture() -> None:
    day = np.random.default_rng(1).integers(0, 255, (90, 160, 3), np.uint8)
    grey = np.repeat(day[:, :, :1], 3, axis=2)

    assert [light_of(picture) for picture in (day, grey, day // 8)] == ["day", "infra-red", "dark"]
