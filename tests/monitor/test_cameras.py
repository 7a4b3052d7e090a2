from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.cameras.container import cut_short
from monitor.cameras.fleet import Fleet, redacted
from monitor.cameras.health import HealthMonitor
from monitor.cameras.knock import Knock, wants_knock
from monitor.cameras.picture import EDGES_PX, UsualView
from monitor.cameras.stream import DecoderProcess, Ended, Event, Opened, Pace, Reconnection, Source
from monitor.values import FAULT_TIMES_S, Fault, Frame
from tests.conftest import DEMO_CLIP, RtspServer, free_port, missing, wait_until


def collect(source: Source, pace: Pace, *, release: bool = True, seconds: float = 30) -> list[Event]:
    """Everything a decoder says until it ends; images are copied, since slots are used again."""
    decoder, events, deadline = DecoderProcess(source, pace), [], time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            wait([decoder.connection], timeout=0.5)
            event = decoder.receive()
            if event is not None:
                events.append(event)
            if isinstance(event, Frame) and release:
                decoder.release(event)
            if isinstance(event, Ended):
                return events
    finally:
        decoder.stop()
    return events


def recording(path: Path, rate_hz: float = 5.0) -> Source:
    return Source(name="test", url=str(path), analysis_rate_hz=rate_hz)


def test_a_recording_gives_every_due_frame_and_its_plain_end(small_clip: Path) -> None:
    events = collect(recording(small_clip), "lossless")

    assert events[0] == Opened(size=(160, 120), fps=30.0)
    assert [event.index for event in events if isinstance(event, Frame)] == [0, 6, 12, 18, 24, 30, 36, 42, 48, 54]
    assert events[-1] == Ended(reason="", frames=60)


def test_nothing_behind_a_mask_reaches_anybody(small_clip: Path) -> None:
    source = replace(recording(small_clip), masks_px=(((0, 0), (79, 0), (79, 119), (0, 119)),))
    decoder = DecoderProcess(source, "lossless")
    try:
        while not isinstance(event := decoder.receive(), Frame):
            wait([decoder.connection], timeout=0.5)
        assert (event.image[:, :80] == 114).all()
        assert not (event.image[:, 80:] == 114).all()
    finally:
        decoder.stop()


def test_two_readings_of_a_recording_are_the_same(small_clip: Path) -> None:
    first, second = (collect(recording(small_clip), "lossless") for _ in range(2))

    assert [event.moving for event in first if isinstance(event, Frame)] == [
        event.moving for event in second if isinstance(event, Frame)
    ]


def test_a_paced_recording_takes_its_own_time(small_clip: Path) -> None:
    started = time.monotonic()
    events = collect(recording(small_clip), "paced")

    assert time.monotonic() - started > 1.9
    assert events[-1] == Ended(reason="", frames=60)


def test_a_consumer_that_is_slow_gets_the_newest_frame_next_and_the_others_not_at_all(small_clip: Path) -> None:
    decoder, frames = DecoderProcess(recording(small_clip, 30), "paced"), list[Frame]()
    try:
        while len(frames) < 3:
            wait([decoder.connection], timeout=5)
            if isinstance(event := decoder.receive(), Frame):
                frames.append(event)
                assert not wait([decoder.connection], timeout=0.5)  # nothing comes while it is worked on
                decoder.release(event)
    finally:
        decoder.stop()

    first, *later = [frame.time_s for frame in frames]
    assert later == pytest.approx([first + 0.5, first + 1.0], abs=0.12)  # not the oldest of those that came meanwhile
    assert frames[2].dropped > 20


def test_what_two_masks_cover_is_covered(small_clip: Path) -> None:
    masks = (((0, 0), (79, 0), (79, 119), (0, 119)), ((40, 0), (119, 0), (119, 119), (40, 119)))
    decoder = DecoderProcess(replace(recording(small_clip), masks_px=masks), "lossless")
    try:
        while not isinstance(event := decoder.receive(), Frame):
            wait([decoder.connection], timeout=0.5)
        assert (event.image[:, :120] == 114).all()
    finally:
        decoder.stop()


def test_a_decoder_takes_up_what_its_camera_usually_shows() -> None:
    known = UsualView(0.5, tuple([100] * (EDGES_PX[0] * EDGES_PX[1])))
    told = list[Fault | None]()
    other = DecoderProcess(Source(name="road", url=str(DEMO_CLIP), analysis_rate_hz=2), "lossless", usual=known)
    try:
        while not isinstance(event := other.receive(), Ended):
            if isinstance(event, Frame):
                told.append(event.fault)
                other.release(event)
            wait([other.connection], timeout=1)
    finally:
        other.stop()

    assert told[-1] == "moved"  # a view without an edge is not what the clip shows


