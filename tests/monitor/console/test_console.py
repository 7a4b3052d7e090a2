"""The console of a running program, as a browser asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitor.alerts.schema import Alert
from tests.conftest import DEMO_CLIP, Mosquitto, Program, free_port, wait_until, write_config
from tests.monitor.console.conftest import PASSWORD, Operator


@pytest.fixture
def site(
    mosquitto: Mosquitto, run_program: Callable[[Path, Path], Program], tmp_path: Path
) -> Iterator[tuple[Program, Operator]]:
    port = free_port()
    config = write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port, f"[console]\nport = {port}")
    program = run_program(config, tmp_path / "state")
    wait_until(lambda: "watching road" in program.log(), seconds=30, what="the program is up")
    assert f"console: http://127.0.0.1:{port}" in program.log()
    assert "nobody has an account; the first one needs the token in" in program.log()
    operator = Operator(port, tmp_path / "state")
    yield program, operator
    operator.close()


def test_an_operator_sees_an_animal_live_and_dismisses_its_situation(
    site: tuple[Program, Operator], mosquitto: Mosquitto
) -> None:
    program, operator = site
    listener = mosquitto.listen()
    wait_until(lambda: operator.site()["situations"], seconds=30, what="a situation")
    seen = operator.site()["cameras"]["road"]
    picture = operator.get("/api/live/road")

    assert seen["state"] == "ok"
    assert any(box["p_animal"] > 0.5 for box in seen["boxes"])
    assert picture.content[:2] == b"\xff\xd8"
    ((situation, _),) = (one.values() for one in operator.site()["situations"])
    assert situation in operator.get("/situations").text
    assert operator.post(f"/situations/{situation}/dismiss").status_code == 200

    def ended() -> set[str | None]:
        return {Alert.model_validate_json(t).data.situation.end_reason for t in listener.got("/event/road")}

    wait_until(lambda: "false-alarm" in ended(), seconds=10, what="it ends as a false alarm")
    assert "dismiss" in operator.get("/audit").text
    assert PASSWORD not in program.log()
    listener.stop()


def test_a_version_that_is_rolled_back_is_live_within_a_second(site: tuple[Program, Operator]) -> None:
    program, operator = site
    assert "starter class set" in operator.get("/classes").text

    assert operator.post("/classes/rollback", version="cs-1").status_code == 200
    wait_until(lambda: "class set cs-1 is live" in program.log(), seconds=5, what="it is taken up")
    assert json.loads(operator.get("/api/site").text)["cameras"]["road"]
