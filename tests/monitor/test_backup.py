from __future__ import annotations

import json
import os
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapters.class_set import ClassSetStore
from adapters.classes import ClassAttributes
from adapters.classifier import Classifier
from adapters.crops import LabelledCrop
from adapters.errors import InputError, StoreError
from adapters.golden import GoldenSet
from adapters.teaching import teach
from monitor.alerts.storage import own
from monitor.backup import MANIFEST, backup, restore
from tests.conftest import wildlane

MOOSE = ClassAttributes(name="moose", size="large", origin="wild")


@pytest.fixture
def taught(tmp_path: Path, classifier: Classifier, demo_animals: dict[str, NDArray[np.uint8]]) -> Iterator[Path]:
    """The state folder of a site that knows moose and has a checked frame; its stores are open, as in a program."""
    state = tmp_path / "site"
    state.mkdir()
    store, golden = ClassSetStore(state), GoldenSet(state)
    teach(store, classifier, MOOSE, ["a"], [LabelledCrop(demo_animals["caribou"])])
    golden.add("moose", [("b", LabelledCrop(demo_animals["caribou"]))], classifier)
    yield state
    store.close()
    golden.close()


def classes(state: Path) -> dict[str, ClassAttributes]:
    store = ClassSetStore(state)
    found = store.attributes()
    store.close()
    return found


def test_a_site_comes_back_on_another_machine(taught: Path, tmp_path: Path, classifier: Classifier) -> None:
    config = tmp_path / "c.toml"
    config.write_text('site = "x"\n')
    told = backup(taught, config, tmp_path / "site.backup")
    assert (told.databases, told.crops) == (("classes.sqlite3", "golden.sqlite3"), 2)
    assert (tmp_path / "site.backup").stat().st_mode & 0o777 == 0o600

    restore(tmp_path / "site.backup", tmp_path / "other")

    store, golden = ClassSetStore(tmp_path / "other"), GoldenSet(tmp_path / "other")
    assert store.attributes() == {"moose": MOOSE}
    assert store.kept(classifier)[MOOSE][0].png is not None
    assert len(golden) == 1
    assert (tmp_path / "other/restored-config.toml").read_text() == 'site = "x"\n'
    assert not (tmp_path / "other/journal.sqlite3").exists()
    store.close()
    golden.close()


def test_what_a_folder_holds_is_not_overwritten_unasked(taught: Path, tmp_path: Path) -> None:
    backup(taught, None, tmp_path / "b")
    with pytest.raises(StoreError, match=r"holds classes\.sqlite3, golden\.sqlite3; --force"):
        restore(tmp_path / "b", taught)

    restore(tmp_path / "b", taught, force=True)
    assert classes(taught) == {"moose": MOOSE}


def test_a_folder_in_use_is_left_alone(taught: Path, tmp_path: Path) -> None:
    backup(taught, None, tmp_path / "b")
    (tmp_path / "other").mkdir()
    lock = own(tmp_path / "other")

    with pytest.raises(StoreError, match="in use by another running wildlane"):
        restore(tmp_path / "b", tmp_path / "other")
    os.close(lock)


@pytest.mark.parametrize("name", ["../escape.png", "/etc/passwd", "crops/../../x.png", "journal.sqlite3"])
def test_a_part_that_a_backup_never_has_is_refused(taught: Path, tmp_path: Path, name: str) -> None:
    backup(taught, None, tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "b", "a") as file:
        file.writestr(name, b"x")

    with pytest.raises(InputError, match="was altered"):
        restore(tmp_path / "b", tmp_path / "other")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["journal.lock"]


def test_a_damaged_database_is_not_kept_as_if_it_were_whole(taught: Path, tmp_path: Path) -> None:
    (taught / "knowledge.sqlite3").write_bytes(b"SQLite format 3\x00" + b"rubbish" * 999)
    with pytest.raises(StoreError, match=r"knowledge\.sqlite3: can't be read"):
        backup(taught, None, tmp_path / "b")


@given(at=st.floats(0, 0.999), value=st.integers(1, 255))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_byte_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, at: float, value: int) -> None:
    folder = tmp_path_factory.mktemp("flip")
    (folder / "s").mkdir()
    with closing(sqlite3.connect(folder / "s/classes.sqlite3")) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("INSERT INTO t VALUES ('a')")
        db.commit()
    backup(folder / "s", None, folder / "b")
    content = bytearray((folder / "b").read_bytes())
    content[int(at * len(content))] ^= value
    (folder / "b").write_bytes(content)
    try:
        restore(folder / "b", folder / "o")
    except InputError:
        assert not (folder / "o/classes.sqlite3").exists()
    else:
        with closing(sqlite3.connect(folder / "o/classes.sqlite3")) as db:
            assert db.execute("SELECT x FROM t").fetchall() == [("a",)]


def test_a_newer_format_is_named(taught: Path, tmp_path: Path) -> None:
    backup(taught, None, tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "b") as old, zipfile.ZipFile(tmp_path / "c", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, json.dumps(json.loads(content) | {"format": 2}) if name == MANIFEST else content)

    with pytest.raises(InputError, match="format 2, this program reads 1"):
        restore(tmp_path / "c", tmp_path / "other")


def test_the_verbs_tell_what_they_did(taught: Path, tmp_path: Path) -> None:
    made = wildlane("backup", tmp_path / "b", "--json", state=taught)
    assert json.loads(made.stdout)["crops"] == 2
    back = wildlane("restore", tmp_path / "b", state=tmp_path / "other")
    assert "classes.sqlite3, golden.sqlite3 and 2 crops" in back.stdout
    again = wildlane("restore", tmp_path / "b", state=tmp_path / "other")
    assert (again.returncode, "--force" in again.stderr) == (4, True)
    assert wildlane("restore", tmp_path / "none", state=tmp_path / "third").returncode == 5