def test_a_decoder_that_cannot_be_started_leaves_nothing_open(
    small_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    for _ in range(3):
        with pytest.raises(OSError, match="nonexistent"):
            DecoderProcess(recording(small_clip), "live")

    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_frames_arrive_pixel_by_pixel(small_clip: Path) -> None:
    decoder = DecoderProcess(recording(small_clip), "lossless")
    while not isinstance(event := decoder.receive(), Frame):
        wait([decoder.connection], timeout=5)

    assert event.image.shape == (120, 160, 3)
    assert event.image[60, 10].mean() > 180
    assert event.image[10, 100].mean() == pytest.approx(100, abs=15)
    decoder.stop()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "the file is empty"), (b"version https://git-lfs\n", "can't be opened"), (None, "no such file")],
    ids=["empty", "text", "missing"],
)
def test_a_file_that_is_no_video_ends_with_a_clear_reason(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / "clip.mp4").write_bytes(content)

    events = collect(recording(tmp_path / "clip.mp4"), "lossless")

    assert isinstance(events[-1], Ended)
    assert complaint in events[-1].reason


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_recording_that_was_cut_short_is_told_from_a_whole_one(tmp_path: Path, share: float) -> None:
    content = DEMO_CLIP.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: int(share * len(content))])

    events = collect(recording(tmp_path / "cut.mp4"), "lossless")

    assert len(events) == 1
    assert isinstance(events[0], Ended)
    assert "cut short" in events[0].reason


def test_a_url_that_nobody_serves_ends_within_its_time_out() -> None:
    started = time.monotonic()
    events = collect(Source(name="test", url="rtsp://127.0.0.1:9/x", analysis_rate_hz=5, open_timeout_s=1), "live")

    assert isinstance(events[-1], Ended)
    assert "can't be opened" in events[-1].reason
    assert time.monotonic() - started < 10


def test_a_decoder_that_dies_is_told_with_its_signal(small_clip: Path) -> None:
    decoder = DecoderProcess(recording(small_clip), "lossless")
    while not isinstance(decoder.receive(), Opened):
        wait([decoder.connection], timeout=5)
    decoder._process.kill()
    decoder._process.wait()
    events = []
    while not (events and isinstance(events[-1], Ended)):
        events.append(decoder.receive())

    assert "SIGKILL" in events[-1].reason
    decoder.stop()


def test_a_decoder_that_hangs_is_killed(small_clip: Path) -> None:
    clock = [0.0]
    decoder = DecoderProcess(recording(small_clip), "lossless", now=lambda: clock[0])
    while not isinstance(decoder.receive(), Opened):
        wait([decoder.connection], timeout=5)
    decoder._process.send_signal(19)  # SIGSTOP: it hangs
    while decoder.connection.poll(0.3):
        decoder.receive()
    clock[0] += 60

    ended = decoder.receive()

    assert ended == Ended(reason="the decoder hung and was killed")
    decoder.stop()


def test_a_video_that_aborts_its_decoder_harms_only_its_decoder(data: Path) -> None:
    events = collect(recording(data / "broken-inputs/aborts_the_decoder.avi"), "lossless")

    assert isinstance(events[-1], Ended)
    assert re.search("ended by SIG(ABRT|SEGV|BUS|ILL)", events[-1].reason)  # its heap is corrupted: any of these


def test_pauses_between_attempts_grow_to_a_limit_and_start_again_after_a_frame() -> None:
    longest = Reconnection(draw=lambda low, high: high)
    pauses = [longest.next_pause_s() for _ in range(12)]

    assert pauses[:3] == [1.0, 1.5, 2.25]
    assert pauses[-1] == 10.0
    longest.succeeded()
    assert longest.next_pause_s() == 1.0


def test_a_camera_may_be_away_for_ever() -> None:
    reconnection = Reconnection()

    assert all(0 < reconnection.next_pause_s() <= 10 for _ in range(5000))


@pytest.mark.parametrize(
    "url",
    ["rtsp://user:pa/ss@host/stream?token=x", "rtsp://user:p@ss@host/stream", "rtsp://host/stream?user=a&token=pass"],
)
def test_no_part_of_a_password_is_told(url: str) -> None:
    assert redacted(url) == "rtsp://host/stream"


def test_pauses_are_drawn_at_random_so_that_cameras_do_not_come_back_together() -> None:
    assert len({Reconnection().next_pause_s() for _ in range(20)}) > 15


