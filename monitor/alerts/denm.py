"""An alert as an ETSI DENM (EN 302 637-3), UPER-encoded: what a roadside unit repeats to cars.

A start or update is a new or updated DENM, an end its cancellation; `actionID` stays the same through a situation: the
journal allots the sequence number. Receivers of release 1 must not get sub-causes above 4, hence `release`.

References:
    ETSI EN 302 637-3 v1.3.1 and TS 102 894-2 (common data dictionary); pycrate's compiled ASN.1, extra `convert`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from adapters.errors import ConfigError, InputError
from monitor.alerts.schema import Alert

EPOCH = datetime(2004, 1, 1, tzinfo=UTC)
LEAP_SECONDS = 5  # between 2004 and 2026: TimestampIts counts them, UTC does not
ROADSIDE_UNIT = 15  # stationType
PROTOCOL_VERSION, DENM_ID = 2, 1
UNAVAILABLE = {"altitude": 800_001, "heading": 3601, "ellipse": 4095, "confidence": 127}
MOST_SECONDS = 86_400
MOST_TRACES, MOST_POINTS = 7, 40
MOST_DELTA = 131_071  # tenths of a microdegree
DISTANCES = (  # upper bound in metres -> relevanceDistance
    (50, "lessThan50m"),
    (100, "lessThan100m"),
    (200, "lessThan200m"),
    (500, "lessThan500m"),
    (1_000, "lessThan1000m"),
    (5_000, "lessThan5km"),
    (10_000, "lessThan10km"),
)

Point = tuple[float, float]  # latitude, longitude in degrees, WGS84


def to_denm(alert: Alert, *, release: Literal[1, 2] = 1, traces: Sequence[Sequence[Point]] = ()) -> bytes:
    """Return the alert as a UPER-encoded DENM.

    Args:
        alert: with a place, and real: a drill must not reach cars.
        release: which generation of sub-causes the receivers know.
        traces: the ways by which traffic comes to the place, nearest point first; of the site's approaches.

    Raises:
        InputError: the alert has no place, or is not real.
        ConfigError: the extra `convert` is not installed, or a trace is longer than a DENM holds.
    """
    if alert.data.mode != "real":
        raise InputError(f"alert {alert.id}: mode is {alert.data.mode}; only real ones are sent to cars")
    denm = _codec()
    denm.set_val(denm_value(alert, release=release, traces=traces))
    return bytes(denm.to_uper())


def from_denm(encoded: bytes) -> dict[str, Any]:
    """Return what a UPER-encoded DENM holds."""
    denm = _codec()
    denm.from_uper(encoded)
    return dict(denm.get_val())


def denm_value(alert: Alert, *, release: Literal[1, 2], traces: Sequence[Sequence[Point]]) -> dict[str, Any]:
    """Return the alert as the value tree of a DENM PDU."""
    station = alert.data.codes.etsi.station_id
    ended = alert.data.situation.ended is not None
    body: dict[str, Any] = {"management": _management(alert)}
    if not ended:  # a termination carries neither situation nor location
        body |= {"situation": _situation(alert, release), "location": _location(alert, traces)}
    header = {"protocolVersion": PROTOCOL_VERSION, "messageID": DENM_ID, "stationID": station}
    return {"header": header, "denm": body}


def _management(alert: Alert) -> dict[str, Any]:
    data, situation = alert.data, alert.data.situation
    lasts_s = math.ceil((situation.valid_until - situation.first_observed).total_seconds())
    management = {
        "actionID": {
            "originatingStationID": data.codes.etsi.station_id,
            "sequenceNumber": data.codes.etsi.sequence_number,
        },
        "detectionTime": _timestamp(situation.first_observed),
        "referenceTime": _timestamp(alert.time),
        "eventPosition": _position(alert),
        "relevanceDistance": _distance(alert),
        "relevanceTrafficDirection": "allTrafficDirections",
        "validityDuration": min(MOST_SECONDS, max(0, lasts_s)),
        "stationType": ROADSIDE_UNIT,
    }
    return management | ({"termination": "isCancellation"} if situation.ended else {})


def _situation(alert: Alert, release: Literal[1, 2]) -> dict[str, Any]:
    codes = alert.data.codes.etsi
    sub_cause = codes.sub_cause_code_r1 if release == 1 else codes.sub_cause_code
    return {
        "informationQuality": codes.information_quality,
        "eventType": {"causeCode": codes.cause_code, "subCauseCode": sub_cause},
    }


def _location(alert: Alert, traces: Sequence[Sequence[Point]]) -> dict[str, Any]:
    animal = alert.data.animal
    location: dict[str, Any] = {"traces": [_trace(alert, trace) for trace in traces] or [[]]}
    if len(traces) > MOST_TRACES:
        raise ConfigError(f"{len(traces)} approaches; a DENM holds {MOST_TRACES} traces")
    if animal.speed_mps is not None:
        speed = min(16_382, round(100 * animal.speed_mps))  # 0.01 m/s
        location["eventSpeed"] = {"speedValue": speed, "speedConfidence": UNAVAILABLE["confidence"]}
    if animal.heading_deg is not None:
        heading = round(10 * animal.heading_deg) % 3_600
        location["eventPositionHeading"] = {"headingValue": heading, "headingConfidence": UNAVAILABLE["confidence"]}
    return location


def _trace(alert: Alert, trace: Sequence[Point]) -> list[dict[str, Any]]:
    """Return a way as steps from point to point, beginning at the event."""
    where = _point(alert)
    steps, (lat, lon) = [], (where.lat, where.lon)
    if len(trace) > MOST_POINTS:
        raise ConfigError(f"an approach of {len(trace)} points; a DENM's trace holds {MOST_POINTS}")
    for next_lat, next_lon in trace:
        step = (round(1e7 * (next_lat - lat)), round(1e7 * (next_lon - lon)))
        if max(map(abs, step)) > MOST_DELTA:
            raise ConfigError("two points of an approach are more than 1.4 km apart; draw one between them")
        delta = {"deltaLatitude": step[0], "deltaLongitude": step[1], "deltaAltitude": 12_800}  # unavailable
        steps.append({"pathPosition": delta})
        lat, lon = next_lat, next_lon
    return steps


def _position(alert: Alert) -> dict[str, Any]:
    where = _point(alert)
    radius_cm = min(4_094, round(100 * where.accuracy_m))  # 40.94 m and more are said the same way
    return {
        "latitude": round(1e7 * where.lat),
        "longitude": round(1e7 * where.lon),
        "positionConfidenceEllipse": {
            "semiMajorConfidence": radius_cm,
            "semiMinorConfidence": radius_cm,
            "semiMajorOrientation": UNAVAILABLE["heading"],
        },
        "altitude": {"altitudeValue": UNAVAILABLE["altitude"], "altitudeConfidence": "unavailable"},
    }


def _point(alert: Alert) -> Any:  # noqa: ANN401  # a PointPart, once it is there
    if alert.data.where.point is None:
        raise InputError(f"alert {alert.id}: has no place, a DENM needs one; give its camera a position in config.toml")
    return alert.data.where.point


def _distance(alert: Alert) -> str:
    metres = max((approach.relevance_m for approach in alert.data.where.approaches), default=500.0)
    return next((name for bound, name in DISTANCES if metres < bound), "over10km")


def _timestamp(moment: datetime) -> int:
    """Return TimestampIts: milliseconds since 2004 with leap seconds."""
    return round(1000 * ((moment - EPOCH).total_seconds() + LEAP_SECONDS))


def _codec() -> Any:  # noqa: ANN401  # pycrate has no types
    try:
        from pycrate_asn1dir import ITS_DENM_3
    except ImportError:
        raise ConfigError("pycrate is missing; run: pip install 'wildlane[convert]'") from None
    return ITS_DENM_3.DENM_PDU_Descriptions.DENM
