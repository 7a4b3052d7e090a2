"""Without the extra `cluster`: a clear error, and nothing else of Wildlane that would miss it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import DEMO_CLIP, ROOT, write_config

WITHOUT = """
import sys
sys.modules["ray"] = None  # importing it fails, as where it is not installed
from monitor.cli import main
sys.argv = ["wildlane", *sys.argv[1:]]
main()
"""


VERBS = [
    ("run", "--cluster"),
    ("run", "--cluster", "127.0.0.1:6379"),
    ("bench", DEMO_CLIP, "--cluster"),
    ("evaluate", "--images", "pictures", "--cluster"),
]


def without_ray(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)


@pytest.mark.parametrize("verb", VERBS)
def test_what_to_install_is_said_in_one_line(verb: tuple[str, ...], tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, 1)

    ended = without_ray(*verb, "--config", config, "--state", tmp_path / "state")

    assert ended.returncode == 2
    assert "pip install 'wildlane[cluster]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_training_says_so_too_and_writes_nothing(tmp_path: Path) -> None:
    ended = without_ray("model", "train", "--data", tmp_path, "--out", tmp_path / "run", "--cluster")

    assert (ended.returncode, "pip install 'wildlane[cluster]'" in ended.stderr) == (2, True)
    assert not (tmp_path / "run").exists()


def test_all_else_works(tmp_path: Path) -> None:
    assert without_ray("classes", "list", "--state", tmp_path).returncode == 0
    assert without_ray("check-config", "--config", ROOT / "config.toml").returncode in (0, 2)