def test_a_knock_tells_whether_an_rtsp_server_is_at_home() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        silent = Knock(f"rtsp://user:secret@127.0.0.1:{port}/x", timeout_s=0.3)
        assert silent.answered is None
        wait_until(lambda: silent.connected, seconds=5, what="it is connected")
        wait_until(lambda: silent.answered is False, seconds=5, what="nobody has answered")

        asked = Knock(f"rtsp://user:secret@127.0.0.1:{port}/x")
        server.accept()[0].close()  # the silent one
        connection, _ = server.accept()
        assert connection.recv(200).startswith(b"OPTIONS rtsp://127.0.0.1:%d/x RTSP/1.0\r\n" % port)
        connection.sendall(b"RTSP/1.0 401 Unauthorized\r\n\r\n")
        wait_until(lambda: asked.answered is True, seconds=5, what="somebody has answered")
        connection.close()
        other = Knock(f"http://127.0.0.1:{port}/x")
        wait_until(lambda: other.answered is True, seconds=5, what="the connection is taken")
    for url in (
        f"rtsp://127.0.0.1:{free_port()}/x",
        f"https://127.0.0.1:{free_port()}/x",
        "rtsp://no-such-host.invalid/x",
        "rtsp://host:x/",
    ):
        assert wants_knock(url)
        closed = Knock(url)
        wait_until(lambda closed=closed: closed.answered is False, seconds=10, what="it is known")
    assert not wants_knock("rtsp://user:p[ss@host/x")  # only FFmpeg may know what is meant


def attempts(fleet: Fleet, clock: list[float], until_s: float, opened: list[float]) -> None:
    """Let the fleet run on a clock of its own; knocks, on real sockets, get real time to be answered."""
    while clock[0] < until_s:
        camera = next(iter(fleet._cameras.values()))
        had = camera.decoder
        fleet.frames()
        if camera.decoder is not None and camera.decoder is not had:
            opened.append(clock[0])
            camera.decoder.stop()
            fleet._close(camera, Ended(reason="the stream stopped"))
        if camera.knock is not None:
            camera.knock._thread.join(5)
        clock[0] += 0.25


def test_a_camera_that_was_away_is_opened_as_soon_as_it_answers_and_one_that_breaks_at_once_ever_more_rarely() -> None:
    clock, opened = [0.0], list[float]()
    port = free_port()
    source = Source(name="gate", url=f"http://127.0.0.1:{port}/x", analysis_rate_hz=5)
    fleet = Fleet([source], lambda: clock[0], lost=lambda name, reason: None)
    fleet._cameras["gate"].at_home = False
    attempts(fleet, clock, 60, opened)
    assert opened == []  # nobody is there: no decoder is spent on it
    with socket.create_server(("127.0.0.1", port), backlog=100):
        attempts(fleet, clock, 63, opened)
        assert opened[0] <= 61.5
        attempts(fleet, clock, 180, opened)
    pauses = np.diff(opened)
    assert pauses[-1] >= 5
    assert len(opened) < 30
    fleet.close()


def test_a_camera_is_blind_until_its_first_frame_when_stalled_and_when_lost() -> None:
    clock = [0.0]
    monitor = HealthMonitor(lambda: clock[0], 5.0, stalled_s=7.0)
    assert (monitor.check().state, monitor.check().reason) == ("blind", "lost")
    monitor.frame()
    assert monitor.check().state == "ok"
    clock[0] = 6.9
    assert monitor.check().state == "ok"
    clock[0] = 7.1
    assert (monitor.check().state, monitor.check().reason) == ("blind", "stalled")
    monitor.frame()
    monitor.lost()
    assert (monitor.check().state, monitor.check().reason, monitor.check().since_s) == ("blind", "lost", clock[0])


def test_a_camera_that_comes_too_rarely_has_a_wrong_rate_and_one_whose_picture_is_no_good_says_why() -> None:
    clock = [0.0]
    monitor = HealthMonitor(lambda: clock[0], 5.0)

    def watch(seconds: float, rate_hz: float, fault: Fault | None = None) -> tuple[str, str | None]:
        for _ in range(round(seconds * rate_hz)):
            clock[0] += 1 / rate_hz
            monitor.frame(fault)
        return monitor.check().state, monitor.check().reason

    assert watch(30, 5) == ("ok", None)
    assert watch(30, 1) == ("degraded", "wrong-rate")
    assert watch(30, 4) == ("ok", None)
    monitor = HealthMonitor(lambda: clock[0], 5.0, wrong_rate_s=60.0)
    assert watch(50, 1) == ("ok", None)
    assert watch(12, 1) == ("degraded", "wrong-rate")
    monitor = HealthMonitor(lambda: clock[0], 5.0)
    assert watch(1, 5, "covered") == ("blind", "covered")
    assert watch(1, 5, "defocused") == ("degraded", "defocused")
    assert watch(1, 5) == ("ok", None)


