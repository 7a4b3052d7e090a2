"""Checks what Wildlane needs on a machine, one finding each, with what to do about what is missing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from adapters.errors import WildlaneError
from monitor.config import Config

MIN_FREE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it is well, and what was seen or is to be done."""

    what: str
    ok: bool
    detail: str


class Subject(Protocol):
    """What is examined: a configuration, where it came from, and the state folder."""

    path: Path
    config: Config
    state_dir: Path


def examine(subject: Subject) -> list[Finding]:
    """Return a finding for each part that `run` depends on; nothing is changed but an empty state folder made."""
    checks: dict[str, Callable[[Subject], str]] = {
        "model": _model,
        "sources": _sources,
        "video decoding": _decoding,
        "hardware decoding": _hardware,
        "broker": _broker,
        "certificates": _certificates,
        "state folder": _state,
    }
    return [_finding(name, check, subject) for name, check in checks.items()]


def _finding(name: str, check: Callable[[Subject], str], subject: Subject) -> Finding:
    try:
        return Finding(name, ok=True, detail=check(subject))
    except (WildlaneError, OSError, ImportError, sqlite3.Error) as error:
        return Finding(name, ok=False, detail=str(error))


def _model(subject: Subject) -> str:
    import numpy as np

    from monitor.assembly import classifier_of

    classifier = classifier_of(subject.config, subject.state_dir)
    classifier.encode([np.full((64, 64, 3), 128, np.uint8)])
    return f"{classifier.encoder_hash[:19]} verified, ran on {classifier.provider}"


def _sources(subject: Subject) -> str:
    from monitor.config import source_of

    sources = [source_of(camera, subject.path) for camera in subject.config.cameras.values()]
    return f"{len(sources)} configured"


def _decoding(_: Subject) -> str:
    import cv2

    backends = [cv2.videoio_registry.getBackendName(backend) for backend in cv2.videoio_registry.getStreamBackends()]
    if "FFMPEG" not in backends:
        raise OSError(f"OpenCV {cv2.__version__} was built without FFmpeg; install opencv-python from PyPI")
    return f"OpenCV {cv2.__version__} with {', '.join(backends)}"


def _hardware(subject: Subject) -> str:
    from monitor.assembly import sources_of
    from monitor.cameras.stream import opened

    asking = [source for source in sources_of(subject.config, subject.path) if source.hardware]
    found = {source.name: opened(source).accelerator for source in asking}
    if on_cpu := [name for name, accelerator in found.items() if not accelerator]:
        raise OSError(
            f"camera {', '.join(on_cpu)}: OpenCV finds no graphics chip that decodes it, the CPU does; "
            "set hardware_decoding = false, or install an OpenCV that was built with VA-API or oneVPL"
        )
    return ", ".join(f"camera {name}: {accelerator}" for name, accelerator in found.items()) or "not asked for"


def _broker(subject: Subject) -> str:
    from monitor.alerts.broker import EmbeddedBroker
    from monitor.alerts.session import check_reachable
    from monitor.assembly import address_of

    broker = subject.config.broker
    if broker.embedded:
        with EmbeddedBroker(0) as trial:
            return f"the embedded broker starts (tried on port {trial.port})"
    if problem := check_reachable(address_of(subject.config, broker.port)):
        raise OSError(problem)
    return f"{broker.host}:{broker.port} answers"


def _certificates(subject: Subject) -> str:
    from monitor.alerts.certificates import validities
    from monitor.assembly import tls_of

    now = datetime.now(UTC)
    found = validities(tls_of(subject.config))
    if warnings := [warning for validity in found if (warning := validity.warning(now))]:
        raise OSError("; ".join(warnings))
    return ", ".join(f"{known.role} {known.days_left(now):.0f} days left" for known in found) or "nothing is encrypted"


def _state(subject: Subject) -> str:
    subject.state_dir.mkdir(parents=True, exist_ok=True)
    trial = subject.state_dir / ".doctor"
    trial.write_bytes(b"x")
    trial.unlink()
    free = shutil.disk_usage(subject.state_dir).free
    if free < MIN_FREE_BYTES:
        raise OSError(
            f"{subject.state_dir}: {free / 1e9:.1f} GB free, at least {MIN_FREE_BYTES / 1e9:.0f} GB are wanted"
        )
    return f"{subject.state_dir} can be written, {free / 1e9:.0f} GB free"
