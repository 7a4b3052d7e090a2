"""Whatever comes from outside is taken or refused in one line: no crash, no hang, no write.

A parser for each door: configuration, class-set file, MQTT commands, console uploads and labels, model manifest, a
centre's releases.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from adapters.class_file import CLASSES, MANIFEST, read_classes, write_classes
from adapters.class_set import ClassSetStore
from adapters.classifier import Classifier
from adapters.errors import ConfigError, InputError, ModelError
from adapters.runtime import ENCODE, file_hash, read_verified
from monitor.alerts.consumers import MOST_CONSUMERS, NAME, ConsumerDesk, Heard
from monitor.alerts.journal import Journal
from monitor.alerts.schema import Reply
from monitor.config import load_config
from monitor.console.accounts import Accounts
from monitor.fleet.releases import Releases
from monitor.fleet.updates import Updates
from tests.conftest import ROOT
from tests.monitor.centre import key, served
from tests.monitor.console.conftest import (  # noqa: F401
    PASSWORD,
    FakeSite,
    accounts,
    begin,
    csrf,
    fake,
    log_in,
    site,
    visitor,
)

CASES = {"sample": 200, "full": 10_000}
LONGEST_S = 5.0  # for one case, on a busy machine
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
DEEP = st.sampled_from([b"[" * 3_000, b'{"a":' * 3_000, b"x = " + b"[" * 3_000])  # beyond Python's recursion limit
SPICE = st.sampled_from(
    [b"", b"\x00", b"\xff\xfe", b"nan", b"inf", b"-1", b"1e999", b"99999999999999999999", b"null", b"true", b'""',
     b"[]", b"{}", b"../../etc/passwd", b"/dev/zero", b"%s%n", b"\r\n", b"'", b'"', b"]]", b"\xed\xa0\x80"]
)  # fmt: skip
EDIT = st.tuples(st.floats(0, 1), st.integers(0, 12), SPICE | st.binary(max_size=8))
EDITS = st.lists(EDIT, min_size=1, max_size=4)

opened_for_writing: list[str] | None = None  # while a case runs


def note_writes(event: str, arguments: tuple[object, ...]) -> None:
    if opened_for_writing is not None and event == "open" and isinstance(arguments[2], int):
        path, flags = str(arguments[0]), arguments[2]
        leaves_nothing = path == os.devnull or Path(path).is_dir()  # a download's file without a name
        if flags & WRITES and not leaves_nothing:
            opened_for_writing.append(path)


@pytest.fixture(scope="module", autouse=True)
def _watch_writes() -> None:
    sys.addaudithook(note_writes)


@contextmanager
def harmless(own: Path | None) -> Iterator[None]:
    """Hold that what is done within is quick and opens no file for writing, but below a folder of its own."""
    global opened_for_writing  # noqa: PLW0603  # an audit hook can't be taken away again
    begun_s, opened_for_writing = time.monotonic(), []
    try:
        yield
        assert [path for path in opened_for_writing if own is None or not Path(path).is_relative_to(own)] == []
    finally:
        opened_for_writing = None
    assert time.monotonic() - begun_s < LONGEST_S


def edited(whole: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """What a good file becomes by a few edits: where, how much is cut, what comes there."""
    for where, cut, put in edits:
        at = int(where * len(whole))
        whole = whole[:at] + put + whole[at + cut :]
    return whole


def mutants(whole: bytes) -> st.SearchStrategy[bytes]:
    return EDITS.map(lambda edits: edited(whole, edits))


class Fuzz:
    """Runs the cases of a strategy through a parser, which tells for each what became of it."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __call__(
        self,
        cases: st.SearchStrategy,
        parse: Callable[..., str],
        prepare: Callable[..., object] = lambda content: None,
        own: Path | None = None,
    ) -> None:
        became: dict[str, int] = {}

        @settings(
            max_examples=self._count,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases)
        def case(content: object) -> None:
            prepare(content)
            with harmless(own):
                verdict = parse(content)
            became[verdict] = became.get(verdict, 0) + 1

        case()
        told = ", ".join(f"{number} {verdict}" for verdict, number in sorted(became.items()))
        print(f"{sum(became.values())} cases: {told}; no crash, no hang, no write")


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    return Fuzz(CASES["full" if request.config.getoption("--drills-in-full") else "sample"])


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_any_configuration_is_taken_or_refused_in_one_line(fuzz: Fuzz, tmp_path: Path) -> None:
    text = (ROOT / "config.toml").read_text()
    every_key = re.sub(r"^# (?=[\w\[{(])", "", text, flags=re.MULTILINE).encode()
    path = tmp_path / "config.toml"

    def parse(content: bytes) -> str:
        try:
            load_config(path)
        except ConfigError as error:
            assert "\n" not in str(error)
            return "refused"
        return "taken"

    cases = mutants(text.encode()) | mutants(every_key) | st.binary(max_size=300) | DEEP
    fuzz(cases, parse, path.write_bytes)


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_any_model_manifest_is_taken_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    (tmp_path / ENCODE).write_bytes(b"graph")
    good = {"format": 1, "files": {ENCODE: {"sha256": hashlib.sha256(b"graph").hexdigest(), "bytes": 5}}}
    path = tmp_path / "manifest.json"

    def parse(content: bytes) -> str:
        try:
            assert read_verified(tmp_path, ENCODE) == b"graph"
            assert file_hash(tmp_path, ENCODE).startswith("sha256:")
        except ModelError:
            with pytest.raises(ModelError):  # nor is there a hash of what is not named
                file_hash(tmp_path, "another.onnx")
            return "refused"
        return "taken"

    any_json = JSON.map(lambda value: json.dumps(value).encode())
    fuzz(mutants(json.dumps(good).encode()) | any_json | DEEP, parse, path.write_bytes)


