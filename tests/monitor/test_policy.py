from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.policy import Phase, Policy, Settings, Situation, uuid7
from monitor.policy_table import Line, Rule, Table
from monitor.values import Box, Light, Sighting
from monitor.zones import Zone, whole_view

WARN = Rule(action="warn", min_probability=0.6, confirm_frames=4, confirm_s=0.6, hold_s=4)


def settings(*lines: Line) -> Settings:
    return Settings(
        table=Table(taught=WARN, unknown_animal=replace(WARN, min_probability=0.85), lines=lines),
        standing_s=3.0,
        standing_probability=0.97,
        min_side_px=18.0,
        update_s=30,
    )


SETTINGS = settings()


def sighting(
    seen_s: float,
    *,
    track: int = 1,
    label: str = "dog",
    probability: float = 0.9,
    p_animal: float = 0.95,
    looks: int = 9,
    x: float = 100,
    camera: str = "north",
    at_edge: bool = False,
    travelled: float = 2.0,
    size: tuple[float, float] = (40, 30),
    first_seen_s: float = 0,
    velocity_px_s: tuple[float, float] = (0, 0),
    light: Light = "day",
    age_s: float = 0.0,
) -> Sighting:
    return Sighting(
        camera=camera,
        track=track,
        box=Box(x, 100, x + size[0], 100 + size[1]),
        first_seen_s=first_seen_s,
        seen_s=seen_s,
        age_s=age_s,
        looks=looks,
        label=label,
        probability=probability,
        p_animal=p_animal,
        weights={label: probability, "none": 1 - probability},
        similarity_m=0.5,
        velocity_px_s=velocity_px_s,
        travelled=travelled,
        at_edge=at_edge,
        light=light,
    )


def policy(settings: Settings = SETTINGS, **zones: tuple[Zone, ...]) -> Policy:
    return Policy(settings, zones or {"north": (whole_view("north"),)})


def phases(told: list[Situation]) -> list[str]:
    return [situation.phase.value for situation in told]


def test_a_confirmed_animal_starts_one_situation_and_ends_it_once_after_the_hold() -> None:
    site = policy()

    told = [
        version for step in range(1, 40) for version in site.decide([sighting(step / 5)] if step < 10 else [], step / 5)
    ]

    assert phases(told) == ["start", "end"]
    assert told[1].end_reason == "left"
    assert told[1].decided_s == pytest.approx(1.8 + 4, abs=0.21)
    assert [version.version for version in told] == [1, 2]


@pytest.mark.parametrize(
    "weak",
    [
        {"looks": 3},
        {"seen_s": 0.4},
        {"probability": 0.5},
        {"p_animal": 0.4},
        {"label": "unknown-animal", "probability": 0.8},
        {"size": (17, 12)},
        {"size": (90, 20)},
        {"travelled": 0.2},
        {"at_edge": True, "size": (25, 11)},
        {"travelled": 0.2, "p_animal": 0.9, "seen_s": 5.0},
    ],
    ids=[
        "few looks",
        "short",
        "unsure",
        "no animal",
        "unknown needs more",
        "tiny",
        "thin",
        "stands, short",
        "a sliver at the border",
        "stands, unsure",
    ],
)
def test_what_is_not_confirmed_does_not_alert(weak: dict[str, float]) -> None:
    seen = sighting(**{"seen_s": 2.0, **weak})

    assert policy().decide([seen], 2.0) == []


def test_an_animal_that_stands_alerts_once_it_stood_long_enough_and_is_sure() -> None:
    assert phases(policy().decide([sighting(4.0, travelled=0.1, p_animal=0.97)], 4.0)) == ["start"]


def test_an_animal_that_walks_in_alerts_while_the_border_still_cuts_it() -> None:
    assert phases(policy().decide([sighting(2.0, at_edge=True, size=(13, 40), p_animal=0.9)], 2.0)) == ["start"]


@pytest.mark.parametrize("action", ["ignore", "watch"])
def test_a_class_that_is_not_to_be_warned_of_does_not_alert(action: str) -> None:
    line = Line(name="dogs", classes=frozenset({"dog"}), then={"action": action, "min_probability": 0.1})

    assert policy(settings(line)).decide([sighting(2.0)], 2.0) == []


