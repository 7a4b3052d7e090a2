"""The whole program as a user runs it: real broker, real RTSP server, real clip."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from monitor.alerts.schema import Alert, SiteHealth, SiteInfo, ZoneState
from tests.conftest import (
    DEMO_CLIP,
    Mosquitto,
    Program,
    RtspServer,
    free_port,
    request,
    wait_until,
    wildlane,
    write_config,
)

Start = Callable[[Path, Path], Program]


def phases(payloads: list[str]) -> list[str]:
    return [Alert.model_validate_json(text).data.situation.phase for text in payloads]


def test_an_outside_subscriber_sees_start_and_end_of_each_animal_of_the_clip(
    mosquitto: Mosquitto, run_program: Start, tmp_path: Path
) -> None:
    listener = mosquitto.listen()
    program = run_program(
        write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port), tmp_path / "state"
    )

    printed = [
        line for line in program.alerts().splitlines() if line
    ]  # the clip is over after 25 s, and so is the program

    assert program.process.returncode == 0
    events = listener.got("wildlane/v1/test/event/road")
    assert phases(events).count("start") == phases(events).count("end") == 3
    assert events == printed
    assert [json.loads(text)["data"]["seq"] for text in events] == list(range(1, len(events) + 1))
    levels = [ZoneState.model_validate_json(text).level for text in listener.got("/state/road")]
    assert levels[0] == "unknown"  # before the first frame nobody knows
    assert {"active", "clear"} <= set(levels)
    assert levels[-1] == "unknown"
    healths = [SiteHealth.model_validate_json(text).cameras["road"] for text in listener.got("/health")]
    assert {(health.state, health.reason) for health in healths} >= {("blind", "lost"), ("ok", None)}
    statuses = [json.loads(text)["status"] for text in listener.got("/status")]
    assert statuses == ["online", "offline"]
    assert (tmp_path / "state/knowledge.sqlite3").exists()
    infos = [SiteInfo.model_validate_json(text) for text in listener.got("/info")]
    assert {json.loads(text)["data"]["where"]["infoVersion"] for text in events} == {infos[0].info_version}
    assert set(infos[0].zones) == {"road"}
    listener.stop()


def test_a_person_dismisses_a_situation_confirms_another_and_asks_for_a_test(
    mosquitto: Mosquitto, run_program: Start, tmp_path: Path
) -> None:
    listener = mosquitto.listen()
    program = run_program(
        write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port), tmp_path / "state"
    )

    def events() -> list[Alert]:
        return [Alert.model_validate_json(text) for text in listener.got("/event/road")]

    def confirmed_by() -> set[str | None]:
        return {event.data.certainty.confirmed_by for event in events()}

    def end_reasons() -> set[str | None]:
        return {event.data.situation.end_reason for event in events()}

    def newest(phase: str) -> Alert | None:
        return next((event for event in reversed(events()) if event.data.situation.phase == phase), None)

    wait_until(lambda: "watching road" in program.log(), seconds=20, what="the program is up")
    assert request(mosquitto.port, "ping", "{}")["accepted"]
    rehearsed = request(mosquitto.port, "test-alert", '{"zone": "road", "by": "fitter"}')
    wait_until(lambda: newest("start"), seconds=20, what="the test alert")
    assert rehearsed["accepted"]
    assert newest("start").data.mode == "test"
    wait_until(lambda: newest("start").data.mode == "real", seconds=20, what="a real alert")
    first = newest("start").data.situation.id
    request(mosquitto.port, "confirm", json.dumps({"situation": first, "by": "operator 3"}))
    wait_until(lambda: confirmed_by() == {None, "operator 3"}, seconds=5, what="it is confirmed")
    request(mosquitto.port, "dismiss", json.dumps({"situation": first, "by": "operator 4"}))
    wait_until(lambda: "false-alarm" in end_reasons(), seconds=5, what="it is dismissed")
    program.process.send_signal(signal.SIGTERM)
    program.alerts()
    modes = {ZoneState.model_validate_json(text).mode for text in listener.got("/state/road")}
    assert modes == {"real", "test"}
    listener.stop()


def test_the_first_frame_is_processed_within_three_seconds_and_sigterm_ends_cleanly_within_five(
    mosquitto: Mosquitto, run_program: Start, tmp_path: Path
) -> None:
    listener = mosquitto.listen()
    program = run_program(
        write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port), tmp_path / "state"
    )
    wait_until(lambda: "camera road: sees" in program.log(), seconds=20, what="the first frame")
    to_first_frame_s = time.monotonic() - program.started_s
    wait_until(lambda: listener.got("/event/"), seconds=20, what="the first alert")

    stopped_s = time.monotonic()
    program.process.send_signal(signal.SIGTERM)
    printed = program.alerts()
    to_end_s = time.monotonic() - stopped_s

    assert program.process.returncode == 0
    assert phases(printed.splitlines())[-1] == "end"
    assert json.loads(printed.splitlines()[-1])["data"]["situation"]["endReason"] == "shutdown"
    wait_until(lambda: listener.got("/event/") == printed.splitlines(), seconds=2, what="the end arrived too")
    assert to_end_s <= 5
    print(f"first frame after {to_first_frame_s:.2f} s, end after {to_end_s:.2f} s")
    assert to_first_frame_s <= 12  # a guard against hanging; the figure itself is measured by benchmarks/startup.py
    listener.stop()


def test_a_camera_comes_back_by_itself_after_its_server_was_killed_for_five_seconds(
    mosquitto: Mosquitto, rtsp_server: RtspServer, run_program: Start, tmp_path: Path
) -> None:
    listener = mosquitto.listen()
    program = run_program(
        write_config(tmp_path / "c.toml", {"gate": rtsp_server.url}, mosquitto.port), tmp_path / "state"
    )

    def health() -> list[str]:
        return [SiteHealth.model_validate_json(text).cameras["gate"].state for text in listener.got("/health")]

    wait_until(lambda: "ok" in health(), seconds=20, what="the camera sees")
    rtsp_server.stop()
    wait_until(lambda: health()[-1] == "blind", seconds=20, what="the camera is blind")
    wait_until(
        lambda: json.loads(listener.got("/state/gate")[-1])["level"] == "unknown",
        seconds=10,
        what="the zone is unknown, not clear",
    )
    time.sleep(5)
    rtsp_server.start()

    wait_until(lambda: health()[-1] == "ok", seconds=45, what="the camera sees again")
    wait_until(lambda: "start" in phases(listener.got("/event/gate")), seconds=30, what="an animal is found over RTSP")
    program.process.send_signal(signal.SIGTERM)
    assert program.alerts()
    assert phases(listener.got("/event/")).count("start") == phases(listener.got("/event/")).count("end")
    listener.stop()


def test_a_camera_that_is_covered_is_blind_and_its_zone_unknown_until_it_sees_again(
    mosquitto: Mosquitto, run_program: Start, tmp_path: Path
) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 180))
    chance = np.random.default_rng(1)
    scene = cv2.resize(chance.integers(0, 255, (9, 16, 3), np.uint8), (320, 180), interpolation=cv2.INTER_NEAREST)
    for tenth in range(220):
        seen = np.full_like(scene, 90) if 100 <= tenth < 180 else scene
        writer.write(np.clip(seen + chance.normal(0, 3, scene.shape), 0, 255).astype(np.uint8))
    writer.release()
    listener = mosquitto.listen()

    program = run_program(write_config(tmp_path / "c.toml", {"road": "clip.avi"}, mosquitto.port), tmp_path / "state")
    program.alerts()

    healths = [SiteHealth.model_validate_json(text).cameras["road"] for text in listener.got("/health")]
    told = [(health.state, health.reason) for health in healths]
    assert [each for each, _ in itertools.groupby(told)] == [
        ("blind", "lost"),
        ("ok", None),
        ("blind", "covered"),
        ("ok", None),
        ("blind", "lost"),  # the clip is over
    ]
    saw, covered = healths[told.index(("ok", None))].since, healths[told.index(("blind", "covered"))].since
    assert 14 < (covered - saw).total_seconds() < 20  # it was covered after 10 s
    levels = [ZoneState.model_validate_json(text).level for text in listener.got("/state/road")]
    assert [level for level, _ in itertools.groupby(levels)] == ["unknown", "clear", "unknown", "clear", "unknown"]
    listener.stop()


def test_cameras_are_added_and_removed_while_it_runs_and_a_wrong_configuration_changes_nothing(
    mosquitto: Mosquitto, run_program: Start, tmp_path: Path
) -> None:
    listener, clip, file = mosquitto.listen(), str(DEMO_CLIP), tmp_path / "c.toml"
    program = run_program(write_config(file, {"road": clip}, mosquitto.port), tmp_path / "state")

    def change(text: str, expected: str) -> None:
        file.write_text(text)
        program.process.send_signal(signal.SIGHUP)
        wait_until(lambda: expected in program.log(), seconds=10, what=expected)

    wait_until(lambda: "camera road: sees" in program.log(), seconds=20, what="the first camera sees")
    one = file.read_text()
    two = one + f'[cameras.north]\nsource = "{clip}"\n[[policy.lines]]\nname = "quiet"\naction = "watch"\n'
    change(two, "the configuration was read again: watching road, north")
    wait_until(lambda: "camera north: sees" in program.log(), seconds=20, what="the second camera sees")
    change(two + "[cameras.", "the configuration is refused, all stays as it was")
    change(two.replace("north", "south").replace(clip, "gone.mp4"), "no such file")
    change(two.replace('site = "test"', 'site = "other"'), "site can't change while the program runs; restart it")
    only_north = two.replace(f'[cameras.road]\nsource = "{clip}"\n', "")
    change(only_north, "the configuration was read again: watching north")
    assert program.log().count("camera road: open") == program.log().count("camera north: open") == 1
    wait_until(
        lambda: set(SiteInfo.model_validate_json(listener.got("/info")[-1]).zones) == {"north"},
        seconds=5,
        what="the zones are told anew",
    )
    wait_until(
        lambda: ZoneState.model_validate_json(listener.got("/state/road")[-1]).level == "unknown",
        seconds=5,
        what="the zone that is gone is unknown",
    )
    program.process.send_signal(signal.SIGTERM)
    program.alerts()
    assert not listener.got("/event/north")  # its policy came with it
    listener.stop()


def test_one_broken_camera_leaves_the_others_alone(mosquitto: Mosquitto, run_program: Start, tmp_path: Path) -> None:
    broken = tmp_path / "cut.mp4"
    broken.write_bytes(DEMO_CLIP.read_bytes()[:100_000])
    program = run_program(
        write_config(tmp_path / "c.toml", {"bad": str(broken), "road": str(DEMO_CLIP)}, mosquitto.port),
        tmp_path / "state",
    )

    wait_until(
        lambda: "start" in program.log() and "zone road" in program.log(), seconds=30, what="the good camera alerts"
    )

    assert program.process.poll() is None
    assert f"camera bad: {broken}: cut short" in program.log()
    assert "next attempt in" in program.log()


def test_every_broken_input_leaves_the_daemon_and_its_other_cameras_alive(
    mosquitto: Mosquitto, run_program: Start, data: Path, tmp_path: Path
) -> None:
    broken = sorted((data / "broken-inputs").iterdir())
    cameras = {f"bad-{number}": str(path) for number, path in enumerate(broken)} | {"road": str(DEMO_CLIP)}
    program = run_program(write_config(tmp_path / "c.toml", cameras, mosquitto.port), tmp_path / "state")

    wait_until(lambda: "in zone road" in program.log(), seconds=60, what="the good camera alerts")

    assert program.process.poll() is None
    for number, path in enumerate(broken):
        told = f"camera bad-{number}: {path}: "
        wait_until(lambda told=told: told in program.log(), seconds=10, what=told)


def test_a_class_taught_meanwhile_is_live_within_seconds(
    mosquitto: Mosquitto, run_program: Start, demo_stills: list[Path], tmp_path: Path
) -> None:
    program = run_program(
        write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port), tmp_path / "state"
    )
    wait_until(lambda: "camera road: sees" in program.log(), seconds=20, what="the first frame")

    taught = wildlane(
        "teach",
        "--class",
        "moose",
        "--size",
        "large",
        "--origin",
        "wild",
        *demo_stills,
        "--json",
        state=tmp_path / "state",
    )
    version = json.loads(taught.stdout)["version"]

    wait_until(
        lambda: f"class set {version} is live" in program.log(), seconds=3, what="the running program knows the class"
    )


@pytest.mark.parametrize(
    ("text", "complaint", "status"),
    [
        ('[cameras.road]\nsource = "nowhere.mp4"', "camera source 'nowhere.mp4': no such file", 2),
        ("[broker]\nembedded = true", "no camera is configured", 2),
        (
            "[cameras.road]\nframe_rate = 3",
            "unknown key 'frame_rate' in [cameras.road]; perhaps you meant 'analysis_rate_hz'",
            2,
        ),
        (
            '[device]\nprovider = "gpu"',
            "'provider' in [device]: input should be 'auto', 'cuda', 'tensorrt' or 'cpu', got 'gpu'",
            2,
        ),
        (
            '[broker]\npassword_file = "nowhere"\n[cameras.road]\nsource = "{clip}"',
            "password_file = 'nowhere': can't be read",
            2,
        ),
    ],
)
def test_a_wrong_configuration_is_one_line_and_nothing_is_half_started(
    tmp_path: Path, text: str, complaint: str, status: int
) -> None:
    (tmp_path / "c.toml").write_text(text.replace("{clip}", str(DEMO_CLIP)))

    ended = wildlane("run", "--config", tmp_path / "c.toml", state=tmp_path / "state")

    assert ended.returncode == status
    assert complaint in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""
    assert not (tmp_path / "state").exists()


def test_a_broker_that_can_not_be_reached_is_one_line(tmp_path: Path) -> None:
    port = free_port()
    ended = wildlane(
        "run", "--config", write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, port), state=tmp_path / "state"
    )

    assert ended.returncode == 2
    assert f"[broker] broker 127.0.0.1:{port} can't be reached" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "state").exists()


def test_a_program_that_may_start_without_its_broker_delivers_when_it_is_there(
    mosquitto: Mosquitto, run_program: Start, tmp_path: Path
) -> None:
    mosquitto.stop()
    config = write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port, "required_at_start = false")
    program = run_program(config, tmp_path / "state")
    wait_until(lambda: "start" in program.log() and "in zone road" in program.log(), seconds=30, what="the first alert")
    mosquitto.start()
    listener = mosquitto.listen()

    wait_until(lambda: "start" in phases(listener.got("/event/road")), seconds=30, what="the alert arrived late")
    listener.stop()


def test_the_password_of_a_camera_never_reaches_the_log(
    mosquitto: Mosquitto, run_program: Start, tmp_path: Path
) -> None:
    url = f"rtsp://user:canary-secret@127.0.0.1:{free_port()}/x?token=canary-token"
    program = run_program(write_config(tmp_path / "c.toml", {"gate": url}, mosquitto.port), tmp_path / "state")

    wait_until(lambda: "next attempt in" in program.log(), seconds=30, what="the failed attempt is logged")

    assert "canary" not in program.log()


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_after_sigkill_every_start_gets_exactly_one_end(
    mosquitto: Mosquitto, run_program: Start, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Killed at instants spread over an animal's visit; the next start ends what was left open."""
    kills = 20 if request.config.getoption("--drills-in-full") else 1
    listener = mosquitto.listen()
    config = write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port)
    for number in range(kills):
        program = run_program(config, tmp_path / "state")
        wait_until(
            lambda program=program: "start unknown-animal" in program.log(), seconds=30, what="an animal is found"
        )
        time.sleep(1.0 * number / kills)
        os.kill(program.process.pid, signal.SIGKILL)
        program.process.wait()
    program = run_program(config, tmp_path / "state")
    wait_until(lambda: "camera road: sees" in program.log(), seconds=20, what="the program is back")
    program.process.send_signal(signal.SIGTERM)
    program.alerts()

    lives: dict[str, list[str]] = {}
    seen: set[str] = set()
    for text in listener.got("/event/"):
        alert = Alert.model_validate_json(text)
        if alert.id not in seen:  # at least once: a consumer drops what it has
            seen.add(alert.id)
            lives.setdefault(alert.data.situation.id, []).append(alert.data.situation.phase)
    assert len(lives) >= kills
    for life in lives.values():
        assert life.count("start") == life.count("end") == 1
    listener.stop()


