"""Time from starting `wildlane run` to its first processed frame, and from SIGTERM to its end.

`python benchmarks/startup.py` prints the median and the range of ten runs on the bundled clip with the embedded broker.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = 10


def one_run(folder: Path) -> tuple[float, float]:
    config = folder / "config.toml"
    config.write_text(f'[broker]\nembedded = true\nport = 0\n[cameras.road]\nsource = "{ROOT / "demo/crossing.mp4"}"\n')
    started_s = time.monotonic()
    command = [sys.executable, "-m", "monitor", "run", "--config", str(config), "--state", str(folder / "state")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT)  # noqa: S603
    assert process.stderr is not None
    first_frame_s = next(time.monotonic() - started_s for line in process.stderr if "camera road: sees" in line)
    time.sleep(3)  # an animal is in the picture by then
    stopped_s = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    return first_frame_s, time.monotonic() - stopped_s


def main() -> None:
    runs = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(one_run(Path(folder)))
    for name, values in zip(("start to first processed frame", "SIGTERM to end"), zip(*runs, strict=True), strict=True):
        median = statistics.median(values)
        print(f"{name}: median {median:.2f} s, {min(values):.2f} to {max(values):.2f} s over {RUNS} runs")


if __name__ == "__main__":
    main()
