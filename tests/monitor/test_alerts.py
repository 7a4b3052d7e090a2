from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.classes import ClassAttributes
from adapters.errors import ConfigError, StoreError
from monitor.alerts.broker import EmbeddedBroker
from monitor.alerts.compose import Draft, Road, SiteFacts
from monitor.alerts.consumers import ConsumerDesk, Heard
from monitor.alerts.journal import Journal
from monitor.alerts.mqtt import Publisher
from monitor.alerts.schema import Alert, ClockPart, SiteStatus
from monitor.alerts.session import Address, check_reachable
from monitor.alerts.storage import FILE, MARK, HighWaterMark
from monitor.places import ConfiguredPlace
from monitor.policy import Policy, Situation
from monitor.zones import whole_view
from tests.conftest import Listener, Mosquitto, free_port, request, wait_until
from tests.monitor.test_policy import SETTINGS, sighting

FACTS = SiteFacts(
    site="test",
    mode="test",
    device="box",
    software="0",
    encoder="sha256:" + "0" * 64,
    valid_s=60,
    places={"north": ConfiguredPlace(lat=61.1, lon=11.4, radius_m=40.0)},
    roads={"verge": Road(lanes=(1, 2), road_bearing_deg=352.0)},
    info_version="sha256:" + "7c" * 32,
)
DOG = ClassAttributes(name="dog", size="small", origin="domestic", scientific_name="Canis lupus familiaris")


def draft(situation: Situation, attributes: ClassAttributes | None = DOG) -> Draft:
    start = datetime(2026, 11, 23, tzinfo=UTC)
    return Draft(
        situation=situation,
        facts=FACTS,
        class_set="cs-2",
        attributes=attributes,
        at=lambda at_s: start + timedelta(seconds=at_s),
        clock=ClockPart(synced=True, source="ntp", error_ms=4.0),
    )


def one_life() -> list[Situation]:
    site = Policy(SETTINGS, {"north": (whole_view("north"),)})
    return site.decide([sighting(1.0)], 1.0) + site.decide([], 6.0)


def test_one_box_of_a_class_taught_as_a_herd_is_coded_as_a_herd() -> None:
    begun = one_life()[0]
    alone, together = (draft(begun, replace(DOG, herd=herd)).numbered(1, "j-1", 1).data for herd in (False, True))

    assert (alone.animal.herd, together.animal.herd, together.animal.count) == (False, True, 1)
    assert together.codes.datex2.animal_presence_type == "herdOfAnimalsOnTheRoad"
    assert together.codes.itis == (1292,)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path)
    yield opened
    opened.close()


def test_an_alert_is_a_cloudevent_with_the_contracts_fields(journal: Journal) -> None:
    start, end = journal.append([draft(situation) for situation in one_life()])
    text = json.loads(start.json_text())

    assert text["type"] == "org.wildlane.situation.start.v1"
    assert text["id"] == f"{text['data']['situation']['id']}.1"
    assert text["data"]["animal"] | {"class": "dog", "size": "small", "origin": "domestic"} == text["data"]["animal"]
    assert text["data"]["where"]["point"] == {"lat": 61.1, "lon": 11.4, "accuracyM": 40.0, "method": "configured"}
    assert text["data"]["codes"]["etsi"]["subCauseCode"] == 8
    assert text["data"]["codes"]["datex2"]["animalPresenceType"] == "smallAnimalsOnTheRoad"
    assert text["data"]["situation"]["ended"] is None
    assert json.loads(end.json_text())["data"]["situation"]["endReason"] == "left"
    assert text["time"].endswith("Z")


def test_an_alert_says_when_the_frame_was_captured_not_when_it_was_looked_at(journal: Journal) -> None:
    site = Policy(SETTINGS, {"north": (whole_view("north"),)})

    (start,) = journal.append([draft(situation) for situation in site.decide([sighting(1.0, age_s=0.25)], 1.0)])

    assert start.data.provenance.decided - start.data.provenance.captured == timedelta(seconds=0.25)


