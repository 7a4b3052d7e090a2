from __future__ import annotations

import re
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapters.class_set import CROPS, ClassSetStore
from adapters.class_tables import FILE
from adapters.classes import ClassAttributes, Shot, check_class_name
from adapters.classifier import Classifier
from adapters.crops import crop_hash
from adapters.encoder import Features
from adapters.errors import ConfigError, StoreError
from adapters.provenance import Provenance
from adapters.reencoding import REASON
from adapters.runtime import MODELS

Animals = dict[str, NDArray[np.uint8]]
MOOSE = ClassAttributes(name="moose", size="large", origin="wild", scientific_name="Alces alces")


def shots_of(classifier: Classifier, crop: NDArray[np.uint8]) -> list[Shot]:
    return [Shot(features=classifier.encode.shots([crop])[0], crop=crop, source="test")]


def test_a_class_called_otherwise_keeps_its_name_and_is_rolled_back_like_any_version(
    store: ClassSetStore, classifier: Classifier
) -> None:
    before = store.load(classifier)
    assert store.call("bear", "Bär") == "cs-3"

    after = store.load(classifier)
    assert after.attributes["bear"] == replace(before.attributes["bear"], display_name="Bär")
    assert after.memory.names == before.memory.names
    store.rollback()
    assert store.attributes()["bear"].display_name is None
    with pytest.raises(ConfigError, match="class 'unicorn' is not taught"):
        store.call("unicorn", "Einhorn")


def test_an_empty_state_is_seeded_with_the_starter_class_set(store: ClassSetStore) -> None:
    assert {"cattle", "sheep", "dog", "cat", "bear", "wolf", "elephant", "bison", "bighorn"} <= set(store.class_names())


def test_seeding_again_changes_nothing(store: ClassSetStore, classifier: Classifier) -> None:
    before = store.versions()
    store.seed(MODELS, classifier.encoder_hash)

    assert store.versions() == before


def test_a_taught_class_survives_reopening(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, tmp_path: Path
) -> None:
    version = store.teach(MOOSE, shots_of(classifier, demo_animals["caribou"]), classifier.encoder_hash)
    store.close()

    again = ClassSetStore(tmp_path / "state")
    loaded = again.load(classifier)
    again.close()

    assert loaded.version == version
    assert loaded.attributes["moose"] == MOOSE
    assert classifier.classify([demo_animals["caribou"]], loaded.memory)[0].label == "moose"