def test_what_an_overloaded_machine_leaves_out_is_not_the_camera_s_fault() -> None:
    clock, left_out = [0.0], 0
    monitor = HealthMonitor(lambda: clock[0], 5.0)
    for _ in range(40):  # two of five a second
        clock[0] += 0.5
        monitor.frame(left_out=left_out)
        left_out += 2

    assert (monitor.check().state, monitor.overloaded) == ("ok", True)
    monitor.lost()
    monitor.frame()  # of the next stream, which counts anew
    assert monitor.analysed_per_s == pytest.approx(2.0, abs=0.2)


@given(st.binary(max_size=200), st.sampled_from([b"", b"RIFF", b"\0\0\0\x20ftypisom", b"\xff\xd8"]))
@settings(max_examples=200)
def test_any_bytes_are_whole_or_cut_short_and_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, magic: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.bin"
    path.write_bytes(magic + content)

    assert cut_short(path) is None or isinstance(cut_short(path), str)


def test_an_avi_names_the_bytes_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "a.avi").write_bytes(b"RIFF" + struct.pack("<I", 5000) + b"AVI " + bytes(100))

    assert cut_short(tmp_path / "a.avi") == "5008 bytes are declared, 112 are there"


def test_frames_are_views_of_shared_memory(small_clip: Path) -> None:
    decoder = DecoderProcess(recording(small_clip), "lossless")
    while not isinstance(event := decoder.receive(), Frame):
        wait([decoder.connection], timeout=5)

    assert not event.image.flags.owndata
    assert event.image.dtype == np.uint8
    decoder.stop()


@pytest.mark.parametrize("kind", ["mkv", "webm", "avi", "gif"])
def test_other_containers_that_were_cut_short_are_told_from_whole_ones(
    tmp_path: Path, small_clip: Path, kind: str
) -> None:
    if not shutil.which("ffmpeg"):
        missing("ffmpeg")
    whole = tmp_path / f"whole.{kind}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(small_clip), str(whole)], check=True, capture_output=True)
    (tmp_path / f"cut.{kind}").write_bytes(whole.read_bytes()[: int(0.97 * whole.stat().st_size)])

    assert cut_short(whole) is None
    assert cut_short(tmp_path / f"cut.{kind}")


def test_video_time_follows_the_stamps_not_the_nominal_rate(tmp_path: Path, small_clip: Path) -> None:
    if not shutil.which("ffmpeg"):
        missing("ffmpeg")
    slow = tmp_path / "slow.mkv"  # every frame lasts three times as long from the middle on
    stretch = "setpts='if(lt(N,30),PTS,PTS+2*(N-30)/30/TB)'"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(small_clip), "-vf", stretch, "-fps_mode", "vfr", str(slow)],
        check=True,
        capture_output=True,
    )

    frames = [event for event in collect(recording(slow), "lossless") if isinstance(event, Frame)]

    assert frames[-1].time_s == pytest.approx(1 + 29 * 3 / 30, abs=0.25)


@pytest.mark.parametrize("name", ["2024-01-01T12:30:00.mp4", "12345", "-dash.mp4", "späß und mehr.mp4"])
def test_a_recording_may_have_any_name(tmp_path: Path, small_clip: Path, name: str) -> None:
    shutil.copy(small_clip, tmp_path / name)

    assert collect(recording(tmp_path / name), "lossless")[-1] == Ended(reason="", frames=60)


def test_a_camera_whose_frames_come_ever_later_is_told_by_its_own_clock(
    rtsp: Callable[[dict[str, dict[str, str]]], RtspServer],
) -> None:
    made = "videotestsrc is-live=true pattern=ball ! video/x-raw,framerate=10/1,width=320,height=180,format=I420"
    coded = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay name=pay0 pt=96"
    server = rtsp(
        {"/late": {"launch": f"{made} ! identity sleep-time=200000 ! {coded}"}}
    )  # a frame of 0.1 s takes 0.2 s
    source = Source(
        name="late",
        url=f"rtsp://127.0.0.1:{server.port}/late",
        analysis_rate_hz=5,
        fault_times_s={**FAULT_TIMES_S, "clock": 1.0},
    )
    faults = [event.fault for event in collect(source, "live", seconds=20) if isinstance(event, Frame)]

    assert faults[0] is None
    assert faults[-1] == "clock"
    assert set(faults) == {None, "clock"}
