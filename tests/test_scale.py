"""docs/scale.md says what its model says."""

from __future__ import annotations

import json

from benchmarks.scale import COSTS, ROOT, SITE_CAMERAS, Costs, needed, table

MEASURED = Costs(**json.loads(COSTS.read_text()))


def test_the_table_of_the_page_is_that_of_the_committed_costs() -> None:
    assert table(MEASURED) in (ROOT / "docs" / "scale.md").read_text()


def test_twice_the_cameras_take_twice_as_much_and_a_gpu_spares_nodes() -> None:
    one, two = (needed(MEASURED, cameras) for cameras in (SITE_CAMERAS, 2 * SITE_CAMERAS))

    assert two.cpu_nodes == 2 * one.cpu_nodes
    assert {name: 2 * share for name, share in one.shares.items()} == two.shares
    assert one.gpu_nodes < one.cpu_nodes
