"""What is printed and logged."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

from monitor.alerts.schema import Alert
from tests.conftest import DEMO_CLIP, Mosquitto, Program, wait_until, write_config


def test_a_json_log_says_of_each_line_which_camera_and_of_an_alert_which_event_it_is_about(
    mosquitto: Mosquitto, run_program: Callable[[Path, Path], Program], tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port)
    config.write_text(f'log_format = "json"\n{config.read_text()}')
    program = run_program(config, tmp_path / "state")
    wait_until(lambda: '"message": "start ' in program.log(), seconds=30, what="an alert is logged")
    program.process.send_signal(signal.SIGTERM)
    alert = Alert.model_validate_json(program.alerts().splitlines()[0])

    lines = [json.loads(line) for line in program.log().splitlines()]
    sees = next(line for line in lines if line["message"] == "camera road: sees")
    told = next(line for line in lines if line["message"].startswith("start "))
    assert sees["camera"] == "road"
    assert "situation" not in sees
    found_by = {name: told[name] for name in ("camera", "zone", "situation", "event")}
    assert found_by == {
        "camera": "road",
        "zone": "road",
        "situation": alert.data.situation.id,
        "event": alert.id,
    }
    assert {line["thread"] for line in lines} >= {"MainThread", "publisher"}
    assert all(line["time"].endswith("+00:00") for line in lines)