def test_an_animal_outside_every_zone_does_not_alert() -> None:
    road = Zone(id="road", kind="carriageway", polygon_px=((0, 200), (600, 200), (600, 400), (0, 400)))

    site = policy(north=(road,))

    assert site.decide([sighting(2.0)], 2.0) == []


def test_a_track_lost_and_found_again_stays_one_situation() -> None:
    site = policy()
    told = site.decide([sighting(1.0)], 1.0)
    told += site.decide([sighting(3.0, track=2, x=140, first_seen_s=2.0)], 3.0)

    assert phases(told) == ["start"]


def test_a_second_animal_beside_the_first_is_a_herd_not_a_second_situation() -> None:
    site = policy()
    told = site.decide([sighting(1.0), sighting(1.0, track=2, x=150)], 1.0)

    assert phases(told) == ["start", "update"]
    assert told[1].count == 2
    assert "2 animals" in told[1].because


def test_an_animal_far_off_is_a_situation_of_its_own() -> None:
    site = policy()
    told = site.decide([sighting(1.0), sighting(1.0, track=2, x=500)], 1.0)

    assert phases(told) == ["start", "start"]
    assert told[0].id != told[1].id


def test_a_speck_does_not_swallow_a_large_animal_beside_it() -> None:
    site = policy()
    site.decide([sighting(1.0, size=(20, 20))], 1.0)

    assert phases(site.decide([sighting(1.2, track=2, x=200, size=(180, 80))], 1.2)) == ["start"]


def test_after_one_left_the_picture_the_next_one_is_another() -> None:
    site = policy()
    site.decide([sighting(1.0, at_edge=True, p_animal=0.97)], 1.0)

    assert phases(site.decide([sighting(2.0, track=2, x=220, first_seen_s=1.2)], 2.0)) == ["start"]


def test_two_cameras_that_see_one_zone_share_a_situation() -> None:
    zone = Zone(id="crossing", kind="carriageway")
    site = policy(north=(zone,), south=(zone,))

    told = site.decide([sighting(1.0), sighting(1.0, camera="south", x=500)], 1.0)

    assert phases(told) == ["start", "update"]
    assert told[1].cameras == ("north", "south")


def test_an_unknown_animal_that_is_recognised_later_gets_its_name() -> None:
    site = policy()
    site.decide([sighting(1.0, label="unknown-animal", probability=0.95)], 1.0)
    told = site.decide([sighting(2.0, label="dog", probability=0.7)], 2.0)

    assert phases(told) == ["update"]
    assert told[0].label == "dog"
    assert "unknown-animal is now dog" in told[0].because


def test_a_name_that_is_in_doubt_for_a_while_is_kept() -> None:
    site = policy()
    site.decide([sighting(1.0, probability=0.65)], 1.0)

    assert site.decide([sighting(2.0, label="unknown-animal", probability=0.99)], 2.0) == []
    assert site.open[0].label == site.open[0].best.label == "dog"
    assert site.open[0].seen_s == 2.0
    told = site.decide([sighting(3.0, label="cow", probability=0.9)], 3.0)
    assert "dog is now cow" in told[0].because


def test_a_situation_that_does_not_change_is_told_again_every_thirty_seconds() -> None:
    site = policy()
    told = [version for step in range(1, 400) for version in site.decide([sighting(step / 5)], step / 5)]

    assert phases(told) == ["start", "update", "update"]


def test_a_situation_that_is_held_for_long_is_renewed_so_that_it_does_not_run_out() -> None:
    site = policy(settings(Line(name="slow", then={"hold_s": 100.0})))
    told = site.decide([sighting(1.0)], 1.0)
    told += [version for second in range(2, 120) for version in site.decide([], float(second))]

    assert phases(told) == ["start", "update", "update", "update", "end"]
    assert told[1].because == ("dog was not seen for 30 s, held for 100 s",)


def test_when_every_camera_of_it_is_blind_a_situation_ends_as_lost_not_as_left() -> None:
    site = policy()
    site.decide([sighting(1.0)], 1.0)

    assert site.decide([], 6.0, blind=frozenset({"north"}))[0].end_reason == "camera-lost"


