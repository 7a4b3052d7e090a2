"""Boxes that people draw: what sticks out a little is cut off, what is none of the picture is refused."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.errors import InputError
from adapters.provenance import Provenance
from monitor.stills import Region, cut

PICTURE = np.random.default_rng(1).integers(0, 255, (90, 160, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ((140, 20, 50, 40), "the box 140,20,50,40 lies to 40 % inside the picture of 160 x 90 pixels; at least 60 %"),
        ((-30, -30, 60, 60), "lies to 25 % inside the picture of 160 x 90 pixels"),
        ((500, 500, 20, 20), "lies outside the picture of 160 x 90 pixels"),
        ((0, 0, 1e300, 1e300), r"the box 0,0,1e\+300,1e\+300 is none of the picture of 160 x 90 pixels"),
        ((0, 0, 900_000, 900_000), "lies to 0 % inside"),
        ((float("-inf"), 0, float("inf"), 40), "the box -inf,0,inf,40 is none of"),
        ((float("nan"), 0, 40, 40), "the box nan,0,40,40 is none of"),
        ((50, 50, -20, 20), "is none of the picture"),
        ((50, 50, 0, 20), "is none of the picture"),
    ],
)
def test_a_box_that_is_not_of_the_picture_is_refused_with_its_numbers(box: Region, told: str) -> None:
    with pytest.raises(InputError, match=f"a: .*{told}"):
        cut(PICTURE, box, "a")


@pytest.mark.parametrize("box", [(120, 20, 50, 40), (-10, 20, 40, 40), (-5, -5, 60, 70), (100.4, 30.2, 59.9, 50)])
def test_a_box_that_sticks_out_a_little_is_cut_off_and_noted_so(box: Region) -> None:
    crop = cut(PICTURE, box, "a", Provenance(camera="road", frame=7))

    noted = crop.provenance.box
    assert noted is not None
    x, y, w, h = noted
    assert (crop.provenance.camera, crop.provenance.frame) == ("road", 7)
    assert x >= 0
    assert y >= 0
    assert x + w <= 160
    assert y + h <= 90
    assert crop.animal is not None
    left, top, right, bottom = crop.animal
    assert abs((right - left) - w) <= 1
    assert abs((bottom - top) - h) <= 1
    assert min(crop.pixels.shape[:2]) > 0
