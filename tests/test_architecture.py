"""The arrows between the rooms, and the one room of each library."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for room in ("monitor", "adapters") for path in (ROOT / room).rglob("*.py"))
CONSOLE = ("access", "app", "cameras", "classes", "labels", "operate", "pages", "server", "sites", "situations")
CLUSTER = ("calls", "coordinator", "learning", "measure", "nodes", "pair", "run")
ROOM_OF = {
    "onnxruntime": {"adapters/runtime.py"},
    "paho": {"monitor/alerts/session.py", "monitor/alerts/mqtt.py", "monitor/alerts/subscriber.py"},
    "iotcore": {"monitor/alerts/broker.py"},
    "sqlite3": {
        "monitor/alerts/history.py",
        "monitor/alerts/journal.py",
        "monitor/alerts/storage.py",
        "monitor/alerts/tables.py",
        "adapters/database.py",
        "adapters/class_rows.py",
        "adapters/class_set.py",
        "adapters/class_tables.py",
        "adapters/golden.py",
        "adapters/site_knowledge.py",
        "monitor/backup.py",
        "monitor/doctor.py",
        "monitor/console/accounts.py",
    },
    "tuf": {"monitor/fleet/releases.py", "monitor/fleet/updates.py"},
    "ray": {f"monitor/cluster/{name}.py" for name in CLUSTER},
    "upath": {"adapters/class_folders.py"},
    "tomllib": {"monitor/config.py", "monitor/toml_text.py"},
    "starlette": {f"monitor/console/{name}.py" for name in CONSOLE},
}
TRAINING_SIDE = {"monitor/cli_learning.py", "monitor/training_crops.py"}  # of the monitor
LONGEST_FUNCTION, LONGEST_MODULE = 60, 460


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_the_arrows_between_the_rooms_hold(path: Path) -> None:
    used = imports(path)
    if name(path).startswith("adapters/"):
        assert not {module for module in used if module.split(".")[0] == "monitor"}
    if not name(path).startswith("adapters/training/"):
        assert "torch" not in {module.split(".")[0] for module in used}
    if not name(path).startswith("adapters/training/") and name(path) not in TRAINING_SIDE:
        assert not {module for module in used if module.startswith("adapters.training")}


@pytest.mark.parametrize("path", [path for path in SOURCES if "training" not in path.parts], ids=name)
def test_each_library_has_one_room(path: Path) -> None:
    for library, rooms in ROOM_OF.items():
        if library in {module.split(".")[0] for module in imports(path)}:
            assert name(path) in rooms
    if "VideoCapture" in path.read_text():
        assert name(path).startswith("monitor/cameras/")


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_and_modules_keep_their_size(path: Path) -> None:
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < LONGEST_FUNCTION, node.name
    assert len(text.splitlines()) <= LONGEST_MODULE
    assert path.stem not in {"utils", "helpers", "common", "misc"}
