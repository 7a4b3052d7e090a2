"""A class set carried to another site, and every file that must not be taken."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from numpy.typing import NDArray

from adapters.class_file import CLASSES, MANIFEST, read_classes, write_classes
from adapters.class_set import ClassSetStore
from adapters.classes import ClassAttributes
from adapters.classifier import Classifier
from adapters.crops import LabelledCrop
from adapters.errors import InputError
from adapters.golden import GoldenSet
from adapters.provenance import Provenance
from adapters.teaching import describe, refute, take_in, teach

MOOSE = ClassAttributes(
    name="moose", size="large", origin="wild", scientific_name="Alces alces", display_name="Elch", herd=True
)
Crops = dict[str, NDArray[np.uint8]]


@pytest.fixture
def carried(store: ClassSetStore, classifier: Classifier, demo_animals: Crops, tmp_path: Path) -> Path:
    """A file of a site that was taught moose."""
    crop = demo_animals["caribou"]
    mirrored = np.ascontiguousarray(crop[10:-5, ::-1])
    teach(store, classifier, MOOSE, ["a", "b"], [LabelledCrop(crop), LabelledCrop(mirrored)])
    path = tmp_path / "site.classes"
    write_classes(path, store.kept(classifier), {}, classifier.encoder_hash)
    return path


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[ClassSetStore]:
    """A site where nothing was taught."""
    opened = ClassSetStore(tmp_path / "elsewhere")
    yield opened
    opened.close()


def altered(path: Path, change: Callable[[dict[str, bytes]], None], *, named: bool = True) -> Path:
    """The file with other parts; `named` makes a manifest that fits them."""
    import hashlib

    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    change(parts)
    if named:
        sums = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items() if name != MANIFEST}
        parts[MANIFEST] = json.dumps(sums).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, part in parts.items():
            file.writestr(name, part)
    return path


def test_classes_arrive_at_another_site_as_they_were_taught(
    carried: Path, store: ClassSetStore, elsewhere: ClassSetStore, classifier: Classifier, demo_animals: Crops
) -> None:
    brought = read_classes(carried, classifier)
    taken = take_in(elsewhere, classifier, brought, "imported")

    assert (brought.left_out, taken.left_out) == ({}, {})
    assert elsewhere.attributes() == store.attributes()
    assert taken.frames["moose"] == 2
    here, there = (site.load(classifier).memory for site in (store, elsewhere))
    assert all(np.allclose(here.arrays[name], there.arrays[name], atol=2e-3) for name in here.arrays)
    assert classifier.classify([demo_animals["caribou"]], there)[0].label == "moose"
    assert elsewhere.versions()[-1].reason == "imported"


def test_the_version_that_a_file_makes_in_an_empty_store_has_the_hash_of_the_one_it_came_from(
    carried: Path, store: ClassSetStore, elsewhere: ClassSetStore, classifier: Classifier
) -> None:
    take_in(elsewhere, classifier, read_classes(carried, classifier), "imported")

    assert elsewhere.versions()[-1].sha256 == store.versions()[-1].sha256


def test_what_is_known_of_a_frame_s_origin_is_shown_and_goes_with_it(
    store: ClassSetStore, elsewhere: ClassSetStore, classifier: Classifier, demo_animals: Crops, tmp_path: Path
) -> None:
    whence = Provenance(
        camera="road",
        frame=812,
        file="a.mp4",
        box=(4.0, 5.5, 60.0, 50.0),
        captured="2026-11-24T08:00:00Z",
        operator="anna",
    )
    teach(store, classifier, MOOSE, ["road 812"], [LabelledCrop(demo_animals["caribou"], provenance=whence)])
    path = tmp_path / "moose.classes"
    write_classes(path, store.kept(classifier, ["moose"]), {}, classifier.encoder_hash)
    take_in(elsewhere, classifier, read_classes(path, classifier), "imported")

    for site in (store, elsewhere):
        ((shown,),) = [one["shots"] for one in describe(site, classifier, ["moose"])]
        assert {name: shown[name] for name in vars(whence)} == vars(whence)
        assert json.loads(json.dumps(shown))["box"] == [4.0, 5.5, 60.0, 50.0]


def test_a_file_of_a_program_that_knew_of_no_origins_is_read(carried: Path, classifier: Classifier) -> None:
    with zipfile.ZipFile(carried) as file:
        assert b"provenance" not in file.read(CLASSES)  # nothing is known, nothing is written: it is such a file

    assert all(
        shot.provenance == Provenance()
        for shots in read_classes(carried, classifier).classes.values()
        for shot in shots
    )


@pytest.mark.parametrize(
    "origin",
    [
        {"box": [1, 2, 3]},
        {"box": [1, 2, 3, float("inf")]},
        {"frame": -1},
        {"frame": 2**64},
        {"captured": "yesterday"},
        {"operator": "x" * 1001},
        {"shoe_size": 43},
    ],
)
def test_an_origin_that_can_not_be_one_is_refused(
    carried: Path, classifier: Classifier, origin: dict[str, object]
) -> None:
    def claimed(parts: dict[str, bytes]) -> None:
        content = json.loads(parts[CLASSES])
        content["classes"][0]["shots"][0]["provenance"] = origin
        parts[CLASSES] = json.dumps(content).encode()

    with pytest.raises(InputError, match=r"classes\.json"):
        read_classes(altered(carried, claimed), classifier)


def test_what_is_known_already_is_not_taught_twice(
    carried: Path, elsewhere: ClassSetStore, classifier: Classifier
) -> None:
    brought = read_classes(carried, classifier)
    first = take_in(elsewhere, classifier, brought, "imported").version
    again = take_in(elsewhere, classifier, brought, "imported")

    assert again.version is None
    assert set(again.left_out.values()) == {"all its frames are known already"}
    assert elsewhere.versions()[-1].version == first


def test_a_class_that_is_known_as_something_else_stays_out_and_the_others_come(
    carried: Path, elsewhere: ClassSetStore, classifier: Classifier, demo_animals: Crops
) -> None:
    small = ClassAttributes(name="moose", size="small", origin="wild")
    teach(elsewhere, classifier, small, ["c"], [LabelledCrop(demo_animals["bear"])])
    taken = take_in(elsewhere, classifier, read_classes(carried, classifier), "imported")

    assert "'moose' is taught as small and wild, this says large and wild" in taken.left_out["moose"]
    assert "cattle" in taken.frames
    assert elsewhere.attributes()["moose"].size == "small"


def test_a_class_whose_name_is_another_one_s_here_stays_out_and_the_others_come(
    carried: Path, elsewhere: ClassSetStore, classifier: Classifier, demo_animals: Crops
) -> None:
    here = ClassAttributes(name="alces", size="large", origin="wild", display_name="Moose")
    teach(elsewhere, classifier, here, ["c"], [LabelledCrop(demo_animals["bear"])])
    taken = take_in(elsewhere, classifier, read_classes(carried, classifier), "imported")

    assert taken.left_out == {"moose": "'moose' is what another class is called, in other letters: 'Moose'"}
    assert "cattle" in taken.frames
    assert set(elsewhere.class_names()) == {"alces", *taken.frames}


def test_what_is_no_moose_goes_with_it_and_what_is_no_animal_stays_at_its_site(
    store: ClassSetStore, elsewhere: ClassSetStore, classifier: Classifier, demo_animals: Crops, tmp_path: Path
) -> None:
    teach(store, classifier, MOOSE, ["a"], [LabelledCrop(demo_animals["caribou"])])
    refute(store, classifier, "moose", ["b"], [LabelledCrop(demo_animals["cattle"][8:-8, 8:-8])])
    refute(store, classifier, "none", ["c"], [LabelledCrop(demo_animals["bear"])])
    path, kept = tmp_path / "moose.classes", store.kept(classifier, ["moose"])
    write_classes(path, kept, store.kept_negatives(classifier, ["moose"]), classifier.encoder_hash)

    for _ in range(2):
        taken = take_in(elsewhere, classifier, read_classes(path, classifier), "imported")
    assert taken.left_out == {"moose": "all its frames are known already"}
    assert {name: len(rows) for name, rows in elsewhere.refuted().items()} == {"moose": 1}
    (here,), (there,) = (site.negatives(classifier)["moose"] for site in (store, elsewhere))
    assert np.allclose(here.glob, there.glob, atol=2e-3)


def test_a_file_that_loses_checked_frames_is_held_back(
    carried: Path, elsewhere: ClassSetStore, classifier: Classifier, demo_animals: Crops, tmp_path: Path
) -> None:
    reindeer = ClassAttributes(name="reindeer", size="large", origin="wild")
    teach(elsewhere, classifier, reindeer, ["a"], [LabelledCrop(demo_animals["caribou"][4:-4, 4:-4])])
    golden = GoldenSet(tmp_path / "elsewhere")
    golden.add("reindeer", [("road 1", LabelledCrop(demo_animals["caribou"][10:-5, ::-1].copy()))], classifier)
    taken = take_in(elsewhere, classifier, read_classes(carried, classifier), "imported", checked_on=golden)
    golden.close()

    assert taken.held_back is not None
    assert "of 1 checked frames 0 are named right, 1 before (road 1 as moose)" in taken.held_back
    assert set(elsewhere.attributes()) == {"reindeer"}
    elsewhere.rollback(taken.version)
    assert "moose" in elsewhere.attributes()


def test_another_encoder_takes_the_crops_and_leaves_out_what_has_none(carried: Path, classifier: Classifier) -> None:
    def of_another(parts: dict[str, bytes]) -> None:
        parts[CLASSES] = parts[CLASSES].replace(classifier.encoder_hash.encode(), b"sha256:other")

    brought = read_classes(altered(carried, of_another), classifier)

    assert [attributes.name for attributes in brought.classes] == ["moose"]
    assert brought.left_out["cattle"] == "was made by another encoder, and its pictures are not in the file"


def test_a_signed_file_is_taken_with_its_owners_key_alone(
    carried: Path, store: ClassSetStore, classifier: Classifier, tmp_path: Path
) -> None:
    owner, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(owner.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for name, key in (("key.pub", owner), ("stranger.pub", stranger)):
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (tmp_path / name).write_bytes(public)
    signed = tmp_path / "signed.classes"
    write_classes(signed, store.kept(classifier), {}, classifier.encoder_hash, key=tmp_path / "key.pem")

    assert read_classes(signed, classifier, key=tmp_path / "key.pub").classes
    for path, key in ((signed, "stranger.pub"), (carried, "key.pub")):
        with pytest.raises(InputError, match="is not signed by the owner of"):
            read_classes(path, classifier, key=tmp_path / key)


def bomb(parts: dict[str, bytes]) -> None:
    content = json.loads(parts[CLASSES])
    name = next(shot["crop"] for one in content["classes"] for shot in one["shots"] if shot["crop"])
    parts[f"crops/{name}.png"] = parts[f"crops/{name}.png"][:-20]


def changed(**fields: object) -> Callable[[dict[str, bytes]], None]:
    def change(parts: dict[str, bytes]) -> None:
        parts[CLASSES] = json.dumps(json.loads(parts[CLASSES]) | fields).encode()

    return change


def pickled(parts: dict[str, bytes]) -> None:
    arrays = io.BytesIO()
    np.savez(arrays, tok=np.array([{"not": "an array"}], dtype=object), glob=np.zeros(1))
    parts["features.npz"] = arrays.getvalue()


@pytest.mark.parametrize(
    ("change", "named", "told"),
    [
        (lambda parts: parts.update(extra=b"x"), False, "was altered: its parts are not those that its manifest names"),
        (changed(format=2), True, "classes.json: format"),
        (changed(classes=[]), True, "classes.json: classes: List should have at least 1 item"),
        (changed(more=1), True, "classes.json: more: Extra inputs are not permitted"),
        (lambda parts: parts.pop(CLASSES), True, "not a class-set file"),
        (lambda parts: parts.pop("features.npz"), True, "not a class-set file"),
        (bomb, True, "can't be decoded"),
        (pickled, True, "not a class-set file .Object arrays cannot be loaded"),
    ],
)
def test_a_file_that_is_altered_or_of_another_kind_is_refused(
    carried: Path, classifier: Classifier, change: Callable[[dict[str, bytes]], None], *, named: bool, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        read_classes(altered(carried, change, named=named), classifier)


@pytest.mark.parametrize("cut", [0, 10, 1000, -30])
def test_a_cut_file_is_refused(carried: Path, classifier: Classifier, cut: int) -> None:
    carried.write_bytes(carried.read_bytes()[:cut])

    with pytest.raises(InputError, match="not a class-set file"):
        read_classes(carried, classifier)


def test_a_file_that_unpacks_to_more_than_is_read_is_refused(
    carried: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.class_file.MOST_BYTES", 1000)

    with pytest.raises(InputError, match="not read"):
        read_classes(carried, classifier)


def test_a_class_is_described_by_what_is_kept_of_it(
    carried: Path, store: ClassSetStore, classifier: Classifier
) -> None:
    (moose,) = describe(store, classifier, ["moose"])

    assert (moose["class"], moose["size"], moose["origin"]) == ("moose", "large", "wild")
    assert [shot["source"] for shot in moose["shots"]] == ["a", "b"]
    assert all(shot["crop"] for shot in moose["shots"])
    assert moose["leave_one_out"] is not None
    assert len(moose["nearest"]) == 3