def alerts_go_on(program: Program, mosquitto: Mosquitto, ends: int) -> None:
    """Wait for ends of situations while nobody reads what the program prints; it then stops as it should."""
    listener = mosquitto.listen()
    wait_until(lambda: phases(listener.got("/event/")).count("end") >= ends, seconds=40, what="alerts go on")
    assert program.process.poll() is None
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(timeout=10) == 0
    listener.stop()


def test_the_program_goes_on_when_nobody_reads_its_output(
    mosquitto: Mosquitto, run_program: Start, tmp_path: Path
) -> None:
    program = run_program(
        write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port), tmp_path / "state"
    )
    assert program.process.stdout is not None
    program.process.stdout.close()

    alerts_go_on(program, mosquitto, ends=1)

    assert program.log().count("standard output is gone") == 1


def test_the_program_goes_on_when_its_output_is_no_longer_read(
    mosquitto: Mosquitto, run_program: Start, tmp_path: Path
) -> None:
    """A pager that was left open: its pipe is full after the first alert."""
    program = run_program(
        write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port), tmp_path / "state"
    )
    assert program.process.stdout is not None
    fcntl.fcntl(program.process.stdout, fcntl.F_SETPIPE_SZ, 4096)

    alerts_go_on(program, mosquitto, ends=2)


def test_two_programs_do_not_share_a_state_folder(mosquitto: Mosquitto, run_program: Start, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port)
    first = run_program(config, tmp_path / "state")
    wait_until(lambda: "watching" in first.log(), seconds=20, what="the first one watches")

    second = wildlane("run", "--config", config, state=tmp_path / "state")

    assert second.returncode == 4
    assert "in use by another running wildlane" in second.stderr
