"""The contract of the verbs: what is printed, and with which exit status."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from monitor.console.accounts import Accounts
from tests.conftest import DEMO_CLIP, DEMO_TRUTH, ROOT, wildlane


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def replayed(state: Path) -> dict[str, object]:
    ended = wildlane("replay", DEMO_CLIP, "--truth", DEMO_TRUTH, "--json", state=state)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_replay_finds_every_animal_of_the_clip_once_and_no_car(replayed: dict[str, object]) -> None:
    assert replayed["truth"]["events"] == replayed["truth"]["found"] == 3
    assert replayed["truth"]["missed"] == replayed["truth"]["false"] == []
    assert len(replayed["situations"]) == 3


def test_replay_answers_in_the_words_of_the_contract(replayed: dict[str, object]) -> None:
    assert set(replayed) == {"clip", "frames", "analysed", "seconds", "fps", "situations", "truth"}
    assert set(replayed["truth"]) == {"events", "found", "missed", "false", "time_to_alert_s"}
    for situation in replayed["situations"]:
        assert set(situation) == {"class", "start_s", "end_s", "camera", "zone", "box", "probability", "p_animal"}
        assert len(situation["box"]) == 4
        assert situation["start_s"] <= situation["end_s"]
    assert (replayed["frames"], replayed["analysed"]) == (748, 125)


def test_two_replays_give_the_same_situations(replayed: dict[str, object], state: Path) -> None:
    again = json.loads(wildlane("replay", DEMO_CLIP, "--json", state=state).stdout)

    assert again["situations"] == replayed["situations"]
    assert "truth" not in again


def test_replay_writes_a_page_that_judges_several_clips(small_clip: Path, tmp_path: Path, state: Path) -> None:
    nothing = tmp_path / "nothing.json"
    nothing.write_text('{"clip": "square.mp4", "fps": 30, "size": [160, 120], "events": []}')
    page = tmp_path / "report.html"
    truths = ["--truth", nothing, "--truth", nothing]
    ended = wildlane("replay", small_clip, small_clip, *truths, "--report", page, "--json", state=state)

    assert ended.returncode == 0, ended.stderr
    assert all(answer["truth"]["events"] == 0 for answer in json.loads(ended.stdout))
    assert "no truth file names an animal" in page.read_text()
    one = wildlane("replay", small_clip, small_clip, "--truth", nothing, state=state)
    assert (one.returncode, "once for each CLIP: 2 clips, 1 truth files" in one.stderr) == (2, True)


def test_replay_of_several_clips_answers_with_an_array_and_goes_on_after_a_broken_one(
    small_clip: Path, tmp_path: Path, state: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    ended = wildlane("replay", tmp_path / "broken.mp4", small_clip, "--json", state=state)

    assert ended.returncode == 5
    assert f"{tmp_path / 'broken.mp4'}: can't be opened" in ended.stderr
    assert [Path(answer["clip"]).name for answer in json.loads(ended.stdout)] == ["square.mp4"]


def test_a_truth_file_of_another_shape_is_an_input_error(small_clip: Path, tmp_path: Path, state: Path) -> None:
    (tmp_path / "truth.json").write_text('{"clip": "x", "fps": 30, "size": [1, 2]}')
    ended = wildlane("replay", small_clip, "--truth", tmp_path / "truth.json", state=state)

    assert ended.returncode == 5
    assert "not a truth file: events: Field required" in ended.stderr


def test_classify_answers_in_the_words_of_the_contract(demo_stills: list[Path], state: Path) -> None:
    ended = wildlane("classify", demo_stills[0], "--box", "5,5,60,50", "--json", state=state)
    answer = json.loads(ended.stdout)

    assert set(answer) == {"image", "box", "class", "probability", "weights", "p_animal", "similarity_m", "seconds"}
    assert answer["box"] == [5, 5, 60, 50]
    assert sum(answer["weights"].values()) == pytest.approx(1, abs=1e-4)
    assert "none" in answer["weights"]
    assert answer["p_animal"] > 0.5


def test_classify_of_several_stills_answers_with_an_array(demo_stills: list[Path], state: Path) -> None:
    answers = json.loads(wildlane("classify", *demo_stills[:2], "--classes", "bear,dog", "--json", state=state).stdout)

    assert [set(answer["weights"]) for answer in answers] == [{"bear", "dog", "none"}] * 2


@pytest.mark.parametrize(
    ("arguments", "complaint", "status"),
    [
        (["--box", "1,2,3"], "expected x,y,w,h", 2),
        (["--box", "1,2,0,4"], "width and height must be greater than 0", 2),
        (["--box", "nan,2,3,4"], "expected numbers below a million", 2),
        (["--box", "1,2,3,4", "--box", "1,2,3,4"], "2 boxes for 1 images", 2),
        (["--box", "900,900,10,10"], "lies outside the picture", 5),
        (["--classes", "unicorn"], "class 'unicorn' is not taught", 2),
    ],
)
def test_classify_says_what_is_wrong_with_its_arguments(
    demo_stills: list[Path], state: Path, arguments: list[str], complaint: str, status: int
) -> None:
    ended = wildlane("classify", demo_stills[0], *arguments, state=state)

    assert (ended.returncode, ended.stdout) == (status, "")
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


def test_teach_answers_in_the_words_of_the_contract_and_the_class_is_known(
    demo_stills: list[Path], tmp_path: Path
) -> None:
    ended = wildlane(
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
    answer = json.loads(ended.stdout)

    assert set(answer) == {"class", "version", "frames", "used", "refused", "seconds", "report"}
    assert set(answer["report"]) == {"leave_one_out", "confused_with", "missing", "nearest"}
    assert (answer["class"], answer["frames"], answer["used"]) == ("moose", 4, 4)
    assert (
        json.loads(wildlane("classify", demo_stills[1], "--json", state=tmp_path / "state").stdout)["class"] == "moose"
    )
    listed = json.loads(wildlane("classes", "list", "--json", state=tmp_path / "state").stdout)
    assert [(record["version"], record["active"]) for record in listed][-1] == (answer["version"], True)


def test_a_class_can_be_rolled_back_and_forgotten(demo_stills: list[Path], tmp_path: Path) -> None:
    wildlane(
        "teach", "--class", "moose", "--size", "large", "--origin", "wild", demo_stills[0], state=tmp_path / "state"
    )

    assert "cs-2 is live" in wildlane("classes", "rollback", state=tmp_path / "state").stdout
    assert "without dog" in wildlane("classes", "forget", "dog", state=tmp_path / "state").stdout
    assert wildlane("classes", "forget", "moose", state=tmp_path / "state").returncode == 0  # an older version had it
    assert wildlane("classes", "forget", "moose", state=tmp_path / "state").returncode == 2


def test_what_is_done_on_the_command_line_is_in_the_audit_where_there_is_one(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    before = len(accounts.audit(99))
    assert wildlane("classes", "rollback", "cs-1", state=tmp_path).returncode == 0

    newest, *_ = accounts.audit(99)
    assert len(accounts.audit(99)) == before + 1
    assert (newest.what, newest.about) == ("made live", "cs-1")
    assert newest.who.endswith(", command line")
    accounts.close()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--class", "none", "--size", "large", "--origin", "wild"], "'none' is an answer of its own"),
        (["--class", "moose", "--size", "huge", "--origin", "wild"], "expected --size small or large"),
        (["--class", "moose", "--size", "large"], "--origin"),
    ],
)
def test_teach_says_what_is_wrong_with_its_arguments(
    demo_stills: list[Path], tmp_path: Path, options: list[str], complaint: str
) -> None:
    ended = wildlane("teach", *options, demo_stills[0], state=tmp_path / "state")

    assert ended.returncode == 2
    assert complaint in ended.stderr


def test_teaching_from_unreadable_stills_is_an_input_error_that_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    ended = wildlane(
        "teach",
        "--class",
        "moose",
        "--size",
        "large",
        "--origin",
        "wild",
        tmp_path / "bad.jpg",
        state=tmp_path / "state",
    )

    assert ended.returncode == 5
    assert "bad.jpg: not a picture" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "moose" not in wildlane("classes", "list", state=tmp_path / "state").stdout


def test_every_broken_input_is_one_clear_error_with_the_contracts_status(data: Path, state: Path) -> None:
    for path in sorted((data / "broken-inputs").iterdir()):
        for verb in ("replay", "classify"):
            ended = wildlane(verb, path, "--json", state=state)
            assert (ended.returncode, ended.stdout) == (5, ""), (verb, path)
            assert str(path) in ended.stderr
            assert len(ended.stderr.splitlines()) == 1, ended.stderr


def test_clips_with_animals_alert_and_clips_without_do_not(data: Path, state: Path) -> None:
    """The shortest clips here; all nine are replayed by `benchmarks/clips.py`, whose output the README quotes."""
    road = json.loads(wildlane("replay", data / "clips/road_bgslibrary_video.avi", "--json", state=state).stdout)
    chimpanzees = json.loads(
        wildlane("replay", data / "clips/cameratrap_chimp_zamba.mp4", "--json", state=state).stdout
    )

    assert road["situations"] == []
    assert chimpanzees["situations"]


def test_a_command_line_that_is_wrong_is_a_usage_error() -> None:
    for arguments in (["replay"], ["fly"], ["classify", "--bogus", "x.png"]):
        ended = wildlane(*arguments)
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr


def test_the_version_is_printed() -> None:
    assert re.fullmatch(r"wildlane \d+\.\d+\.\d+\n", wildlane("--version").stdout)


def test_help_ends_with_worked_examples() -> None:
    assert "wildlane replay clip.mp4 --truth clip.json" in wildlane("--help").stdout


def test_every_verb_is_in_the_readme() -> None:
    from monitor.cli import app

    readme = (ROOT / "README.md").read_text()
    for verb in get_command(app).commands:
        assert f"`{verb}" in readme or f"wildlane {verb}" in readme, verb


def test_check_config_and_doctor_find_the_shipped_set_up_in_order(tmp_path: Path) -> None:
    assert wildlane("check-config").returncode == 0
    ended = wildlane("doctor", "--json", state=tmp_path / "state")
    findings = json.loads(ended.stdout)

    assert ended.returncode == 0, ended.stdout
    looked_at = {"model", "sources", "video decoding", "hardware decoding", "broker", "certificates", "state folder"}
    assert {finding["what"] for finding in findings} == looked_at


def test_doctor_tells_that_a_camera_gets_no_hardware_to_decode_it(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[cameras.road]\nsource = "{DEMO_CLIP}"\nhardware_decoding = true\n[broker]\nembedded = true\n')
    ended = wildlane("doctor", "--config", config, "--json", state=tmp_path / "state")
    finding = next(one for one in json.loads(ended.stdout) if one["what"] == "hardware decoding")

    assert finding["ok"] or "camera road: OpenCV finds no graphics chip that decodes it" in finding["detail"]
    assert (ended.returncode == 0) == finding["ok"]


def test_without_a_config_in_the_folder_the_shipped_one_is_used(tmp_path: Path) -> None:
    ended = wildlane("check-config", "--json", cwd=tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert Path(json.loads(ended.stdout)["config"]).name == "config.toml"


def test_the_daemon_runs_without_torch() -> None:
    import subprocess

    code = (
        "import sys; import monitor.daemon, monitor.replay, monitor.cli, adapters.teaching; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_help_is_quick_because_nothing_heavy_is_loaded() -> None:
    import subprocess

    code = (
        "import sys; import monitor.cli; "
        "sys.exit(any(m in sys.modules for m in ('onnxruntime', 'cv2', 'numpy', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    "change",
    [
        {"visible_s": float("nan")},
        {"start_s": -1.0},
        {"end_s": 0.0},
        {"visible_s": 99.0},
        {"boxes": [[0, 1, 2, -3, 4]]},
        {"boxes": []},
        {"class": ""},
    ],
)
def test_a_truth_file_that_can_not_be_true_is_an_input_error(
    small_clip: Path, tmp_path: Path, state: Path, change: dict[str, object]
) -> None:
    event = {
        "id": 1,
        "class": "dog",
        "start_s": 0.5,
        "end_s": 1.5,
        "visible_s": 0.6,
        "boxes": [[15, 1, 2, 3, 4]],
        **change,
    }
    (tmp_path / "truth.json").write_text(json.dumps({"clip": "x", "fps": 30, "size": [160, 120], "events": [event]}))

    ended = wildlane("replay", small_clip, "--truth", tmp_path / "truth.json", "--json", state=state)

    assert (ended.returncode, ended.stdout) == (5, "")
    assert "not a truth file: events.0" in ended.stderr


def test_bench_tells_speed_beside_bare_decoding(small_clip: Path, tmp_path: Path) -> None:
    result = wildlane("bench", small_clip, "--cameras", "1,2", "--json", state=tmp_path)

    told = json.loads(result.stdout)
    assert told["clip"] == str(small_clip)
    assert told["read_fps"] > 0
    assert 0 < told["ratio"] < 2
    assert {"grab", "retrieve", "motion", "encode", "match", "decide"} <= set(told["stage_ms"])
    assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["p95"] <= told["latency_ms"]["p99"]
    assert 5 < told["memory_mb_per_camera"] < 500
    assert told["cpu_s_per_analysed_frame"] > 0
    assert [live["cameras"] for live in told["growth"]] == [1, 2]


def test_bench_refuses_nodes_of_no_cluster(small_clip: Path, tmp_path: Path) -> None:
    result = wildlane("bench", small_clip, "--nodes", "3", state=tmp_path)

    assert result.returncode == 2
    assert "--nodes: says how many nodes --cluster is to have" in result.stderr


@pytest.mark.parametrize("cameras", ["0", "x", "1,", "65"])
def test_bench_refuses_a_number_of_cameras_that_is_none(small_clip: Path, tmp_path: Path, cameras: str) -> None:
    result = wildlane("bench", small_clip, "--cameras", cameras, state=tmp_path)

    assert result.returncode == 2
    assert f"expected numbers from 1 to 64 such as 4 or 1,2,4, got '{cameras}'" in result.stderr


def test_classes_are_carried_from_one_site_to_another(demo_stills: list[Path], tmp_path: Path) -> None:
    here, there, file = tmp_path / "here", tmp_path / "there", tmp_path / "moose.classes"
    taught = wildlane("teach", "--class", "moose", "--size", "large", "--origin", "wild", *demo_stills, state=here)
    assert taught.returncode == 0, taught.stderr
    written = wildlane("classes", "export", file, "--classes", "moose", "--json", state=here)
    frames = json.loads(written.stdout)["classes"]["moose"]
    imported = wildlane("classes", "import", file, "--json", state=there)
    shown = wildlane("classes", "show", "moose", "--json", state=there)
    again = wildlane("classes", "import", file, state=there)

    assert json.loads(imported.stdout) == {"version": "cs-3", "classes": {"moose": frames}, "left_out": {}}
    (moose,) = json.loads(shown.stdout)
    assert (moose["class"], moose["size"], len(moose["shots"])) == ("moose", "large", frames)
    assert again.returncode == 5
    assert "nothing to take in: moose all its frames are known already" in again.stderr
