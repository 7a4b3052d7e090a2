"""The demonstration: the bundled clip as a camera of the real daemon, with the embedded broker and its own state."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from adapters.workers import Say
from monitor.alerts.schema import Alert
from monitor.config import CameraConfig, Config, shipped
from monitor.daemon import Daemon
from monitor.drawing import Recorder, draw_video

CLIP = "demo/crossing.mp4"


def run_demo(config: Config, out: Path, *, tell: Callable[[Alert], None], say: Say) -> Path:
    """Play the clip through the daemon at its own speed, then draw it.

    Args:
        config: device and policy are taken from it; camera, broker and state are the demonstration's own.
        out: folder for demo.mp4.
        tell: called with each alert.
        say: called with a line for the person who watches.

    Returns:
        The video.
    """
    clip = shipped(CLIP)
    demo_config = config.alone("demo", {"road": CameraConfig(source=str(clip))})
    recorder = Recorder()
    with tempfile.TemporaryDirectory(prefix="wildlane-demo-") as state:
        daemon = Daemon(demo_config, clip, Path(state), tell=tell, watch=recorder.watch)
        say(
            f"playing {clip.name}; alerts also go to: "
            f"mosquitto_sub -V 5 -p {daemon.broker_port} -t 'wildlane/v1/demo/#' -v"
        )
        daemon.run()
    say("drawing the video")
    draw_video(clip, recorder, out / "demo.mp4")
    return out / "demo.mp4"