def test_an_alert_validates_against_the_sketch_of_the_schema(journal: Journal, data: Path) -> None:
    import jsonschema

    schema = json.loads((data.parent / "design/alert.schema.json").read_text())
    for alert in journal.append([draft(situation) for situation in one_life()]):
        jsonschema.validate(json.loads(alert.json_text()), schema)


def test_an_alert_survives_the_way_through_json(journal: Journal) -> None:
    alert = journal.append([draft(one_life()[0])])[0]

    assert Alert.model_validate_json(alert.json_text()).json_text() == alert.json_text()


def test_an_unknown_animal_has_no_taxon_and_unknown_size(journal: Journal) -> None:
    site = Policy(SETTINGS, {"north": (whole_view("north"),)})
    told = site.decide([sighting(1.0, label="unknown-animal", probability=0.9)], 1.0)
    animal = journal.append([draft(told[0], None)])[0].data.animal

    assert (animal.class_, animal.taxon, animal.size, animal.origin) == ("unknown-animal", None, "unknown", "unknown")


@pytest.mark.parametrize(
    "change",
    [
        lambda event: event["data"]["situation"].update(endReason="left"),
        lambda event: event["data"]["situation"].update(version=2),
        lambda event: event.update(type="org.wildlane.situation.end.v1"),
        lambda event: event.update(sequence="0000000000000009"),
        lambda event: event["data"]["where"]["point"].update(lat=91),
        lambda event: event["data"].update(surprise=1),
        lambda event: event["data"]["certainty"].update(probability=1.2),
        lambda event: event["data"]["situation"].update(validUntil="2020-01-01T00:00:00Z"),
    ],
)
def test_an_alert_that_contradicts_itself_can_not_be_made(journal: Journal, change: object) -> None:
    event = json.loads(journal.append([draft(one_life()[0])])[0].json_text())
    change(event)

    with pytest.raises(ValidationError):
        Alert.model_validate_json(json.dumps(event))


