"""Teaching from the page, as a browser asks for it."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from monitor.console.accounts import Accounts
from monitor.console.labels import HOLD_S, MOST_HELD_BYTES, MOST_OWNERS, HeldPictures
from monitor.console.picture import Picture
from monitor.truth import read_truth
from tests.monitor.console.conftest import PASSWORD, FakeSite, begin, csrf, log_in


@pytest.fixture
def operator(visitor: Callable[[], TestClient], accounts: Accounts) -> TestClient:
    """Logged in, with the last half minute of `road` held."""
    begin(visitor(), accounts)
    accounts.add("olga", "operator", PASSWORD, by="anna")
    client = visitor()
    assert log_in(client, "olga") == 303
    client.headers["x-csrf-token"] = csrf(client)
    assert [one["number"] for one in client.post("/api/hold/road").json()["pictures"]] == [7]
    return client


def lesson(**changes: object) -> dict[str, object]:
    asked = {
        "name": "moose",
        "size": "large",
        "origin": "wild",
        "labels": [{"camera": "road", "number": 7, "box": [40, 30, 50, 40]}],
    }
    return asked | changes


def test_a_box_on_a_held_picture_is_taught_with_its_margin_and_audited(
    operator: TestClient, fake: FakeSite, accounts: Accounts
) -> None:
    told = operator.post("/api/teach", json=lesson(scientific_name="Alces alces", display_name="Elch", herd=True))

    assert told.status_code == 200, told.text
    assert told.json()["report"] == {"leave_one_out": None, "confused_with": {}, "missing": [], "nearest": {}}
    ((attributes, names, (crop,)),) = fake.lessons
    assert (attributes.name, attributes.scientific_name, names) == ("moose", "Alces alces", ["road 7"])
    assert (attributes.display_name, attributes.herd) == ("Elch", True)
    assert np.abs(np.array(crop.pixels.shape[:2]) - 65).max() <= 1  # 50 with a margin of 15 % at either side
    assert crop.animal is not None
    assert (crop.animal[2] - crop.animal[0], crop.animal[3] - crop.animal[1]) == (50, 40)
    assert (accounts.audit(1)[0].who, accounts.audit(1)[0].about) == ("olga", "moose: 1 of 1 frames, cs-9")


def test_each_of_several_boxes_on_a_picture_is_a_frame_of_its_own_name(operator: TestClient, fake: FakeSite) -> None:
    boxes = [{"camera": "road", "number": 7, "box": [x, 30, 50, 40]} for x in (5, 40, 90)]
    assert operator.post("/api/teach", json=lesson(labels=boxes)).status_code == 200

    ((_, names, crops),) = fake.lessons
    assert names == ["road 7", "road 7, box 2", "road 7, box 3"]
    assert len(crops) == 3
    whence = [crop.provenance for crop in crops]
    assert {(one.camera, one.frame, one.operator) for one in whence} == {("road", 7, "olga")}
    assert all(one.captured for one in whence)


def test_held_pictures_are_those_of_their_owner(
    operator: TestClient, visitor: Callable[[], TestClient], accounts: Accounts
) -> None:
    assert operator.get("/api/held/road/7").content[:2] == b"\xff\xd8"
    accounts.add("omar", "operator", PASSWORD, by="anna")
    other = visitor()
    log_in(other, "omar")
    assert other.get("/api/held/road/7").status_code == 404


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lesson(labels=[]), "labels"),
        (lesson(size="huge"), "size"),
        (lesson(name="none"), "'none' is an answer of its own"),
        (lesson(name="<b>"), "expected 1 to 64 letters"),
        (lesson(extra=1), "extra"),
        (lesson(labels=[{"camera": "road", "number": 7, "box": [1, 2, 3]}]), "labels.0.box"),
        (lesson(labels=[{"camera": "road", "number": "7", "box": [1, 2, 3, 4]}]), "labels.0.number"),
    ],
)
def test_a_lesson_that_is_none_is_refused_and_teaches_nothing(
    operator: TestClient, fake: FakeSite, asked: dict[str, object], said: str
) -> None:
    told = operator.post("/api/teach", json=asked)

    assert told.status_code == 400
    assert said in told.json()["error"]
    assert fake.lessons == []


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ({"camera": "road", "number": 7, "box": [500, 500, 20, 20]}, "lies outside the picture of 160 x 90 pixels"),
        ({"camera": "road", "number": 8, "box": [5, 5, 20, 20]}, "not held any more"),
    ],
)
def test_a_frame_that_can_not_be_cut_is_left_out_with_the_reason(
    operator: TestClient, fake: FakeSite, label: dict[str, object], why: str
) -> None:
    operator.post("/api/teach", json=lesson(labels=[label]))

    ((_, _, (crop,)),) = fake.lessons
    assert why in crop


def png(width: int, height: int) -> bytes:
    coded = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(coded, "PNG")
    return coded.getvalue()


def test_pictures_of_ones_own_are_coded_anew_and_what_is_none_is_refused(operator: TestClient) -> None:
    bomb = io.BytesIO()
    Image.new("L", (30_000, 30_000)).save(bomb, "PNG")
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), "red").save(turned, "JPEG", exif=exif)
    sent = {
        "moose.png": png(60, 40),
        "turned.jpg": turned.getvalue(),
        "large.png": png(5000, 50),
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        "bomb.png": bomb.getvalue(),
        "cut.png": png(60, 40)[:-30],
    }
    told = operator.post("/api/upload", files=[("picture", (name, content)) for name, content in sent.items()]).json()

    assert [one["size"] for one in told["pictures"]] == [[60, 40], [40, 60], [4096, 41]]
    assert {one["image"] for one in told["refused"]} == {"drawing.svg", "bomb.png", "cut.png"}
    for one in told["pictures"]:
        held = operator.get(f"/api/held/uploaded/{one['number']}")
        assert held.headers["content-type"] == "image/jpeg"
        assert b"Exif" not in held.content


@pytest.mark.parametrize(("width", "height"), [(30_000, 2_900), (80_000, 1), (80_000, 300), (6_000, 5_000), (60, 9)])
def test_a_picture_is_refused_by_what_it_says_of_its_size(operator: TestClient, width: int, height: int) -> None:
    said = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", said), (b"IDAT", b""), (b"IEND", b""))  # nothing that could be decoded
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    told = operator.post("/api/upload", files=[("picture", ("wide.png", content))])

    why = f"{width} x {height} pixels; expected 10 to 16,384 a side, 25 megapixels in all"
    assert (told.status_code, told.json()) == (200, {"pictures": [], "refused": [{"image": "wide.png", "why": why}]})


def test_a_recorded_clip_is_stepped_through_and_labelled_like_a_camera(
    operator: TestClient, fake: FakeSite, tmp_path: Path, small_clip: Path
) -> None:
    asked = {"name": "walk.mp4", "from_s": 1}
    assert operator.post("/api/recording", json=asked).json() == {"error": "there is no recording of that name"}
    folder = tmp_path / "recordings"
    folder.mkdir()
    shutil.copy(small_clip, folder / "walk.mp4")
    (folder / "cut.mp4").write_bytes(small_clip.read_bytes()[:900])
    (folder / "outside.mp4").symlink_to(small_clip)
    (folder / "notes.txt").write_text("no clip")

    page = operator.get("/label").text
    assert [name for name in ("walk.mp4", "cut.mp4", "outside.mp4", "notes.txt") if name in page] == [
        "walk.mp4",
        "cut.mp4",
    ]
    held = operator.post("/api/recording", json=asked).json()["pictures"]
    assert [(one["camera"], one["number"], one["at"]) for one in held] == [
        ("walk.mp4", 30, pytest.approx(1, abs=0.04)),
        ("walk.mp4", 45, pytest.approx(1.5, abs=0.04)),
    ]
    assert operator.get("/api/held/walk.mp4/45").content[:2] == b"\xff\xd8"
    operator.post("/api/teach", json=lesson(labels=[{"camera": "walk.mp4", "number": 45, "box": [40, 30, 50, 40]}]))
    assert fake.lessons[0][1] == ["walk.mp4 45"]
    assert "cut" in operator.post("/api/recording", json={"name": "cut.mp4", "from_s": 0}).json()["error"]
    assert operator.post("/api/recording", json=asked | {"name": "../walk.mp4"}).status_code == 400


def test_a_visit_on_a_recording_is_noted_for_the_acceptance(
    operator: TestClient, tmp_path: Path, small_clip: Path
) -> None:
    camera = tmp_path / "recordings/north"
    camera.mkdir(parents=True)
    for name in ("walk.mp4", "empty.mp4"):
        shutil.copy(small_clip, camera / name)
    held = operator.post("/api/recording", json={"name": "north/walk.mp4", "from_s": 0}).json()["pictures"]
    assert operator.get(f"/api/held/north%2Fwalk.mp4/{held[0]['number']}").status_code == 200

    def labels(*pictures: dict[str, Any]) -> list[dict[str, object]]:
        return [{"camera": one["camera"], "number": one["number"], "box": [40, 30, 50, 40]} for one in pictures]

    one = operator.post("/api/visit", json={"name": "moose", "labels": labels(held[0])})
    assert (one.status_code, "on the last" in one.json()["error"]) == (400, True)
    told = operator.post("/api/visit", json={"name": "moose", "labels": labels(held[0], held[-1])})
    assert told.json() == {"recording": "north/walk.mp4", "visits": 1}
    (event,) = read_truth(camera / "walk.json").events
    assert (event.label, event.start_s, event.end_s) == ("moose", held[0]["at"], held[-1]["at"])
    empty = operator.post("/api/no-visit", json={"recording": "north/empty.mp4"})
    assert empty.json() == {"recording": "north/empty.mp4", "visits": 0}
    assert read_truth(camera / "empty.json").events == []
    assert operator.post("/api/no-visit", json={"recording": "../c.toml"}).status_code == 400
    gone = [{"camera": "north/walk.mp4", "number": 7, "box": [40, 30, 50, 40]}]
    assert "not held" in operator.post("/api/visit", json={"name": "moose", "labels": gone}).json()["error"]


def test_what_is_held_is_bounded_and_let_go() -> None:
    now = [0.0]
    held = HeldPictures(lambda: now[0])

    def picture(number: int, size: int = 10) -> Picture:
        return Picture(camera="road", number=number, at=0.0, size=(10, 10), jpeg=b"x" * size, sightings=())

    held.hold("anna", [picture(1, MOST_HELD_BYTES // 2), picture(2, MOST_HELD_BYTES // 2), picture(3)])
    assert [held.find("anna", "road", n) is None for n in (1, 2, 3)] == [True, False, False]
    for number in range(MOST_OWNERS):
        held.hold(f"operator {number}", [picture(1)])
    assert held.find("anna", "road", 2) is None
    now[0] = HOLD_S - 1
    assert held.find("operator 1", "road", 1) is not None
    now[0] = HOLD_S + 1
    assert held.find("operator 0", "road", 1) is None
    assert held.find("operator 1", "road", 1) is not None
