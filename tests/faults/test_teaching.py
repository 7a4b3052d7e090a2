"""Teaching through the console while cameras are watched: nothing is lost, nothing is half done, watching goes on."""

from __future__ import annotations

import random
import re
import signal
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import cv2
import httpx2
import pytest

from adapters.class_set import CROPS, FILE, ClassSetStore
from adapters.classes import ClassAttributes
from adapters.classifier import Classifier
from adapters.crops import LabelledCrop
from adapters.errors import StoreError
from adapters.golden import CROPS as CHECKED
from adapters.golden import GoldenSet
from adapters.teaching import teach
from tests.conftest import Mosquitto, Program, RtspServer, free_port, wait_until, write_config
from tests.faults.disk import fill, mounted
from tests.monitor.console.conftest import PASSWORD, Operator

CLASSES = {"sample": 5, "full": 30}
KILLS = {"sample": 2, "full": 20}
FRAMES = 5
LIVE = re.compile(r"class set cs-\d+ is live")
MOST_GROWTH_MB = 2.0  # a class: what was taught is kept, and nothing else


def count_of(counts: dict[str, int], request: pytest.FixtureRequest) -> int:
    return counts["full" if request.config.getoption("--drills-in-full") else "sample"]


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1e3


class Site:
    """A program with a console that watches the demonstration clip over RTSP."""

    def __init__(self, run: Callable[[Path, Path], Program], folder: Path, broker: int, source: str) -> None:
        self._run, self._state = run, folder / "state"
        self._console, self._metrics = free_port(), free_port()
        extra = f"[console]\nport = {self._console}\n[metrics]\nport = {self._metrics}"
        self._config = write_config(folder / "c.toml", {"road": source}, broker, extra)
        self._operator: Operator | None = None

    def start(self) -> Program:
        program = self._run(self._config, self._state)
        wait_until(lambda: "camera road: sees" in program.log(), seconds=40, what="the program is up")
        return program

    def operator(self, name: str = "anna", *, has_account: bool = False) -> Operator:
        return Operator(self._console, self._state, name, has_account=has_account)

    def aged_frames(self) -> int:
        """Analysed frames that were more than a second old when they were decided about."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics") as answer:
            text = answer.read().decode()
        counts = {
            bound: float(count)
            for bound, count in re.findall(r'wildlane_frame_age_seconds_bucket\{[^}]*le="([^"]+)"[^}]*\} (\S+)', text)
        }
        return int(counts["+Inf"] - counts["1.0"])


@pytest.fixture
def site(
    run_program: Callable[[Path, Path], Program], mosquitto: Mosquitto, rtsp_server: RtspServer, tmp_path: Path
) -> Iterator[Site]:
    return Site(run_program, tmp_path, mosquitto.port, rtsp_server.url)


def lesson(operator: Operator, name: str, rng: random.Random) -> dict[str, object]:
    """A lesson of boxes on the newest held pictures, wherever they fall."""
    wait_until(lambda: len(operator.ask("/api/hold/road").json()["pictures"]) >= FRAMES, seconds=20, what="pictures")
    pictures = operator.ask("/api/hold/road").json()["pictures"][-FRAMES:]
    labels = []
    for picture in pictures:
        width, height = picture["size"]
        side = rng.randint(60, 120)
        box = [rng.randint(0, width - side), rng.randint(0, height - side), side, side]
        labels.append({"camera": "road", "number": picture["number"], "box": box})
    return {"name": name, "size": "large", "origin": "wild", "labels": labels}


def seconds_to_live(
    operator: Operator, program: Program, asked: dict[str, object], before: int
) -> tuple[float, httpx2.Response]:
    """Teach, and return how long it took until the version was live, or nothing was taught; and the answer."""
    with ThreadPoolExecutor(1) as pool:
        began_s = time.monotonic()
        told = pool.submit(operator.ask, "/api/teach", asked)
        wait_until(
            lambda: len(LIVE.findall(program.log())) > before or (told.done() and told.result().status_code != 200),
            seconds=20,
            what="it is live",
        )
        return time.monotonic() - began_s, told.result()


def is_refused(answer: httpx2.Response) -> bool:
    """Whether none of the boxes, which fall anywhere, shows anything that can be taught."""
    return answer.status_code == 400 and "can be taught" in answer.text


def teach_until_taken(operator: Operator, name: str, rng: random.Random) -> httpx2.Response:
    for _ in range(10):
        answer = operator.ask("/api/teach", lesson(operator, name, rng))
        if not is_refused(answer):
            break
    return answer


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_classes_taught_one_after_another_under_load(
    site: Site, classifier: Classifier, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    count, rng = count_of(CLASSES, request), random.Random(1)
    program = site.start()
    operator = site.operator()
    seconds, memory_mb, versions = [], [], []
    aged, refused = site.aged_frames(), 0
    while len(versions) < count:
        asked = lesson(operator, f"animal {len(versions)}", rng)
        took_s, answer = seconds_to_live(operator, program, asked, before=len(versions))
        if is_refused(answer):
            refused += 1
            continue
        assert answer.status_code == 200, answer.text
        seconds.append(took_s)
        versions.append(answer.json()["version"])
        memory_mb.append(resident_mb(program.process.pid))
    late = site.aged_frames() - aged
    operator.close()
    program.kill()

    store = ClassSetStore(tmp_path / "state")
    known = {record.version: record.classes for record in store.versions()}
    for number, version in enumerate(versions):  # every version holds what was taught until then
        assert {f"animal {n}" for n in range(number + 1)} <= set(known[version])
        assert store.load(classifier, version=version).version == version
    store.close()
    # medians of either half, the first lessons left out: buffers of tens of megabytes come and go with single lessons
    first, second = (statistics.median(part) for part in (memory_mb[count // 6 : count // 2], memory_mb[count // 2 :]))
    print(
        f"{count} classes of {FRAMES} frames: click to live median {sorted(seconds)[count // 2]:.2f} s, "
        f"longest {max(seconds):.2f} s, {refused} lessons refused; frames older than 1 s: {late}; "
        f"memory {memory_mb[0]:.0f} to {max(memory_mb):.0f} MB, median of the first half {first:.0f}, "
        f"of the second {second:.0f}"
    )
    if count == CLASSES["full"]:  # a handful says nothing: buffers have not their size yet
        between = count * (3 / 4 - 1 / 3)  # classes from the middle of the one part to that of the other
        assert second - first < MOST_GROWTH_MB * between


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_a_program_killed_while_teaching_has_the_old_version_or_the_new_one(
    site: Site, classifier: Classifier, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills, rng = count_of(KILLS, request), random.Random(2)
    done, lost, answered = 0, 0, set()
    program = site.start()
    operator = site.operator()
    for number in range(kills):
        asked = lesson(operator, f"animal {number}", rng)
        asking = threading.Thread(target=suppressed, args=(operator, asked, answered))
        asking.start()
        time.sleep(rng.uniform(0, 1.5) if number else 5)  # the first one is answered before it is killed
        program.process.send_signal(signal.SIGKILL)
        asking.join(10)
        program.kill()

        store = ClassSetStore(tmp_path / "state")
        taught = store.load(classifier).attributes
        assert answered <= set(taught), "a lesson that was answered is lost"
        whole = [len(shots) for shots in store.shots(classifier).values()]
        assert all(whole), "a class without a frame"
        done, lost = done + (f"animal {number}" in taught), lost + (f"animal {number}" not in taught)
        store.close()
        program = site.start()
        operator.login()
    print(
        f"{kills} kills while teaching: {done} found the new version whole, {lost} the old one; none was half done, "
        f"and all {len(answered)} lessons that were answered are kept"
    )
    assert answered, "no lesson was answered before its kill: nothing could be lost"
    operator.close()


def suppressed(operator: Operator, asked: dict[str, object], answered: set[str]) -> None:
    """Teach, and note the class where the answer was that it is taught."""
    with suppress(httpx2.HTTPError):
        if operator.ask("/api/teach", asked).status_code == 200:
            answered.add(str(asked["name"]))


def test_two_operators_who_teach_at_once_both_succeed(site: Site, tmp_path: Path, classifier: Classifier) -> None:
    site.start()
    anna = site.operator()
    hired = anna.post("/accounts/add", name="olga", role="operator", password=PASSWORD)
    assert hired.status_code == 200, hired.text
    olga = site.operator("olga", has_account=True)
    with ThreadPoolExecutor(4) as pool:
        asking = [
            pool.submit(teach_until_taken, (anna, olga)[number % 2], f"animal {number}", random.Random(number))
            for number in range(4)
        ]
    answers = [one.result() for one in asking]
    anna.close()
    olga.close()

    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.json()["version"] for answer in answers}) == 4
    store = ClassSetStore(tmp_path / "state")
    assert {f"animal {number}" for number in range(4)} <= set(store.class_names())
    store.close()


def test_a_disk_that_is_full_leaves_the_old_version_in_force(
    tmp_path: Path, classifier: Classifier, demo_animals: dict
) -> None:
    store = ClassSetStore(tmp_path)
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite then says what it says of a full disk
    before = store.versions()
    moose = ClassAttributes(name="moose", size="large", origin="wild")
    with pytest.raises(StoreError, match=f"{FILE}: database or disk is full; nothing was changed"):
        teach(store, classifier, moose, ["a"], [LabelledCrop(demo_animals["caribou"])])

    assert store.versions() == before
    store._db.execute("PRAGMA max_page_count = 1000000")
    teach(store, classifier, moose, ["a"], [LabelledCrop(demo_animals["caribou"])])
    assert "moose" in store.class_names()
    store.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "8m") as folder:
        yield folder


def test_a_disk_that_has_no_room_for_a_crop_leaves_classes_and_checked_frames_as_they_were(
    disk: Path, classifier: Classifier, demo_animals: dict
) -> None:
    store, golden = ClassSetStore(disk), GoldenSet(disk)
    moose = ClassAttributes(name="moose", size="large", origin="wild")
    teach(store, classifier, moose, ["a"], [LabelledCrop(demo_animals["caribou"])])
    golden.add("moose", [("a", LabelledCrop(demo_animals["caribou"]))], classifier, taught=["moose"])
    before = store.versions(), golden.listed(), files(disk)
    ballast = fill(disk)
    large = LabelledCrop(cv2.resize(demo_animals["bear"], (300, 300)))

    with pytest.raises(StoreError, match=r"crop can't be kept .*; nothing was taught|nothing was changed"):
        teach(store, classifier, moose, ["b"], [large])
    with pytest.raises(StoreError, match=r"crop can't be kept .*; nothing was taught|nothing was changed"):
        golden.add("moose", [("b", large)], classifier, taught=["moose"])
    assert (store.versions(), golden.listed()) == before[:2]
    assert classifier.classify([demo_animals["caribou"]], store.load(classifier).memory)[0].label == "moose"

    ballast.unlink()
    for part in (store, golden):
        part.close()
    store, golden = ClassSetStore(disk), GoldenSet(disk)
    assert files(disk) == before[2]  # what was begun is cleared away
    teach(store, classifier, moose, ["b"], [large])
    assert golden.add("moose", [("b", large)], classifier, taught=["moose"]) == 2
    store.close()
    golden.close()


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for name in (CROPS, CHECKED) for path in (folder / name).iterdir()}
