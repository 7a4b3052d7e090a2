"""What many cameras cost, beside bare decoding: python benchmarks/cameras.py [--data ../shared/data]

Makes three clips with the ffmpeg program (a quiet road in 1080p at 25 a second; the same with ten cut-outs that never
stop; a small one of 640x360 at 10 a second) and prints, each in the run that it is of: the replay's speed beside a bare
`read()` loop, the median time of motion and regions, the latency from the frame that confirmed an animal to a
subscriber, how old frames are at most, what sixteen cameras cost beside one, and the memory of a further camera.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from adapters.training.domains import paste_cutout, resize_cutout
from adapters.training.pictures import stamps
from monitor import bench
from monitor.config import CameraConfig, Config
from monitor.context import Context
from monitor.regions import MotionRegions

ROOT = Path(__file__).parents[1]
ROAD = "street_parked_ckuhn517.mp4"  # nobody passes in its last three seconds
LARGE, FPS, CLIP_S, TIMES = (1920, 1080), 25, 3, 5  # forth and back, so many times
MOVERS, MOVER_PX, SPEED_PX = 10, 120, 6
PASSING = ROOT / "demo/crossing.mp4"  # animals to alert of
LEARNT = 20  # frames before motion is timed


def encode(frames: list[NDArray[np.uint8]], out: Path) -> Path:
    height, width = frames[0].shape[:2]
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}", "-r"]
    command += [str(FPS), "-i", "-", "-c:v", "libx264", "-crf", "23", "-preset", "fast", "-pix_fmt", "yuv420p"]
    ffmpeg = subprocess.Popen([*command, str(out)], stdin=subprocess.PIPE)  # noqa: S603
    assert ffmpeg.stdin is not None  # opened as a pipe
    for frame in TIMES * [*frames, *reversed(frames)]:
        ffmpeg.stdin.write(frame.tobytes())
    ffmpeg.communicate()
    return out


def quiet_frames(data: Path) -> list[NDArray[np.uint8]]:
    """Return the parked street, larger; nothing but its own sensor's noise moves."""
    capture, frames = cv2.VideoCapture(str(data / "clips" / ROAD)), list[NDArray[np.uint8]]()
    while capture.grab():
        _, frame = capture.retrieve()
        frames = [*frames[1 - CLIP_S * FPS :], np.asarray(frame, np.uint8)]
    return [np.asarray(cv2.resize(frame, LARGE, interpolation=cv2.INTER_CUBIC), np.uint8) for frame in frames]


def busy_frames(frames: list[NDArray[np.uint8]], data: Path) -> list[NDArray[np.uint8]]:
    """Return them with cut-outs that go to and fro."""
    bodies = [resize_cutout(cutout, MOVER_PX) for _, _, cutout in list(stamps(data))[: 3 * MOVERS : 3]]
    busy = []
    for index, frame in enumerate(frames):
        scene = frame
        for lane, body in enumerate(bodies):
            track_px = LARGE[0] - body.shape[1]
            x = abs((SPEED_PX * index + lane * 391) % (2 * track_px) - track_px)
            scene = paste_cutout(scene, body, x, 20 + lane * (LARGE[1] - 2 * MOVER_PX) // MOVERS)
        busy.append(scene)
    return busy


def speeds(name: str, clip: Path, context: Context) -> None:
    told = bench.measure_speeds(clip, context.pipelines(None), 5.0, lambda _: None)
    stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in told.stage_ms.items())
    print(f"{name}: {told.ratio:.2f} x bare read ({told.pipeline_fps:.0f} of {told.read_fps:.0f} frames a second), "
          f"{told.crops_per_s:.0f} crops a second; ms an analysed frame: {stages}", flush=True)  # fmt: skip


def motion(name: str, frames: list[NDArray[np.uint8]]) -> None:
    cv2.setNumThreads(1)  # as in a decoder
    regions, taken_ms = MotionRegions(), []
    for frame in frames[:: FPS // 5] * 3:
        began_s = time.perf_counter()
        regions.find(frame)
        taken_ms.append(1000 * (time.perf_counter() - began_s))
    cv2.setNumThreads(-1)
    print(f"{name}: motion and regions {statistics.median(taken_ms[LEARNT:]):.2f} ms (median)", flush=True)


def live(clip: Path, cameras: int, rate_hz: float) -> bench.Live:
    config = Config.model_validate({"cameras": {"any": CameraConfig(source=str(clip), analysis_rate_hz=rate_hz)}})
    return bench.measure_live(clip, config, cameras, lambda _: None)


def small_clip(out: Path) -> Path:
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(PASSING), "-r", "10", "-c:v", "libx264", str(out)]
    subprocess.run(command, check=True)  # noqa: S603
    return out


def watching(small: Path, large: Path) -> None:
    four = live(small, 4, 5.0).answer()
    told = {name: four[name]["p95"] for name in ("alert_latency_ms", "latency_ms")}
    print(f"4 cameras of 640x360, 5 analysed: p95 {told['alert_latency_ms']:.0f} ms from the confirming frame to a "
          f"subscriber, {told['latency_ms']:.0f} ms to the decision, the oldest {four['oldest_ms']:.0f} ms; "
          f"{four['analysed_per_s']:.1f} analysed a second", flush=True)  # fmt: skip
    one, sixteen = live(small, 1, 3.0).answer(), live(small, 16, 3.0).answer()
    each = "cpu_s_per_analysed_frame"
    print(f"16 cameras at 10, 3 analysed: {sixteen[each]:.3f} CPU seconds a frame, of one camera {one[each]:.3f}: "
          f"{sixteen[each] / one[each]:.2f}; {sixteen['analysed_per_s']:.1f} of 48 analysed a second, "
          f"the oldest {sixteen['oldest_ms']:.0f} ms", flush=True)  # fmt: skip
    few, more = live(large, 1, 3.0).answer(), live(large, 4, 3.0).answer()
    added = (more["memory_mb"] - few["memory_mb"]) / 3
    print(f"a further 1080p camera: {added:.0f} MB of proportional memory, this process's part included", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory() as folder:
        out, context = Path(folder), Context(None, Path(folder) / "state")
        quiet = quiet_frames(data)
        large = encode(quiet, out / "quiet.mp4")
        speeds("quiet 1080p25", large, context)
        motion("quiet 1080p", quiet)
        busy = busy_frames(quiet, data)
        del quiet
        speeds(f"busy 1080p25, {MOVERS} movers", encode(busy, out / "busy.mp4"), context)
        motion(f"busy 1080p, {MOVERS} movers", busy)
        del busy
        watching(small_clip(out / "small.mp4"), large)


if __name__ == "__main__":
    sys.exit(main())