def test_teaching_makes_a_new_version_and_leaves_the_old_value_untouched(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    before = store.load(classifier)
    store.teach(MOOSE, shots_of(classifier, demo_animals["caribou"]), classifier.encoder_hash)

    assert "moose" not in before.attributes
    assert before.memory.arrays["proto"].shape[0] == len(before.attributes)
    assert store.load(classifier).version != before.version


def test_rollback_brings_the_version_before_back(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    before = store.load(classifier).version
    store.teach(MOOSE, shots_of(classifier, demo_animals["caribou"]), classifier.encoder_hash)

    assert store.rollback() == before
    assert "moose" not in store.class_names()


def test_a_forgotten_class_is_never_returned(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    store.forget("bear")
    loaded = store.load(classifier)

    assert "bear" not in classifier.classify([demo_animals["bear"]], loaded.memory)[0].weights


def taught(store: ClassSetStore, classifier: Classifier, crop: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Teach moose in two lessons of a crop each, and return the crops."""
    crops = [crop, np.ascontiguousarray(crop[:, ::-1])]
    for one in crops:
        store.teach(MOOSE, shots_of(classifier, one), classifier.encoder_hash)
    return crops


def files(folder: Path) -> set[str]:
    return {path.stem for path in (folder / CROPS).glob("*")}


def test_a_forgotten_class_is_gone_from_every_version_with_its_pictures_and_the_versions_tell_it(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, tmp_path: Path
) -> None:
    shared, own = taught(store, classifier, demo_animals["caribou"])
    store.refute("bear", shots_of(classifier, shared), classifier.encoder_hash)
    before = {record.version: record for record in store.versions()}
    assert files(tmp_path / "state") == {crop_hash(shared), crop_hash(own)}

    forgot = store.forget("moose")

    after = {record.version: record for record in store.versions()}
    assert after[forgot].active
    assert all("moose" not in record.classes for record in after.values())
    assert after["cs-3"].reason == "taught moose; moose was forgotten later"
    assert after["cs-2"] == replace(before["cs-2"], active=False)
    assert after["cs-3"].sha256 != before["cs-3"].sha256
    assert files(tmp_path / "state") == {crop_hash(shared)}  # what the bear is not uses it still
    assert store.rollback("cs-4") == "cs-4"
    assert set(store.class_names()) == set(before["cs-2"].classes)
    (rows,) = store._db.execute("SELECT count(*) FROM shot WHERE crop_sha256 = ?", (crop_hash(own),)).fetchone()
    assert rows == 0


def test_a_class_that_only_an_older_version_has_can_be_forgotten(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, tmp_path: Path
) -> None:
    taught(store, classifier, demo_animals["caribou"])
    store.rollback("cs-2")
    store.forget("moose")

    assert files(tmp_path / "state") == set()


def test_pictures_that_a_killed_program_did_not_come_to_erase_are_erased_when_the_store_is_opened(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, tmp_path: Path
) -> None:
    taught(store, classifier, demo_animals["caribou"])
    crops = tmp_path / "state" / CROPS
    shutil.copytree(crops, tmp_path / "as before")
    store.forget("moose")
    shutil.copytree(tmp_path / "as before", crops, dirs_exist_ok=True)  # as where it is killed right after the commit
    (crops / f"{'0' * 64}.1.part").write_bytes(b"half a crop")
    assert len(files(tmp_path / "state")) == 3

    ClassSetStore(tmp_path / "state").close()

    assert files(tmp_path / "state") == set()


def test_crops_of_a_store_that_was_moved_away_are_set_aside_not_erased(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, tmp_path: Path
) -> None:
    crops = taught(store, classifier, demo_animals["caribou"])
    store.close()
    (tmp_path / "state" / FILE).rename(tmp_path / FILE)
    for _ in range(2):
        ClassSetStore(tmp_path / "state").close()

    (aside,) = (tmp_path / "state").glob(f"{CROPS}-*")
    assert {path.stem for path in aside.iterdir()} == {crop_hash(crop) for crop in crops}


def test_a_wrongly_taught_frame_is_taken_out_as_a_new_version(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    wrong, right = taught(store, classifier, demo_animals["caribou"])
    version = store.remove("moose", crop_hash(wrong)[:8])

    (kept,) = [shots for one, shots in store.kept(classifier).items() if one == MOOSE]
    assert [shot.crop for shot in kept] == [crop_hash(right)]
    assert store.versions()[-1].reason == "took a frame out of moose"
    assert store.versions()[-1].version == version
    with pytest.raises(ConfigError, match=f"'moose' has no kept frame of crop {crop_hash(wrong)[:8]}"):
        store.remove("moose", crop_hash(wrong)[:8])
    with pytest.raises(ConfigError, match="no other frame; forget it instead: `wildlane classes forget moose`"):
        store.remove("moose", crop_hash(right))
    store.rollback()
    assert len(store.shots(classifier)["moose"]) == 2


@pytest.mark.parametrize(("name", "crop"), [("moose", ""), ("moose", "%"), ("unicorn", "0")])
def test_a_frame_that_is_not_one_of_the_class_can_not_be_taken_out(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, name: str, crop: str
) -> None:
    taught(store, classifier, demo_animals["caribou"])
    before = store.versions()
    with pytest.raises(ConfigError, match=r"no kept frame|no class 'unicorn'"):
        store.remove(name, crop)

    assert store.versions() == before


def test_every_change_has_a_hash_and_the_same_content_the_same_one(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    wrong, _ = taught(store, classifier, demo_animals["caribou"])
    store.call("moose", "Elch")
    store.call("moose", None)
    store.refute("moose", shots_of(classifier, demo_animals["bear"]), classifier.encoder_hash)
    store.take_back(crop_hash(demo_animals["bear"]))
    store.remove("moose", crop_hash(wrong))
    hashes = [record.sha256 for record in store.versions()]

    _, starter, first, both, called, called_back, refuted, taken_back, one = hashes
    assert both == called_back == taken_back
    assert len({starter, first, both, called, refuted, one}) == 6
    store._db.execute("UPDATE version SET sha256 = NULL")
    store._db.execute("UPDATE shot SET sha256 = NULL")
    with store._change():  # what is worked out anew from the rows is what was written
        pass
    assert [record.sha256 for record in store.versions()] == hashes


def test_a_version_that_does_not_exist_can_not_be_loaded(store: ClassSetStore, classifier: Classifier) -> None:
    with pytest.raises(ConfigError, match="no version cs-999"):
        store.load(classifier, version="cs-999")


FORMAT_2 = """
CREATE TABLE version (id INTEGER PRIMARY KEY, created TEXT NOT NULL, parent INTEGER, reason TEXT NOT NULL);
CREATE TABLE active (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL REFERENCES version);
CREATE TABLE class (version INTEGER NOT NULL REFERENCES version, name TEXT NOT NULL, attributes TEXT NOT NULL,
  PRIMARY KEY (version, name));
CREATE TABLE shot (id INTEGER PRIMARY KEY, encoder TEXT NOT NULL, tokens INTEGER NOT NULL, tok BLOB NOT NULL,
  glob BLOB NOT NULL, crop_sha256 TEXT, origin TEXT NOT NULL, created TEXT NOT NULL);
CREATE TABLE taught (version INTEGER NOT NULL, name TEXT NOT NULL, shot INTEGER NOT NULL REFERENCES shot,
  PRIMARY KEY (version, name, shot), FOREIGN KEY (version, name) REFERENCES class (version, name));
CREATE TABLE negative (version INTEGER NOT NULL REFERENCES version, name TEXT NOT NULL,
  shot INTEGER NOT NULL REFERENCES shot, PRIMARY KEY (version, name, shot));
PRAGMA user_version = 2;
"""


def test_a_store_of_the_format_before_is_taken_up_with_all_it_holds(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, tmp_path: Path
) -> None:
    taught(store, classifier, demo_animals["caribou"])
    expected, crops = store.versions(), files(tmp_path / "state")
    old = tmp_path / "old"
    (old / CROPS).mkdir(parents=True)
    with sqlite3.connect(old / FILE) as db:
        db.executescript(FORMAT_2)
        for table, columns in {
            "version": "id, created, parent, reason",
            "active": "one, version",
            "class": "version, name, attributes",
            "shot": "id, encoder, tokens, tok, glob, crop_sha256, origin, created",
            "taught": "version, name, shot",
        }.items():
            rows = store._db.execute(f"SELECT {columns} FROM {table}").fetchall()
            marks = ", ".join("?" * len(rows[0]))
            db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
    db.close()
    for name in crops:
        (old / CROPS / f"{name}.png").write_bytes(store.crop(name))

    opened = ClassSetStore(old)

    assert opened.versions() == expected
    assert {shot.provenance for shots in opened.kept(classifier).values() for shot in shots} == {Provenance()}
    assert files(old) == crops
    opened.teach(MOOSE, shots_of(classifier, demo_animals["bear"]), classifier.encoder_hash)
    opened.close()


def test_forgetting_what_was_never_taught_names_what_there_is(store: ClassSetStore) -> None:
    with pytest.raises(ConfigError, match=r"no class 'unicorn' is taught; there are: cattle, sheep"):
        store.forget("unicorn")


def test_only_the_classes_asked_for_are_loaded(store: ClassSetStore, classifier: Classifier) -> None:
    assert tuple(store.load(classifier, ["dog", "bear"]).attributes) == ("dog", "bear")
    with pytest.raises(ConfigError, match="class 'unicorn' is not taught"):
        store.load(classifier, ["unicorn"])


def test_a_class_taught_with_another_encoder_is_rebuilt_from_its_crops(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    wrong = Features(np.zeros((1, 49, 320), np.float32), np.zeros((1, 1280), np.float32))
    store.teach(MOOSE, [Shot(features=wrong, crop=demo_animals["caribou"], source="test")], "sha256:another")

    assert classifier.classify([demo_animals["caribou"]], store.load(classifier, ["moose"]).memory)[0].label == "moose"


def test_a_new_encoder_rebuilds_taught_and_starter_classes_once(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, tmp_path: Path
) -> None:
    store.teach(MOOSE, shots_of(classifier, demo_animals["caribou"]), classifier.encoder_hash)
    before = store.load(classifier)
    with sqlite3.connect(tmp_path / "state" / FILE) as db:
        db.execute("UPDATE shot SET encoder = 'sha256:old', tok = zeroblob(length(tok)), glob = zeroblob(length(glob))")

    rebuilt = store.rebuild(classifier)

    after = store.load(classifier)
    assert rebuilt.shots > len(before.attributes)
    assert rebuilt.lost == ()
    assert store.rebuild(classifier) == (0, ())
    assert after.version == before.version
    for name, array in before.memory.arrays.items():
        assert np.allclose(after.memory.arrays[name], array, atol=1e-3)


def test_what_a_new_encoder_can_not_encode_is_left_out_and_stays_in_the_version_before(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    store.teach(MOOSE, shots_of(classifier, demo_animals["caribou"]), classifier.encoder_hash)
    wrong = Features(np.zeros((1, 49, 320), np.float32), np.zeros((1, 1280), np.float32))
    hare = ClassAttributes(name="hare", size="small", origin="wild")
    before = store.teach(hare, [Shot(features=wrong, crop=None, source="test")], "sha256:another")

    rebuilt = store.rebuild(classifier)

    assert rebuilt == (0, ("hare",))
    left, record = store.load(classifier), store.versions()[-1]
    assert "moose" in left.attributes
    assert "hare" not in left.attributes
    assert (record.active, record.reason) == (True, REASON)
    assert store.rebuild(classifier) == (0, ())  # and no version more
    assert store.versions()[-1] == record
    store.rollback(before)
    assert "hare" in store.attributes()


def test_a_model_without_a_starter_set_leaves_the_starters_classes_out(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.teach(MOOSE, shots_of(classifier, demo_animals["caribou"]), classifier.encoder_hash)
    names = set(store.attributes())
    with sqlite3.connect(tmp_path / "state" / FILE) as db:
        db.execute("UPDATE shot SET encoder = 'sha256:old'")
    monkeypatch.setattr("adapters.reencoding.STARTER", "nowhere.npz")

    rebuilt = store.rebuild(classifier)

    assert set(rebuilt.lost) == names - {"moose"}
    assert set(store.load(classifier).attributes) == {"moose"}


def test_without_its_crop_such_a_class_is_refused_by_name(store: ClassSetStore, classifier: Classifier) -> None:
    wrong = Features(np.zeros((1, 49, 320), np.float32), np.zeros((1, 1280), np.float32))
    store.teach(MOOSE, [Shot(features=wrong, crop=None, source="test")], "sha256:another")

    with pytest.raises(StoreError, match="class 'moose' was taught with another encoder"):
        store.load(classifier)


def test_crops_are_kept_once_and_leave_no_draft(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, tmp_path: Path
) -> None:
    for _ in range(2):
        store.teach(MOOSE, shots_of(classifier, demo_animals["caribou"]), classifier.encoder_hash)

    assert [path.suffix for path in (tmp_path / "state" / CROPS).iterdir()] == [".png"]


def test_a_store_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    import sqlite3

    ClassSetStore(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()

    with pytest.raises(StoreError, match="newer than this program"):
        ClassSetStore(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"something else, and long enough to be read as a page" * 40)

    with pytest.raises(StoreError, match="can't be opened as a class store"):
        ClassSetStore(tmp_path)


@pytest.mark.parametrize("name", ["none", "unknown-animal", "", " moose", "a/b", "x" * 65, "moose\n"])
def test_names_that_can_not_be_a_class_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        check_class_name(name)


def named(name: str, display_name: str | None = None, scientific_name: str | None = None) -> ClassAttributes:
    return ClassAttributes(
        name=name, size="large", origin="wild", display_name=display_name, scientific_name=scientific_name
    )


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (named("Moose"), "'Moose' is what another class is called, in other letters: 'moose'"),
        (named("m\uff4f\uff4fse"), "in other letters: 'moose'"),
        (named("elch"), "'elch' is what another class is called, in other letters: 'Elch'"),
        (named("deer", "ELCH"), "'ELCH' is what another class is called, in other letters: 'Elch'"),
        (named("deer", "Moose"), "'Moose' is what another class is called, in other letters: 'moose'"),
        (named("deer", "None"), "'None' is an answer of its own"),
        (named("deer", "unknown-animal"), "'unknown-animal' is an answer of its own"),
        (named("Cannot-Tell"), "'Cannot-Tell' is an answer of its own"),
        (named("deer", "Reh\u202eher"), "display name 'Reh.*expected 1 to 80 characters that can be printed"),
        (named("deer", "Reh\nHirsch"), "display name"),
        (named("deer", None, "Cervus\u2066elaphus"), "scientific name"),
        (named("deer", None, " Cervus"), "scientific name"),
        (named("deer", None, "Cervus " * 20), "scientific name"),
    ],
)
def test_names_that_would_be_taken_for_another_class_s_or_can_not_be_shown_are_refused_by_the_store_itself(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, one: ClassAttributes, told: str
) -> None:
    shots = shots_of(classifier, demo_animals["caribou"])
    store.teach(named("moose", "Elch"), shots, classifier.encoder_hash)
    with pytest.raises(ConfigError, match=told):
        store.teach(one, shots, classifier.encoder_hash)
    if one.display_name is not None:
        with pytest.raises(ConfigError, match=told):
            store.call("bear", one.display_name)

    store.teach(named("deer", "Reh", "Cervus elaphus"), shots, classifier.encoder_hash)
    assert "deer" in store.class_names()


def test_of_two_operators_who_teach_one_animal_at_once_the_second_can_not_make_another_of_it(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals, tmp_path: Path
) -> None:
    other = ClassSetStore(tmp_path / "state")
    shots = shots_of(classifier, demo_animals["caribou"])
    wanted = [MOOSE, replace(MOOSE, size="small")]
    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(at.teach, one, shots, classifier.encoder_hash)
            for at, one in zip((store, other), wanted, strict=True)
        ]
    done = [one for one in asked if one.exception() is None]
    (refused,) = [one.exception() for one in asked if one not in done]
    other.close()

    assert len(done) == 1
    assert re.match("'moose' is taught as (small|large) and wild, this says (small|large) and wild", str(refused))
    assert len(store.versions()) == 3


def test_a_scientific_name_is_taken_where_there_is_none_and_another_one_is_refused(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    shots = shots_of(classifier, demo_animals["caribou"])
    for one in (named("moose"), named("moose", None, "Alces alces"), named("moose", "Elch")):
        store.teach(one, shots, classifier.encoder_hash)
    assert store.attributes()["moose"] == named("moose", "Elch", "Alces alces")

    with pytest.raises(ConfigError, match="'moose' is taught as Alces alces, this says Cervus canadensis"):
        store.teach(named("moose", None, "Cervus canadensis"), shots, classifier.encoder_hash)


def test_what_is_not_of_a_class_that_was_forgotten_meanwhile_can_not_be_said(
    store: ClassSetStore, classifier: Classifier, demo_animals: Animals
) -> None:
    store.forget("bear")
    with pytest.raises(ConfigError, match="no class 'bear' is taught"):
        store.refute("bear", shots_of(classifier, demo_animals["caribou"]), classifier.encoder_hash)


@given(st.text(max_size=80))
def test_any_text_is_a_class_name_or_refused(name: str) -> None:
    try:
        check_class_name(name)
    except ConfigError:
        return
    assert name.strip() == name
    assert name.isprintable()


def test_going_back_to_nothing_taught_stays_so(store: ClassSetStore, classifier: Classifier) -> None:
    store.rollback("cs-1")
    store.seed(MODELS, classifier.encoder_hash)

    assert store.class_names() == ()


@pytest.mark.parametrize("version", ["cs-0", "cs-x", "cs-99999999999999999999", "cs-77"])
def test_a_version_that_is_none_is_refused(store: ClassSetStore, version: str) -> None:
    with pytest.raises(ConfigError):
        store.rollback(version)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE class SET attributes = 'x'",
        "UPDATE class SET attributes = '{}'",
        "DELETE FROM active",
        "UPDATE shot SET tok = x'00'",
        "UPDATE shot SET glob = zeroblob(5120 - 4) || x'0000c07f'",
    ],
    ids=["no json", "no attributes", "no active version", "short tokens", "not a number"],
)
def test_a_damaged_store_is_one_clear_error(store: ClassSetStore, classifier: Classifier, damage: str) -> None:
    store._db.execute("PRAGMA foreign_keys = OFF")
    store._db.execute(damage)

    with pytest.raises(StoreError, match=r"classes\.sqlite3: damaged .* restore it from a backup"):
        store.load(classifier)