def packed(parts: dict[str, bytes], *, named: bool) -> bytes:
    """A class-set file of these parts; `named` gives it a manifest that fits them."""
    if named:
        parts[MANIFEST] = json.dumps(
            {name: hashlib.sha256(part).hexdigest() for name, part in parts.items() if name != MANIFEST}
        ).encode()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        for name, part in parts.items():
            file.writestr(name, part)
    return whole.getvalue()


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_any_class_set_file_is_taken_or_refused(
    fuzz: Fuzz, store: ClassSetStore, classifier: Classifier, tmp_path: Path
) -> None:
    path = tmp_path / "site.classes"
    kept = store.kept(classifier)
    write_classes(path, dict(list(kept.items())[:1]), {}, classifier.encoder_hash)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    told = json.loads(parts[CLASSES])
    told["classes"][0]["shots"] = told["classes"][0]["shots"][:1]
    parts[CLASSES] = json.dumps(told).encode()

    def prepare(case: tuple[str, list[tuple[float, int, bytes]] | bytes]) -> None:
        name, change = case
        whole = parts.get(name) or packed(dict(parts), named=True)
        part = change if isinstance(change, bytes) else edited(whole, change)
        path.write_bytes(packed({**parts, name: part}, named=name != MANIFEST) if name in parts else part)

    def parse(content: bytes) -> str:
        try:
            read_classes(path, classifier)
        except (InputError, ConfigError):
            return "refused"
        return "taken"

    names = st.sampled_from(["the file itself", *parts])
    fuzz(st.tuples(names, EDITS | st.binary(max_size=200) | DEEP), parse, prepare)


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_any_message_of_a_consumer_is_answered_or_dropped(fuzz: Fuzz, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    desk = ConsumerDesk(journal, frozenset({"road"}))
    good = [
        b"{}",
        json.dumps({"journal": journal.id, "first": 1, "last": 9}).encode(),
        b'{"situation": "0", "by": "me"}',
        b'{"zone": "road", "by": "me"}',
        json.dumps({"journal": journal.id, "upto": 0}).encode(),
    ]
    names = st.sampled_from(["ping", "replay", "confirm", "dismiss", "test-alert", "me"]) | st.text(max_size=70)
    topics = st.tuples(st.sampled_from(["cmd", "ack"]), names).map("/".join)
    payloads = st.one_of(*map(mutants, good), st.binary(max_size=200), JSON.map(lambda v: json.dumps(v).encode()), DEEP)

    def parse(message: tuple[str, bytes, str]) -> str:
        topic, payload, reply_to = message
        answer = desk.hear(Heard(topic=topic, payload=payload, reply_to=reply_to, correlation=payload[:8]))
        list(desk.orders())
        assert journal.newest() == 0
        if answer is None:
            return "dropped or a receipt"
        return "accepted" if Reply.model_validate_json(answer).accepted else "refused"

    fuzz(st.tuples(topics, payloads, st.text(max_size=20)), parse)
    assert len(journal.consumers()) <= MOST_CONSUMERS
    assert all(NAME.fullmatch(name) for name in journal.consumers())
    journal.close()


@pytest.fixture
def operator(visitor: Callable[[], TestClient], accounts: Accounts) -> TestClient:  # noqa: F811
    begin(visitor(), accounts)
    accounts.add("olga", "operator", PASSWORD, by="anna")
    client = visitor()
    assert log_in(client, "olga") == 303
    client.headers["x-csrf-token"] = csrf(client)
    client.post("/api/hold/road")
    return client


def picture(kind: str) -> bytes:
    coded = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (24, 32, 3), np.uint8)).save(coded, kind)
    return coded.getvalue()


