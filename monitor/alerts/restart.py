"""The last word on a situation that nobody watches any more, since the program that did was killed."""

from __future__ import annotations

import json
from datetime import datetime

from monitor.alerts.schema import EVENT_TYPES, Alert, utc_text


def ended_by_restart(newest: str, journal: str, seq: int, now: datetime) -> Alert:
    """Return the end of a situation, with the reason `restart`.

    Args:
        newest: its newest event, as published; perhaps by an older program, or from another journal.
        journal: in which the end is told.
        seq: its number there.
        now: what the wall clock says; it may have been set back.

    Raises:
        ValueError: the event can't be read, or lacks what this program tells of every situation.
    """
    Alert.model_validate_json(newest)
    event = json.loads(newest)
    data, situation = event["data"], event["data"]["situation"]
    moment = max(utc_text(now), situation["observed"])
    situation |= {
        "version": situation["version"] + 1,
        "phase": "end",
        "ended": moment,
        "endReason": "restart",
        "validUntil": moment,
    }
    data |= {
        "seq": seq,
        "journal": journal,
        "because": ["the program was restarted and does not see it any more"],
    }
    data["provenance"]["decided"] = moment
    event |= {
        "id": f"{situation['id']}.{situation['version']}",
        "type": EVENT_TYPES["end"],
        "time": moment,
        "sequence": f"{seq:016d}",
    }
    return Alert.model_validate_json(json.dumps(event))