def test_at_the_stop_each_open_situation_ends() -> None:
    site = policy()
    site.decide([sighting(1.0), sighting(1.0, track=2, x=500)], 1.0)

    told = site.end_all("shutdown", 1.5)

    assert phases(told) == ["end", "end"]
    assert site.open == ()


def test_what_a_person_has_confirmed_is_told_with_who_it_was() -> None:
    site = policy()
    (start,) = site.decide([sighting(1.0)], 1.0)

    (told,) = site.confirm(start.id, "operator 3", 1.2)

    assert (told.phase, told.version, told.confirmed_by) == (Phase.UPDATE, 2, "operator 3")
    assert site.confirm("another", "operator 3", 1.2) == []


def test_what_a_person_has_dismissed_ends_as_a_false_alarm_and_does_not_start_again() -> None:
    site = policy()
    (start,) = site.decide([sighting(1.0)], 1.0)

    (told,) = site.dismiss(start.id, "operator 3", 1.2)

    assert (told.phase, told.end_reason, told.because) == (Phase.END, "false-alarm", ("dismissed by operator 3",))
    assert site.decide([sighting(2.0)], 2.0) == []
    assert phases(site.decide([sighting(2.0, track=2)], 2.0)) == ["start"]  # another animal is another matter
    assert site.dismiss(start.id, "operator 3", 2.2) == []


def test_a_new_stream_numbers_its_tracks_anew() -> None:
    site = policy()
    (start,) = site.decide([sighting(1.0)], 1.0)
    site.dismiss(start.id, "operator 3", 1.2)
    site.forget_camera("north")

    assert phases(site.decide([sighting(2.0)], 2.0)) == ["start"]
    site.forget_camera("north")
    assert site.decide([sighting(3.0, x=900, looks=1)], 3.0) == []  # the same number, but no look yet has confirmed it


def test_a_rehearsal_opens_and_closes_a_zone_and_hides_no_animal() -> None:
    site = policy()

    (start,) = site.rehearse("north", "fitter", 1.0)
    real = site.decide([sighting(2.0, x=0)], 2.0)
    told = [version for second in range(3, 20) for version in site.decide([], float(second))]

    assert start.rehearsal
    assert start.because == ("a test asked for by fitter",)
    assert phases(real) == ["start"]
    assert not real[0].rehearsal
    assert phases(told) == ["end", "end"]
    assert site.rehearse("nowhere", "fitter", 1.0) == []


def test_a_blind_camera_opens_and_keeps_nothing() -> None:
    site, blind = policy(), frozenset({"north"})
    assert site.decide([sighting(1.0)], 1.0, blind=blind) == []
    site.decide([sighting(2.0)], 2.0)

    told = [version for second in range(3, 9) for version in site.decide([sighting(second)], second, blind=blind)]

    assert phases(told) == ["end"]
    assert told[0].end_reason == "camera-lost"


def test_a_situation_ends_when_the_table_no_longer_warns_of_it() -> None:
    site = policy()
    site.decide([sighting(1.0)], 1.0)
    ignore = settings(Line(name="bush", classes=frozenset({"dog"}), then={"action": "ignore"}))
    site.change(ignore, {"north": (whole_view("north"),)}, {}, 1.5)

    told = [version for second in range(2, 9) for version in site.decide([sighting(second)], second)]

    assert phases(told) == ["end"]


def test_a_situation_ends_when_its_animal_grazes_where_no_zone_is() -> None:
    road = Zone(id="road", kind="carriageway", polygon_px=((0, 0), (300, 0), (300, 400), (0, 400)))
    site = policy(north=(road,))
    site.decide([sighting(1.0)], 1.0)

    told = [version for second in range(2, 9) for version in site.decide([sighting(second, x=500)], second)]

    assert phases(told) == ["end"]


def test_a_dismissal_lapses_since_a_track_may_become_another_thing() -> None:
    site = policy()
    (start,) = site.decide([sighting(1.0)], 1.0)
    site.dismiss(start.id, "operator 3", 1.2)

    assert site.decide([sighting(590.0)], 590.0) == []
    assert phases(site.decide([sighting(610.0)], 610.0)) == ["start"]


