#!/usr/bin/env python3
"""Runs every drill with its full count and keeps what it printed in docs/drills/: `make drills`.

A drill that has passed is not run again while the sources and the tests are what they were; a killed run goes on with
the next drill.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs/drills"
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]


def drills() -> list[str]:
    """Return the node ids of all drills, each once whatever its parameters."""
    found = subprocess.run(  # noqa: S603  # our own command
        [*PYTEST, "--collect-only", "-m", "drill", "tests"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    nodes = [line for line in found.stdout.splitlines() if "::" in line]
    return list(dict.fromkeys(node.partition("[")[0] for node in nodes))


def digest() -> str:
    """Return what the sources and tests are now."""
    files = [path for room in ("monitor", "adapters", "tests") for path in (ROOT / room).rglob("*.py")]
    files = sorted(files + [path for path in (ROOT / "deploy").rglob("*") if path.is_file()])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def run(drill: str, sources: str) -> bool:
    """Run one drill and keep its output; return whether it passed."""
    name = drill.rpartition("::")[2].removeprefix("test_").replace("_", "-")
    file = OUT / f"{name}.txt"
    if file.exists() and f"sources {sources}, passed" in file.read_text():
        print(f"{name}: passed before")
        return True
    print(f"{name}: running", flush=True)
    begun_s = time.monotonic()
    done = subprocess.run(  # noqa: S603
        [*PYTEST, "-s", "--drills-in-full", drill], capture_output=True, text=True, cwd=ROOT, check=False
    )
    verdict = "passed" if done.returncode == 0 else "FAILED"
    took = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {time.monotonic() - begun_s:.0f} s"
    file.write_text(
        f"{drill}\nsources {sources}, {verdict}, {took}, Python {platform.python_version()}\n\n{done.stdout}"
    )
    print(f"{name}: {verdict}")
    return done.returncode == 0


def main() -> None:
    """Run them all; the exit status is 1 where one failed."""
    OUT.mkdir(exist_ok=True)
    sources = digest()
    passed = [run(drill, sources) for drill in drills()]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
