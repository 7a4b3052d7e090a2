"""What monitoring systems read of a running daemon."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters.errors import ConfigError
from monitor.metrics import Metrics, MetricsServer
from tests.conftest import DEMO_CLIP, Mosquitto, Program, free_port, wait_until, write_config


def fetch(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_running_site_is_alive_ready_and_measured_and_not_ready_without_its_broker(
    mosquitto: Mosquitto, run_program: Callable[[Path, Path], Program], tmp_path: Path
) -> None:
    port = free_port()
    config = write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port, f"[metrics]\nport = {port}")
    program = run_program(config, tmp_path / "state")
    wait_until(lambda: "start unknown-animal" in program.log(), seconds=30, what="an animal is found")

    assert fetch(port, "/livez") == (200, '{"ok": true, "problems": []}\n')
    assert fetch(port, "/readyz")[0] == 200
    assert fetch(port, "/else")[0] == 404
    status, text = fetch(port, "/metrics")
    seen = samples(text)
    assert status == 200
    assert seen["wildlane_frames_analysed_total", ("road",)] > 5
    assert seen["wildlane_alerts_total", ("start",)] >= 1
    assert seen["wildlane_camera_state", ("road", "ok")] == 1
    assert seen["wildlane_glass_to_alert_seconds_count", ()] >= 1
    assert seen["wildlane_frame_age_seconds_sum", ("road",)] > 0
    assert seen["wildlane_stage_seconds_count", ("encode",)] > 3
    assert seen["wildlane_stage_seconds_count", ("motion",)] > 5
    assert 0 < seen["wildlane_stage_seconds_sum", ("grab",)] < 60
    mosquitto.stop()
    wait_until(lambda: fetch(port, "/readyz")[0] == 503, seconds=10, what="it is not ready")
    assert json.loads(fetch(port, "/readyz")[1])["problems"] == ["the broker is not connected"]
    assert fetch(port, "/livez")[0] == 200
    os.kill(program.process.pid, signal.SIGSTOP)  # a stopped loop answers nothing, so that the prober gives up
    with pytest.raises(OSError, match="timed out"):
        fetch(port, "/livez")
    os.kill(program.process.pid, signal.SIGCONT)


def test_a_loop_that_does_not_go_round_is_not_alive() -> None:
    server = MetricsServer("127.0.0.1", 0, Metrics(), {"/livez": lambda: ("no step of the loop for 12 s",)})

    assert fetch(server.port, "/livez") == (503, '{"ok": false, "problems": ["no step of the loop for 12 s"]}\n')
    server.stop()


def test_a_port_that_is_taken_is_one_line() -> None:
    server = MetricsServer("127.0.0.1", 0, Metrics(), {})

    with pytest.raises(ConfigError, match=r"\[metrics\] can't listen on 127\.0\.0\.1:\d+ .* set another port"):
        MetricsServer("127.0.0.1", server.port, Metrics(), {})

    server.stop()


def test_causes_are_a_closed_list() -> None:
    metrics = Metrics()
    for reason in ("", "the decoder hung and was killed", "can't be opened: rtsp://secret@host", "the stream stopped"):
        metrics.lost("road", reason)

    causes = {
        sample.labels["reason"] for family in metrics.registry.collect() for sample in family.samples
        if sample.name == "wildlane_streams_ended_total"
    }  # fmt: skip
    assert causes == {"over", "hung", "not-opened", "ended"}