# starlette leaves a part whose end never comes to the garbage collector; it is in memory alone (see `access.py`)
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <function SpooledTemporaryFile:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_any_upload_is_held_as_a_picture_or_refused(fuzz: Fuzz, operator: TestClient) -> None:
    pictures = st.one_of(*(mutants(picture(kind)) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF")))
    form = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n' + b"abc\r\n--x--\r\n"

    def parse(case: tuple[str, bytes]) -> str:
        kind, content = case
        if kind == "picture":
            answer = operator.post("/api/upload", files=[("picture", ("a.png", content))])
            assert answer.status_code == 200, answer.text
            return "held" if answer.json()["pictures"] else "refused"
        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = operator.post("/api/upload", content=content, headers=headers)
        assert answer.status_code in (200, 400), answer.text
        return "no form" if answer.status_code == 400 else "a form"

    fuzz(st.tuples(st.just("picture"), pictures) | st.tuples(st.just("form"), mutants(form)), parse)


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_any_lesson_from_a_page_is_taught_or_refused(fuzz: Fuzz, operator: TestClient, fake: FakeSite) -> None:  # noqa: F811
    good = {"name": "moose", "size": "large", "origin": "wild"}
    good |= {"labels": [{"camera": "road", "number": 7, "box": [40, 30, 50, 40]}]}
    bodies = mutants(json.dumps(good).encode()) | JSON.map(lambda value: json.dumps(value).encode()) | DEEP

    def parse(case: tuple[str, bytes]) -> str:
        path, body = case
        before = len(fake.lessons) + len(fake.checked)
        answer = operator.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (200, 400), answer.text
        assert (len(fake.lessons) + len(fake.checked) > before) == (answer.status_code == 200)
        return "taken" if answer.status_code == 200 else "refused"

    fuzz(st.tuples(st.sampled_from(["/api/teach", "/api/golden"]), bodies), parse)


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_any_answer_of_a_centre_is_believed_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    folder, state = tmp_path / "releases", tmp_path / "state"
    releases = Releases.create(folder, key(tmp_path, "root"), key(tmp_path, "releases"))
    (tmp_path / "a.classes").write_bytes(b"what was signed")
    releases.add("r1", tmp_path / "a.classes")
    releases.assign("classes", {"km41": "r1"})
    served_files = [path for path in folder.rglob("*") if path.is_file()] + [folder / "metadata/2.root.json"]
    whole = {path: path.read_bytes() for path in served_files if path.exists()}
    root = (folder / "metadata/1.root.json").read_bytes()

    def prepare(case: tuple[Path, list[tuple[float, int, bytes]] | bytes]) -> None:
        (folder / "metadata/2.root.json").unlink(missing_ok=True)
        for path, content in whole.items():
            path.write_bytes(content)
        path, change = case
        path.write_bytes(change if isinstance(change, bytes) else edited(whole.get(path, root), change))
        for kept in (state / "fleet/targets").glob("*"):  # else it would not be fetched again
            kept.unlink()

    def parse(case: object) -> str:
        try:
            offered = updates.offered("km41")
            release = offered.releases["classes"]
            file = None if release is None else offered.classes(release)
        except InputError as error:
            assert "\n" not in str(error)
            return "refused"
        assert (release, file and file.read_bytes()) == ("r1", b"what was signed")
        return "believed"

    changes = EDITS | st.binary(max_size=200) | DEEP
    with served(folder) as url:
        updates = Updates(url, shutil.copy(folder / "metadata/1.root.json", tmp_path / "root.json"), state)
        fuzz(st.tuples(st.sampled_from(served_files), changes), parse, prepare, own=state)
