from __future__ import annotations

from dataclasses import replace

from monitor.console.picture import Picture
from monitor.console.worth import MOST, LabelQueue, worth
from monitor.values import Box, Sighting
from tests.monitor.test_policy import sighting


def seen(p_animal: float, weights: dict[str, float], side: float = 80, track: int = 1) -> Sighting:
    return replace(sighting(1.0, track=track, p_animal=p_animal), weights=weights, box=Box(0, 0, side, side))


SURE = {"dog": 0.95, "none": 0.05}
TORN = {"dog": 0.4, "wolf": 0.4, "none": 0.2}


def picture(number: int, *sightings: Sighting) -> Picture:
    return Picture(camera="road", number=number, at=0.0, size=(640, 360), jpeg=b"", sightings=sightings)


def test_what_the_program_is_torn_about_is_worth_most() -> None:
    torn, unsure, road = seen(0.95, TORN), seen(0.5, SURE), seen(0.02, {"none": 1.0})

    assert worth(torn) > worth(seen(0.99, SURE))
    assert worth(unsure) > worth(seen(0.99, SURE))
    assert worth(road) < 0.1
    assert worth(seen(0.99, {"dog": 0.02, "none": 0.98})) > 0.9, "an animal without a name"
    assert worth(seen(0.95, TORN, side=20)) < worth(torn)


def test_the_queue_has_the_best_picture_of_each_track_and_an_end() -> None:
    queue = LabelQueue()
    queue.offer(picture(1, seen(0.95, TORN, side=30)))
    queue.offer(picture(2, seen(0.95, TORN, side=60), seen(0.9, SURE, track=2)))
    queue.offer(picture(3, seen(0.95, TORN, side=40)))
    assert [one.number for one in queue.pictures()] == [2]

    for number in range(4, 4 + 2 * MOST):
        queue.offer(picture(number, seen(0.95, TORN, side=50, track=number)))
    assert len(queue.pictures()) == MOST
    assert queue.pictures()[-1].number == 2  # the largest is the worthiest


def test_what_is_seen_all_day_does_not_push_out_what_was_seen_once() -> None:
    queue = LabelQueue()
    queue.offer(picture(1, replace(seen(0.95, TORN, side=30), label="wolf")))
    for number in range(2, 2 + 2 * MOST):
        queue.offer(picture(number, replace(seen(0.95, TORN, side=80, track=number), label="dog")))

    assert len(queue.pictures()) == MOST
    assert queue.pictures()[0].number == 1
    queue.forget("road")
    assert queue.pictures() == []