def test_a_zone_is_rehearsed_once_at_a_time_and_confirmed_once_by_a_person() -> None:
    site = policy()
    (start,) = site.rehearse("north", "fitter", 1.0)

    assert site.rehearse("north", "fitter", 2.0) == []
    assert len(site.confirm(start.id, "operator 3", 2.0)) == 1
    assert site.confirm(start.id, "operator 3", 3.0) == []


def test_every_decision_says_why() -> None:
    told = policy().decide([sighting(1.0)], 1.0)

    assert told[0].because == (
        "dog 0.90 over 9 looks in 1.0 s",
        "an animal at all: 0.95",
        "zone north: dog is to warn from 0.60",
    )


SEEN = st.builds(
    lambda camera, track, x, probability, label, at_edge: {
        "camera": camera,
        "track": track,
        "x": x,
        "probability": probability,
        "label": label,
        "at_edge": at_edge,
    },
    st.sampled_from(["north", "south"]),
    st.integers(1, 4),
    st.integers(0, 600),
    st.floats(0, 1),
    st.sampled_from(["dog", "cow", "unknown-animal"]),
    st.booleans(),
)


# seconds since the round before, what is seen, which cameras are blind
ROUNDS = st.lists(
    st.tuples(
        st.floats(0.01, 6),
        st.lists(SEEN, max_size=4, unique_by=lambda seen: (seen["camera"], seen["track"])),
        st.sampled_from(
            [frozenset[str]()] * 4 + [frozenset({"north"}), frozenset({"south"}), frozenset({"north", "south"})]
        ),
    ),
    max_size=60,
)
Rounds = list[tuple[float, list[dict[str, object]], frozenset[str]]]


def junction(settings: Settings = SETTINGS) -> Policy:
    """Two cameras that share a zone, and a zone of the first one's own."""
    own = Zone(id="verge", kind="verge", polygon_px=((0, 0), (300, 0), (300, 720), (0, 720)))
    shared = whole_view("north")
    return policy(settings, north=(own, shared), south=(shared,))


def decide(site: Policy, now_s: float, seen: list[dict[str, object]], blind: frozenset[str]) -> list[Situation]:
    told = [sighting(now_s, **facts) for facts in seen if facts["camera"] not in blind]
    return site.decide(told, now_s, blind=blind)


@given(ROUNDS, st.floats(0.5, 300), st.floats(1, 45))
def test_whatever_is_seen_what_is_open_never_runs_out(rounds: Rounds, hold_s: float, update_s: float) -> None:
    """An active level past `validUntil` would be one that a consumer has already dropped."""
    made = settings(Line(name="hold", then={"hold_s": hold_s}))
    site, now_s = junction(replace(made, update_s=update_s)), 1.0
    for pause_s, seen, blind in rounds:
        now_s += pause_s
        decide(site, now_s, seen, blind)
        assert all(now_s - situation.decided_s < update_s for situation in site.open)
        assert all(now_s - situation.seen_s <= situation.hold_s for situation in site.open)


@given(ROUNDS)
def test_whatever_is_seen_each_start_has_one_end_and_versions_count_up(
    rounds: Rounds,
) -> None:
    site, now_s, told = junction(), 1.0, []
    for pause_s, seen, blind in rounds:
        now_s += pause_s
        told += decide(site, now_s, seen, blind)
    told += site.end_all("shutdown", now_s)

    lives: dict[str, list[Situation]] = {}
    for version in told:
        lives.setdefault(version.id, []).append(version)
    for life in lives.values():
        assert life[0].phase is Phase.START
        assert [version.version for version in life] == list(range(1, len(life) + 1))
        assert [version.phase for version in life].count(Phase.START) == 1
        assert [version.phase for version in life].count(Phase.END) == 1
        assert life[-1].phase is Phase.END
    assert site.open == ()


def test_ids_are_uuids_of_version_seven_that_sort_by_time() -> None:
    ids = [uuid7() for _ in range(3)]

    assert all(uuid.UUID(text).version == 7 for text in ids)
    assert uuid.UUID(ids[0]).variant == uuid.RFC_4122
