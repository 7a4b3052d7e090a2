"""An alert as DATEX II v3: a SituationPublication with one `AnimalPresenceObstruction`, as XML or as JSON.

References:
    DATEX II 3.1 schemas, https://docs.datex2.eu
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET  # only written here, never read
from typing import Any

from adapters.errors import InputError
from monitor.alerts.schema import Alert, utc_text

SPACES = {
    "d2": "http://datex2.eu/schema/3/d2Payload",
    "com": "http://datex2.eu/schema/3/common",
    "loc": "http://datex2.eu/schema/3/locationReferencing",
    "sit": "http://datex2.eu/schema/3/situation",
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
}
STATUS = {"real": "real", "test": "test", "exercise": "technicalExercise"}
MOVES_MPS = 0.3  # slower than this an animal stands

Tree = dict[str, Any]  # prefixed name -> text or subtree; "@name" is an attribute


def to_xml(alert: Alert, *, country: str) -> str:
    """Return the alert as a DATEX II v3.1 payload.

    Args:
        alert: with a place.
        country: two letters, ISO 3166-1: whose the national identifier of the publication is.

    Raises:
        InputError: the alert has no place.
    """
    for prefix, uri in SPACES.items():
        ET.register_namespace(prefix, uri)
    return ET.tostring(_element("d2:payload", _publication(alert, country)), encoding="unicode", xml_declaration=True)


def to_json(alert: Alert, *, country: str) -> str:
    """Return the same tree as JSON, names without prefixes, as the DATEX II JSON profile spells them; see `to_xml`."""
    return json.dumps({"payload": _bare(_publication(alert, country))})


def _publication(alert: Alert, country: str) -> Tree:
    data = alert.data
    situation = {
        "@id": data.situation.id,
        "sit:overallSeverity": data.severity,
        "sit:situationVersionTime": utc_text(alert.time),
        "sit:headerInformation": {"com:informationStatus": STATUS[data.mode]},
        "sit:situationRecord": _record(alert),
    }
    return {
        "@lang": "en",
        "@modelBaseVersion": "3",
        "@xsi:type": "sit:SituationPublication",
        "com:publicationTime": utc_text(alert.time),
        "com:publicationCreator": {"com:country": country, "com:nationalIdentifier": data.where.site},
        "sit:situation": situation,
    }


def _record(alert: Alert) -> Tree:
    data, situation = alert.data, alert.data.situation
    ended = {} if situation.ended is None else {"com:overallEndTime": utc_text(situation.ended)}
    period = {"com:overallStartTime": utc_text(situation.first_observed), **ended}
    return {
        "@id": f"{situation.id}-1",
        "@version": str(situation.version),
        "@xsi:type": "sit:AnimalPresenceObstruction",
        "sit:situationRecordCreationTime": utc_text(situation.first_observed),
        "sit:situationRecordObservationTime": utc_text(situation.observed),
        "sit:situationRecordVersionTime": utc_text(alert.time),
        "sit:probabilityOfOccurrence": data.codes.datex2.probability_of_occurrence,
        "sit:severity": data.severity,
        "sit:safetyRelatedMessage": "true",  # EU 886/2013, category b
        "sit:source": {
            "com:sourceIdentification": data.where.cameras[-1],
            "com:sourceType": "cameraObservation",
        },
        "sit:validity": {
            "com:validityStatus": "definedByValidityTimeSpec" if situation.ended else "active",
            "com:validityTimeSpecification": period,
        },
        "sit:locationReference": _place(alert),
        "sit:numberOfObstructions": str(data.animal.count),
        "sit:mobilityOfObstruction": _mobility(data.animal.speed_mps),
        **({} if data.animal.alive is None else {"sit:alive": str(data.animal.alive).lower()}),
        "sit:animalPresenceType": data.codes.datex2.animal_presence_type,
    }


def _place(alert: Alert) -> Tree:
    where = alert.data.where
    if where.point is None:
        raise InputError(
            f"alert {alert.id}: has no place, DATEX II needs one; give camera {where.cameras[-1]} "
            "latitude_deg and longitude_deg in config.toml"
        )
    bearing = {} if where.road_bearing_deg is None else {"loc:bearing": str(round(where.road_bearing_deg) % 360)}
    return {
        "@xsi:type": "loc:PointLocation",
        "loc:pointByCoordinates": {
            **bearing,
            "loc:pointCoordinates": {
                "loc:latitude": f"{where.point.lat:.7f}",
                "loc:longitude": f"{where.point.lon:.7f}",
                "loc:horizontalPositionAccuracy": {"loc:accuracyPercentile95": f"{where.point.accuracy_m:.1f}"},
            },
        },
    }


def _mobility(speed_mps: float | None) -> Tree:
    if speed_mps is None:
        return {"sit:mobilityType": "unknown"}
    if speed_mps < MOVES_MPS:
        return {"sit:mobilityType": "stationary"}
    return {"sit:mobilityType": "mobile", "sit:speed": f"{3.6 * speed_mps:.1f}"}


def _element(name: str, content: Tree | str) -> ET.Element:
    element = ET.Element(_qualified(name))
    if isinstance(content, str):
        element.text = content
        return element
    for key, value in content.items():
        if key.startswith("@"):
            element.set(_qualified(key[1:]), value)
        else:
            element.append(_element(key, value))
    return element


def _qualified(name: str) -> str:
    prefix, colon, local = name.partition(":")
    return f"{{{SPACES[prefix]}}}{local}" if colon else name


def _bare(content: Tree | str) -> Tree | str:
    if isinstance(content, str):
        return content
    return {
        key.removeprefix("@").partition(":")[2] or key.removeprefix("@"): _bare(value) for key, value in content.items()
    }
