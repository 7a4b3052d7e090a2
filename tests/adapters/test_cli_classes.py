"""The verbs of the classes, as an operator types them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.conftest import wildlane


def test_an_operator_takes_a_frame_out_by_the_crop_that_is_shown_and_forgets_a_class_for_good(
    demo_stills: list[Path], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    boxed = ["--box", "2,2,60,50"] * len(demo_stills)
    wildlane("teach", "--class", "moose", "--size", "large", "--origin", "wild", *boxed, *demo_stills, state=state)
    before = json.loads(wildlane("classes", "show", "moose", "--json", state=state).stdout)[0]["shots"]
    shown = wildlane("classes", "show", "moose", state=state).stdout
    first, *_ = re.findall(r"^ {4}([0-9a-f]{12})  ", shown, re.MULTILINE)
    removed = wildlane("classes", "remove", "moose", first, "--json", state=state)
    after = json.loads(wildlane("classes", "show", "moose", "--json", state=state).stdout)[0]["shots"]
    unknown = wildlane("classes", "remove", "moose", first, state=state)
    forgotten = wildlane("classes", "forget", "moose", state=state)
    back = wildlane("classes", "rollback", "cs-3", state=state)
    listed = json.loads(wildlane("classes", "list", "--json", state=state).stdout)

    assert f"{demo_stills[0]}  (box 2,2,60,50" in shown
    assert before[0] | {"file": str(demo_stills[0]), "box": [2, 2, 60, 50], "camera": None} == before[0]
    assert json.loads(removed.stdout) == {"class": "moose", "version": "cs-4"}
    assert [shot["crop"] for shot in after] == [shot["crop"] for shot in before if not shot["crop"].startswith(first)]
    assert (unknown.returncode, "no kept frame of crop" in unknown.stderr) == (2, True)
    assert "cs-5 is live, without moose; older versions are without it too" in forgotten.stdout
    assert back.stdout == "cs-3 is live\n"
    assert [one["version"] for one in listed if "moose" in one["classes"]] == []
    assert listed[2]["reason"] == "taught moose; moose was forgotten later"
    assert len({one["sha256"] for one in listed}) == 2  # nothing, and the starter classes
    assert list((state / "crops").iterdir()) == []
