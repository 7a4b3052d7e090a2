"""An alert in the road world's own languages, checked by their own schemas and codecs."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import ConfigError, InputError
from monitor.alerts.datex2 import SPACES, to_json, to_xml
from monitor.alerts.denm import LEAP_SECONDS, denm_value, from_denm, to_denm
from monitor.alerts.schema import EVENT_TYPES, Alert

EXAMPLE = Path(__file__).with_name("alert.example.json")


def example(**changes: Any) -> Alert:
    """The design's example, with parts of `data` replaced: situation, where, animal, codes, mode."""
    content = json.loads(EXAMPLE.read_text())
    for part, values in changes.items():
        if isinstance(values, dict):
            content["data"][part] |= values
        else:
            content["data"][part] = values
    content["type"] = EVENT_TYPES[content["data"]["situation"]["phase"]]
    return Alert.model_validate_json(json.dumps(content))


ENDED = {"phase": "end", "ended": "2026-10-07T04:13:00.000Z", "endReason": "left"}
ALERTS = {
    "update": example(),
    "end": example(situation=ENDED),
    "unknown animal, drill": example(
        mode="exercise", animal={"class": "unknown-animal", "taxon": None, "speedMps": None, "headingDeg": None}
    ),
    "standing": example(animal={"speedMps": 0.0, "alive": None}),
    "no bearing": example(where={"roadBearingDeg": None, "approaches": []}),
}


@pytest.fixture(scope="module")
def datex2_schema(data: Path) -> Any:
    import xmlschema

    return xmlschema.XMLSchema(data / "standards/datex2-3.1/DATEXII_3_D2Payload.xsd")


@pytest.mark.parametrize("name", ALERTS)
def test_datex2_is_valid_by_the_published_schemas(datex2_schema: Any, name: str) -> None:
    assert [error.reason for error in datex2_schema.iter_errors(to_xml(ALERTS[name], country="no"))] == []


def test_the_published_schemas_refuse_what_is_wrong(datex2_schema: Any) -> None:
    right = to_xml(ALERTS["update"], country="no")

    for old, new in (
        ("largeAnimalsOnTheRoad", "dragonsOnTheRoad"),
        ("<sit:probabilityOfOccurrence>probable</sit:probabilityOfOccurrence>", ""),
        ("<com:informationStatus>real<", "<com:informationStatus>perhaps<"),
    ):
        assert old in right
        assert not datex2_schema.is_valid(right.replace(old, new))


def test_datex2_says_what_the_alert_says() -> None:
    record = ET.fromstring(to_xml(ALERTS["update"], country="no")).find(".//sit:situationRecord", SPACES)

    assert record is not None
    assert record.get(f"{{{SPACES['xsi']}}}type") == "sit:AnimalPresenceObstruction"
    told = {
        path: record.findtext(f".//{path}", namespaces=SPACES)
        for path in ("sit:animalPresenceType", "loc:latitude", "sit:speed", "com:sourceIdentification")
    }
    assert told == {
        "sit:animalPresenceType": "largeAnimalsOnTheRoad",
        "loc:latitude": "61.1370421",
        "sit:speed": "5.0",
        "com:sourceIdentification": "cam-02",
    }


def test_the_end_of_a_situation_keeps_its_identity_in_datex2() -> None:
    first, last = (
        json.loads(to_json(ALERTS[name], country="no"))["payload"]["situation"] for name in ("update", "end")
    )

    assert first["id"] == last["id"]
    assert first["situationRecord"]["validity"]["validityStatus"] == "active"
    assert last["situationRecord"]["validity"]["validityTimeSpecification"]["overallEndTime"] == ENDED["ended"]


@pytest.mark.parametrize("name", ["update", "end", "standing", "no bearing"])
def test_a_denm_survives_encoding_and_decoding(name: str) -> None:
    alert, traces = ALERTS[name], [[(61.1375, 11.3714), (61.139, 11.371)]]

    decoded = from_denm(to_denm(alert, traces=traces))

    assert decoded == denm_value(alert, release=1, traces=traces)
    assert ("situation" in decoded["denm"]) == (name != "end")
    assert decoded["denm"]["management"].get("termination") == ("isCancellation" if name == "end" else None)


def test_each_generation_of_receivers_gets_its_own_sub_cause() -> None:
    causes = [from_denm(to_denm(ALERTS["update"], release=r))["denm"]["situation"]["eventType"] for r in (1, 2)]

    assert causes == [{"causeCode": 11, "subCauseCode": 4}, {"causeCode": 11, "subCauseCode": 6}]


def test_the_action_stays_the_same_through_a_situation() -> None:
    actions = [from_denm(to_denm(ALERTS[name]))["denm"]["management"]["actionID"] for name in ("update", "end")]

    assert actions[0] == actions[1] == {"originatingStationID": 4242, "sequenceNumber": 1733}


def test_its_time_counts_leap_seconds() -> None:
    detection = denm_value(ALERTS["update"], release=1, traces=())["denm"]["management"]["detectionTime"]

    assert detection == (1_791_346_326_120 - 1_072_915_200_000) + 1000 * LEAP_SECONDS


@pytest.mark.parametrize("convert", [lambda alert: to_xml(alert, country="no"), to_denm])
def test_an_alert_without_a_place_is_refused_with_the_reason(convert: Any) -> None:
    with pytest.raises(InputError, match="has no place"):
        convert(example(where={"point": None}))


def test_a_drill_is_not_sent_to_cars() -> None:
    with pytest.raises(InputError, match="mode is exercise; only real ones"):
        to_denm(ALERTS["unknown animal, drill"])


def test_an_approach_too_coarse_for_a_denm_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"more than 1\.4 km apart"):
        to_denm(ALERTS["update"], traces=[[(61.2, 11.3)]])
