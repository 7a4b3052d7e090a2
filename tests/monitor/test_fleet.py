"""Releases for many sites: what a site believes, what it does with it, and a roll-out over a real broker."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel

from adapters.class_set import ClassSetStore
from adapters.classifier import Classifier
from adapters.errors import ConfigError, InputError
from monitor.alerts.broker import EmbeddedBroker
from monitor.alerts.journal import Journal
from monitor.alerts.mqtt import Publisher
from monitor.alerts.schema import ReleasePart, SiteStatus
from monitor.alerts.session import Address
from monitor.alerts.subscriber import Subscriber
from monitor.fleet.follow import Follower, Following
from monitor.fleet.releases import Releases
from monitor.fleet.rollout import TOPICS, Board, Plan, roll_out
from monitor.fleet.site_classes import SiteClasses
from monitor.fleet.site_model import SiteModel
from monitor.fleet.updates import Updates
from monitor.notes import write_note
from tests.conftest import DEMO_CLIP, Program, free_port, wait_until, wildlane
from tests.monitor.centre import Centre, PowerCut, class_file, key, served

Animals = dict[str, NDArray[np.uint8]]


@pytest.fixture
def file_of(tmp_path: Path, classifier: Classifier, demo_animals: Animals) -> Callable[[str], Path]:
    """Make a class-set file of one animal of the demonstration clip, as another site would."""

    def make(name: str) -> Path:
        return class_file(tmp_path, name, demo_animals[name], classifier)

    return make


def follower_of(centre: Centre, classifier: Classifier, state: Path, site: str = "km41") -> Follower:
    @contextmanager
    def store() -> Iterator[ClassSetStore]:
        with closing(ClassSetStore(state)) as opened:
            yield opened

    model = SiteModel(classifier, state, lambda folder: Classifier(folder, device="cpu"), 60.0)
    return Follower(site, centre.updates(state), SiteClasses(classifier, state, store), model)


def taught(state: Path) -> set[str]:
    with closing(ClassSetStore(state)) as store:
        return set(store.attributes())


def test_a_site_takes_what_is_assigned_to_it_and_goes_back_when_the_centre_says_so(
    centre: Centre, classifier: Classifier, file_of: Callable[[str], Path], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    site = follower_of(centre, classifier, state)
    centre.releases.add("r1", file_of("caribou"))
    centre.releases.add("r2", file_of("bear"))
    nothing_yet = site.look()
    centre.releases.assign("classes", {"km41": "r1", "km42": None})
    first, again = site.look(), follower_of(centre, classifier, state).look()  # as after a restart
    centre.releases.assign("classes", {"km41": "r2"})
    second, both = site.look(), taught(state)
    centre.releases.assign("classes", {"km41": "r1"})
    back, one = site.look(), taught(state)
    centre.releases.assign("classes", {"km41": None})
    none = site.look()

    assert nothing_yet.classes == nothing_yet.model == ReleasePart(release=None, state="none", why="")
    assert first.classes == again.classes == ReleasePart(release="r1", state="live", why="")
    assert again.class_set == first.class_set
    assert second.classes.state == "live"
    assert both == {"caribou", "bear"}
    assert (back.classes.state, back.class_set, one) == ("live", first.class_set, {"caribou"})
    assert (none.classes, none.class_set, taught(state)) == (nothing_yet.classes, nothing_yet.class_set, set())


def test_a_release_that_names_checked_frames_worse_is_held_back(
    centre: Centre,
    classifier: Classifier,
    file_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adapters.teaching._objection", lambda *given: "4 of 5 checked frames are named worse")
    centre.releases.add("r1", file_of("caribou"))
    centre.releases.assign("classes", {"km41": "r1"})

    told = follower_of(centre, classifier, tmp_path / "state").look()

    assert (told.classes.state, told.classes.why) == ("held-back", "4 of 5 checked frames are named worse")
    assert taught(tmp_path / "state") == set()


def test_a_file_that_is_no_class_set_is_refused_and_what_was_in_force_stays(
    centre: Centre, classifier: Classifier, tmp_path: Path
) -> None:
    (tmp_path / "x.classes").write_bytes(b"MZ")
    centre.releases.add("r1", tmp_path / "x.classes")
    centre.releases.assign("classes", {"km41": "r1"})

    told = follower_of(centre, classifier, tmp_path / "state").look()

    assert told.classes.state == "refused"
    assert "not a class-set file" in told.classes.why


def test_after_a_power_cut_between_taking_and_noting_a_site_still_knows_what_was_before(
    centre: Centre,
    classifier: Classifier,
    file_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = tmp_path / "state"
    before = follower_of(centre, classifier, state).look().class_set
    centre.releases.add("r1", file_of("caribou"))
    centre.releases.assign("classes", {"km41": "r1"})
    with monkeypatch.context() as cut:
        cut.setattr("monitor.fleet.site_classes.write_note", unless_it_names("r1"))
        with pytest.raises(PowerCut):
            follower_of(centre, classifier, state).look()

    restarted = follower_of(centre, classifier, state)
    live = restarted.look()
    centre.releases.assign("classes", {"km41": None})

    assert live.classes.state == "live"
    assert restarted.look().class_set == before


def unless_it_names(release: str) -> Callable[[Path, BaseModel], None]:
    """Write a note as ever, but die before one that names a release."""

    def write(file: Path, note: BaseModel) -> None:
        if release in note.model_dump_json():
            raise PowerCut
        write_note(file, note)

    return write


def test_a_damaged_note_is_set_aside_and_stops_nothing(
    centre: Centre, classifier: Classifier, file_of: Callable[[str], Path], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    centre.releases.add("r1", file_of("caribou"))
    centre.releases.assign("classes", {"km41": "r1"})
    follower_of(centre, classifier, state).look()
    for name in ("classes.json", "model.json"):
        (state / "fleet" / name).write_bytes(b"\x00" * 40)

    told = follower_of(centre, classifier, state).look()

    assert told.classes == ReleasePart(release="r1", state="live", why="")
    assert {path.name for path in (state / "fleet").glob("*.damaged")} == {"classes.damaged", "model.damaged"}


class TestWhatASiteBelieves:
    """The attacks that The Update Framework's specification lists, as a site meets them."""

    @pytest.fixture
    def seen(self, centre: Centre, tmp_path: Path) -> Updates:
        (tmp_path / "a.classes").write_bytes(b"a")
        centre.releases.add("r1", tmp_path / "a.classes")
        centre.releases.assign("classes", {"km41": "r1"})
        updates = centre.updates(tmp_path / "state")
        offered = updates.offered("km41")
        assert offered.releases == {"classes": "r1", "model": None}
        assert offered.classes("r1").read_bytes() == b"a"
        return updates

    def test_an_older_state_of_the_folder_is_not_believed(self, centre: Centre, seen: Updates, tmp_path: Path) -> None:
        older = shutil.copytree(centre.folder, tmp_path / "older")
        centre.releases.assign("classes", {"km41": None})
        assert seen.offered("km41").releases["classes"] is None
        shutil.rmtree(centre.folder)
        shutil.copytree(older, centre.folder)

        with pytest.raises(InputError, match="is not believed"):
            seen.offered("km41")

    def test_another_ones_signature_is_not_believed(self, centre: Centre, seen: Updates, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        Releases.create(other / "releases", key(other, "root"), key(other, "releases")).renew()
        for path in (other / "releases/metadata").iterdir():
            shutil.copy(path, centre.folder / "metadata")

        with pytest.raises(InputError, match="is not believed"):
            seen.offered("km41")

    def test_an_altered_file_is_not_taken(self, centre: Centre, tmp_path: Path) -> None:
        (tmp_path / "a.classes").write_bytes(b"a")
        centre.releases.add("r1", tmp_path / "a.classes")
        centre.releases.assign("classes", {"km41": "r1"})
        (served,) = (centre.folder / "targets/classes").iterdir()
        served.write_bytes(b"b")

        with pytest.raises(InputError, match="is not believed"):
            centre.updates(tmp_path / "state").offered("km41").classes("r1")

    def test_what_nobody_has_signed_for_long_is_not_believed(
        self, centre: Centre, seen: Updates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("monitor.fleet.releases.RELEASE_DAYS", -1)
        centre.releases.renew()

        with pytest.raises(InputError, match=r"is not believed.*expired"):
            seen.offered("km41")

    def test_a_centre_that_is_away_changes_nothing(
        self, centre: Centre, seen: Updates, classifier: Classifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        centre.close()

        told = follower_of(centre, classifier, tmp_path / "state").look()

        assert told.classes.state == "none"
        assert "can't be reached" in caplog.text


def test_a_release_never_changes_and_only_one_that_is_there_is_assigned(centre: Centre, tmp_path: Path) -> None:
    (tmp_path / "a.classes").write_bytes(b"a")
    centre.releases.add("r1", tmp_path / "a.classes")

    with pytest.raises(ConfigError, match="a release never changes"):
        centre.releases.add("r1", tmp_path / "a.classes")
    with pytest.raises(ConfigError, match="no name of a release"):
        centre.releases.add("../r2", tmp_path / "a.classes")
    with pytest.raises(ConfigError, match="there is no release 'r3'; there are: r1"):
        centre.releases.assign("classes", {"km41": "r3"})
    with pytest.raises(InputError, match="no folder of releases"):
        Releases(tmp_path / "nowhere", centre.key)
    with pytest.raises(ConfigError, match="holds releases already"):
        Releases.create(centre.folder, centre.key, centre.key)
    reopened = Releases(centre.folder, centre.key)
    assert (reopened.kinds, reopened.assignments("classes")) == ({"r1": "classes"}, {})


class TestRollOut:
    """Three sites that follow a centre over a real broker."""

    SITES = ("km41", "km42", "km43")

    @pytest.fixture
    def address(self) -> Iterator[Address]:
        broker = EmbeddedBroker(0)
        yield Address(host="127.0.0.1", port=broker.port, client_id="test")
        broker.stop()

    @pytest.fixture
    def board(self, centre: Centre, classifier: Classifier, address: Address, tmp_path: Path) -> Iterator[Board]:
        publishers, followings = [], []
        for site in self.SITES:
            journal = Journal(tmp_path / site)
            address_of_site = replace(address, client_id=site)
            publisher = Publisher(address_of_site, journal, root=f"wildlane/v1/{site}", online="{}", offline="{}")
            follower = follower_of(centre, classifier, tmp_path / site, site)
            tell = functools.partial(publisher.set_level, "release", expires_s=None)
            following = Following(follower, tell, lambda: None, 3600.0)
            publisher.let_look_for_releases(following.look_now)
            publisher.start()
            publishers.append((publisher, journal))
            followings.append(following)
        with closing(Subscriber(address, "wildlane/v1", TOPICS)) as subscriber:
            board = Board(subscriber)
            assert board.listen(20, lambda: all(board.seen(site).release for site in self.SITES))
            yield board
        for following in followings:
            following.close()
        for publisher, journal in publishers:
            publisher.stop(1)
            journal.close()

    def plan(self, **changed: float) -> Plan:
        return Plan(
            **{
                "release": "r1",
                "kind": "classes",
                "first": ("km41",),
                "rest": ("km42", "km43"),
                "take_s": 20,
                "watch_s": 1,
            }
            | changed
        )

    def test_a_release_that_does_well_on_the_first_site_goes_to_all(
        self, centre: Centre, board: Board, file_of: Callable[[str], Path]
    ) -> None:
        centre.releases.add("r1", file_of("caribou"))
        said: list[str] = []

        assert roll_out(centre.releases, board, self.plan(), said.append)

        assert said[-3:] == ["on to km42, km43", "km42: live", "km43: live"]
        assert centre.releases.assignments("classes") == dict.fromkeys(self.SITES, "r1")

    def test_a_site_that_degrades_takes_the_release_back_and_nobody_else_gets_it(
        self, centre: Centre, board: Board, file_of: Callable[[str], Path], tmp_path: Path
    ) -> None:
        centre.releases.add("r1", file_of("caribou"))
        status = SiteStatus(
            site="km41",
            status="degraded",
            since=datetime.now(UTC),
            software="0",
            journal=None,
            problem="the encoder is new",
        )
        board.subscriber.say("km41/status", status.model_dump_json(by_alias=True), retained=True)
        said: list[str] = []

        assert not roll_out(centre.releases, board, self.plan(watch_s=20), said.append)

        assert said[-1] == "back: km41 is degraded: the encoder is new"
        assert centre.releases.assignments("classes") == {"km41": None}
        assert board.listen(20, lambda: board.seen("km41").release.classes.release is None)
        assert taught(tmp_path / "km41") == set()

    def test_dismissals_and_a_flood_speak_against_a_release(
        self, centre: Centre, board: Board, file_of: Callable[[str], Path]
    ) -> None:
        centre.releases.add("r1", file_of("caribou"))
        event = json.loads((Path(__file__).parent / "alert.example.json").read_text())
        event |= {"id": event["id"].replace(".2", ".1"), "type": event["type"].replace("update", "start")}
        event["data"]["situation"] |= {"version": 1, "phase": "start"}
        said: list[str] = []

        def alerting(line: str) -> None:
            said.append(line)
            if line.startswith("live there"):
                for _ in range(9):
                    board.subscriber.say("km41/event/a", json.dumps(event))

        assert not roll_out(centre.releases, board, self.plan(watch_s=3), alerting)
        assert said[-1] == "back: km41: 9 situations, the others had 0.0"

    def test_a_site_that_does_not_answer_takes_the_release_back(
        self, centre: Centre, board: Board, file_of: Callable[[str], Path]
    ) -> None:
        centre.releases.add("r1", file_of("caribou"))
        said: list[str] = []

        assert not roll_out(centre.releases, board, self.plan(first=("km99",), take_s=1), said.append)
        assert said[-1] == "back: km99: has not taken it in time"


def test_a_running_site_takes_what_is_rolled_out_by_the_verbs(
    tmp_path: Path, file_of: Callable[[str], Path], run_program: Callable[[Path, Path], Program]
) -> None:
    folder, port, config = tmp_path / "releases", free_port(), tmp_path / "site.toml"
    signed = ("--key", key(tmp_path, "releases"))
    created = wildlane("fleet", "create", folder, "--root-key", key(tmp_path, "root"), *signed)
    added = wildlane("fleet", "add", folder, "r1", file_of("caribou"), *signed)
    with served(folder) as url:
        config.write_text(
            f"""site = "km41"
[broker]
embedded = true
port = {port}
[fleet]
url = "{url}"
root_file = "{folder}/metadata/1.root.json"
[cameras.road]
source = "{DEMO_CLIP}"
"""
        )
        program = run_program(config, tmp_path / "state")
        wait_until(lambda: "releases: " in program.log(), seconds=20, what="the site follows the centre")
        to_all = ("--first", "km41", "--watch-s", "1", "--config", config)
        rolled = wildlane("fleet", "roll-out", folder, "r1", *to_all, *signed)
        wait_until(lambda: "caribou" in program.log(), seconds=20, what="the class set is live")
    shown = json.loads(wildlane("fleet", "show", folder, "--json", *signed).stdout)

    assert "1.root.json" in created.stdout
    assert "r1 (classes): added" in added.stdout
    assert rolled.returncode == 0, rolled.stderr
    assert "live there; watching for 1 s" in rolled.stdout
    assert shown == {"releases": {"r1": "classes"}, "sites": {"classes": {"km41": "r1"}, "model": {}}}