def test_sequence_numbers_are_gap_free_and_go_on_after_reopening(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    numbers = [alert.data.seq for alert in first.append([draft(situation) for situation in one_life()])]
    first.close()
    second = Journal(tmp_path)
    numbers += [alert.data.seq for alert in second.append([draft(one_life()[0])])]

    assert numbers == [1, 2, 3]
    assert first.id == second.id
    second.close()


def test_a_version_that_can_not_be_made_leaves_no_gap(journal: Journal) -> None:
    broken = draft(one_life()[0])
    object.__setattr__(broken, "class_set", 7)
    with pytest.raises(ValidationError):
        journal.append([draft(one_life()[0]), broken])

    assert [alert.data.seq for alert in journal.append([draft(one_life()[0])])] == [1]


def test_rows_stay_after_the_receipt_until_their_retention_is_over(journal: Journal) -> None:
    journal.append([draft(situation) for situation in one_life()])
    for seq in (1, 2):
        journal.mark_acked(journal.id, seq)

    assert journal.unsent(None, 10) == []
    assert journal.forget_before(datetime.now(UTC) - timedelta(days=7)) == 0
    assert journal.forget_before(datetime.now(UTC) + timedelta(seconds=1)) == 2


def test_what_was_not_delivered_is_never_forgotten(journal: Journal) -> None:
    journal.append([draft(situation) for situation in one_life()])

    assert journal.forget_before(datetime.now(UTC) + timedelta(days=1)) == 0
    assert [row.seq for row in journal.unsent(None, 10)] == [1, 2]


def test_situations_left_open_by_a_killed_run_are_ended_once(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.append([draft(one_life()[0])])
    first.close()

    second = Journal(tmp_path)
    ended = second.end_left_open(datetime.now(UTC))

    assert [alert.data.situation.end_reason for alert in ended] == ["restart"]
    assert ended[0].data.situation.version == 2
    assert second.end_left_open(datetime.now(UTC)) == []
    second.close()


def test_a_clock_that_was_set_back_does_not_stop_the_end_of_a_situation(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([draft(one_life()[0])])

    assert journal.end_left_open(datetime(1970, 1, 1, tzinfo=UTC))[0].data.situation.phase == "end"
    journal.close()


def test_the_etsi_number_stays_the_same_through_a_situation(journal: Journal) -> None:
    numbers = [
        alert.data.codes.etsi.sequence_number for alert in journal.append([draft(s) for s in one_life() + one_life()])
    ]

    assert numbers[0] == numbers[1] != numbers[2] == numbers[3]


def test_a_journal_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    db = sqlite3.connect(tmp_path / FILE)
    db.execute("PRAGMA user_version = 99")
    db.close()
    HighWaterMark(tmp_path / MARK).write(journal.id, 0, version=99)

    with pytest.raises(StoreError, match="newer than this program"):
        Journal(tmp_path)


def status(word: str, journal: str) -> str:
    said = SiteStatus(
        site="test", status=word, since=datetime(2026, 11, 23, tzinfo=UTC), software="1", journal=journal, problem=None
    )
    return said.model_dump_json(by_alias=True)


def statuses(listener: Listener) -> list[str]:
    return [json.loads(text)["status"] for text in listener.got("/status")]


def publisher(port: int, journal: Journal) -> Publisher:
    return Publisher(
        Address(host="127.0.0.1", port=port, client_id="test"),
        journal,
        root="wildlane/v1/test",
        online=status("online", journal.id),
        offline=status("offline", journal.id),
    )


def test_committed_alerts_reach_a_subscriber_in_order(mosquitto: Mosquitto, journal: Journal) -> None:
    listener = mosquitto.listen()
    sender = publisher(mosquitto.port, journal)
    journal.append([draft(situation) for _ in range(30) for situation in one_life()])  # more than the window
    sender.start()

    wait_until(lambda: len(listener.got("/event/north")) == 60, seconds=20, what="all 60 alerts arrived")
    assert [json.loads(text)["data"]["seq"] for text in listener.got("/event/")] == list(range(1, 61))
    wait_until(lambda: journal.counts() == (0, 0), seconds=5, what="all receipts are written down")
    assert sender.stop(2) == 0
    wait_until(lambda: statuses(listener)[-1] == "offline", seconds=5, what="the goodbye")
    listener.stop()


def test_an_alert_survives_a_broker_that_is_away(mosquitto: Mosquitto, journal: Journal) -> None:
    sender = publisher(mosquitto.port, journal)
    sender.start()
    wait_until(sender.connected.is_set, seconds=10, what="connected")
    mosquitto.stop()
    wait_until(lambda: not sender.connected.is_set(), seconds=10, what="the loss is noticed")
    journal.append([draft(situation) for situation in one_life()])
    sender.event_committed()
    mosquitto.start()
    listener = mosquitto.listen()

    wait_until(lambda: len(listener.got("/event/")) >= 2, seconds=30, what="both alerts arrived")
    sender.stop(2)
    listener.stop()


def test_levels_are_retained_and_only_the_newest_counts(mosquitto: Mosquitto, journal: Journal) -> None:
    sender = publisher(mosquitto.port, journal)
    for text in ("old", "new"):
        sender.set_level("state/north", text)
    sender.start()
    wait_until(sender.connected.is_set, seconds=10, what="connected")
    wait_until(lambda: not sender._changed, seconds=5, what="the level is sent")
    late = mosquitto.listen("wildlane/v1/test/state/#")

    wait_until(lambda: late.got("/state/"), seconds=5, what="a late subscriber gets the level")
    assert late.got("/state/") == ["new"]
    sender.stop(1)
    late.stop(checked=False)  # the texts stand for levels


def test_a_killed_publisher_is_told_by_its_will(mosquitto: Mosquitto, journal: Journal) -> None:
    listener = mosquitto.listen("wildlane/v1/test/status")
    sender = publisher(mosquitto.port, journal)
    sender.start()
    wait_until(lambda: statuses(listener) == ["online"], seconds=10, what="birth")
    assert sender.stop(1) == 0
    wait_until(lambda: statuses(listener) == ["online", "offline"], seconds=10, what="goodbye")
    listener.stop()


def test_the_embedded_broker_serves_retained_levels_and_events(journal: Journal) -> None:
    with EmbeddedBroker(0) as broker:
        sender = publisher(broker.port, journal)
        journal.append([draft(situation) for situation in one_life()])
        sender.start()
        wait_until(lambda: journal.counts() == (0, 0), seconds=10, what="both alerts are with the broker")
        sender.stop(1)


def test_a_port_that_is_taken_is_one_line() -> None:
    with (
        EmbeddedBroker(0) as first,
        pytest.raises(ConfigError, match=r"can't listen on 127\.0\.0\.1:\d+ .* set another port"),
    ):
        EmbeddedBroker(first.port)


def test_a_broker_that_is_not_there_is_named() -> None:
    port = free_port()

    assert f"broker 127.0.0.1:{port} can't be reached" in (
        check_reachable(Address(host="127.0.0.1", port=port, client_id="x")) or ""
    )


def test_a_state_folder_has_one_writer(tmp_path: Path) -> None:
    first = Journal(tmp_path)

    with pytest.raises(StoreError, match="in use by another running wildlane"):
        Journal(tmp_path)

    first.close()
    Journal(tmp_path).close()


def test_a_consumer_asks_for_a_range_again_and_gets_it_in_order(mosquitto: Mosquitto, journal: Journal) -> None:
    listener, sender = mosquitto.listen(), publisher(mosquitto.port, journal)
    journal.append([draft(situation) for _ in range(5) for situation in one_life()])
    sender.start()
    wait_until(lambda: journal.counts() == (0, 0), seconds=20, what="all ten are delivered")

    answer = request(mosquitto.port, "replay", json.dumps({"journal": journal.id, "first": 3, "last": 6}))

    wait_until(lambda: len(listener.got("/event/north")) == 14, seconds=10, what="four came again")
    events = listener.got("/event/north")
    assert answer["accepted"]
    assert events[10:] == events[2:6]  # the same bytes, so that consumers can tell repeats by their id
    sender.stop(2)
    listener.stop()


@pytest.mark.parametrize(
    ("command", "payload", "why"),
    [
        ("replay", '{"journal": "another", "first": 1, "last": 2}', "journal another is not here"),
        ("replay", '{"journal": "JOURNAL", "first": 1, "last": 20000}', "at most 10000 at once"),
        ("replay", '{"journal": "JOURNAL", "first": 9, "last": 2}', "first <= last does not hold"),
        ("replay", "no json at all", "not understood"),
        ("explode", "{}", "no command 'explode'"),
        ("dismiss", '{"situation": "x", "by": "me"}', "situation x is not open"),
        ("confirm", '{"situation": "x"}', "by: Field required"),
        ("test-alert", '{"zone": "moon", "by": "me"}', "no zone 'moon'; there are: none"),
        ("replay", '{"journal": "JOURNAL", "first": 1, "last": 99999999999999999999}', "less than or equal to"),
        ("dismiss", '{"situation": "x", "by": "me\\nERROR forged"}', "String should match pattern"),
        ("ping", '{"loud": true}', "loud: Extra inputs are not permitted"),
    ],
)
def test_a_command_that_makes_no_sense_is_answered_with_the_reason(
    mosquitto: Mosquitto, journal: Journal, command: str, payload: str, why: str
) -> None:
    sender = publisher(mosquitto.port, journal)
    sender.start()
    wait_until(sender.connected.is_set, seconds=10, what="connected")

    answer = request(mosquitto.port, command, payload.replace("JOURNAL", journal.id))

    assert not answer["accepted"]
    assert why in str(answer["detail"])
    sender.stop(1)


def test_no_message_ends_the_session_and_retained_ones_are_not_heard(mosquitto: Mosquitto, journal: Journal) -> None:
    sender = publisher(mosquitto.port, journal)
    sender.start()
    wait_until(sender.connected.is_set, seconds=10, what="connected")

    def say(topic: str, text: str, *options: str) -> None:
        command = ["mosquitto_pub", "-V", "5", "-p", str(mosquitto.port), "-t", f"wildlane/v1/test/{topic}", "-m", text]
        subprocess.run([*command, "-q", "1", *options], check=True)

    say("ack/tmc", '{"journal": "x", "upto": 99999999999999999999}')
    say("ack/a name of ANY kind", "{}")
    say("cmd/replay", '{"journal": "x"}', "-r")
    for number in range(120):
        say(f"ack/n{number}", json.dumps({"journal": journal.id, "upto": 0}))
    assert request(mosquitto.port, "ping", "{}")["accepted"]

    assert sender.connected.is_set()
    assert len(journal.consumers()) == 100
    sender.stop(1)


def test_a_flood_of_commands_is_refused(journal: Journal) -> None:
    desk = ConsumerDesk(journal, frozenset({"road"}))
    asked = Heard(topic="cmd/test-alert", payload=b'{"zone": "road", "by": "me"}', reply_to="", correlation=b"")

    answers = [json.loads(desk.hear(asked)) for _ in range(30)]

    assert [answer["accepted"] for answer in answers] == [True] * 20 + [False] * 10
    assert len(list(desk.orders())) == 20


def test_receipts_of_consumers_are_remembered_and_nonsense_is_not(mosquitto: Mosquitto, journal: Journal) -> None:
    sender = publisher(mosquitto.port, journal)
    sender.start()
    wait_until(sender.connected.is_set, seconds=10, what="connected")
    good = {"journal": journal.id, "upto": 7}
    for consumer, payload in (
        ("signs", good),
        ("signs", {**good, "upto": 5}),  # an older one that came late
        ("tmc", {**good, "upto": -1}),
        ("tmc", {**good, "journal": "another"}),
    ):
        subprocess.run(
            ["mosquitto_pub", "-V", "5", "-p", str(mosquitto.port), "-t", f"wildlane/v1/test/ack/{consumer}",
             "-m", json.dumps(payload), "-q", "1"],
            check=True,
        )  # fmt: skip

    wait_until(lambda: journal.consumers() == {"signs": 7}, seconds=10, what="the receipt is written down")
    sender.stop(1)
    assert journal.consumers() == {"signs": 7}


def to_format(version: int, file: Path) -> None:
    """Turn a journal into what an older program left."""
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("ALTER TABLE journal DROP COLUMN pruned")
        db.execute("ALTER TABLE situation DROP COLUMN digest")
        for seq, event in db.execute("SELECT seq, event FROM outbox").fetchall():
            told = hashlib.sha256(f"{seq} {event}".encode()).hexdigest()
            db.execute("UPDATE outbox SET digest = ? WHERE seq = ?", (told, seq))
        if version == 1:
            db.execute("DROP TABLE consumer")
            db.execute("ALTER TABLE outbox DROP COLUMN digest")
        db.execute(f"PRAGMA user_version = {version}")


@pytest.mark.parametrize("version", [1, 2])
def test_a_journal_of_an_older_format_is_taken_over(tmp_path: Path, version: int) -> None:
    journal = Journal(tmp_path)
    journal.append([draft(situation) for _ in range(3) for situation in one_life()])
    journal.append([draft(one_life()[0])])
    for seq in (1, 2, 4):  # 3 is not delivered: what is older and younger is forgotten around it
        journal.mark_acked(journal.id, seq)
    journal.forget_before(datetime.now(UTC) + timedelta(days=1))
    name, rows = journal.id, journal.unsent(None, 9)
    journal.close()
    to_format(version, tmp_path / FILE)

    again = Journal(tmp_path)

    assert (again.id, again.problem) == (name, "")
    assert again.unsent(None, 9) == rows
    assert [row.seq for row in rows] == [3, 5, 6, 7]
    assert again.consumers() == {}
    assert [alert.data.seq for alert in again.end_left_open(datetime.now(UTC))] == [8]
    again.close()


def test_an_event_that_was_flipped_in_an_older_format_is_not_taken_over_as_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([draft(one_life()[0])])
    journal.close()
    to_format(2, tmp_path / FILE)
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as db:
        db.execute("UPDATE outbox SET event = replace(event, 'dog', 'fog')")

    again = Journal(tmp_path)

    assert "was damaged" in again.problem
    again.close()
