"""The contract with consumers, generated from the models: JSON Schemas and an AsyncAPI 3 document.

`tools/make_contracts.py` writes them to `docs/contracts/`; a test holds that what is committed is what the models say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from monitor import VERSION
from monitor.alerts import schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A topic below `wildlane/v1/{site}/` and what is said there.

    Attributes:
        address: with `{placeholders}`.
        model: of its payload.
        sender: who publishes.
        retained, qos: how.
        summary: in a sentence.
    """

    address: str
    model: type[schema.Model]
    sender: Literal["site", "consumer"]
    retained: bool
    qos: Literal[0, 1]
    summary: str


TOPICS = {
    "status": Topic(
        address="status",
        model=schema.SiteStatus,
        sender="site",
        retained=True,
        qos=1,
        summary="Birth and will: online, degraded or offline.",
    ),
    "info": Topic(
        address="info",
        model=schema.SiteInfo,
        sender="site",
        retained=True,
        qos=1,
        summary="Zones, approaches, signs, cameras, classes; alerts pin its version.",
    ),
    "health": Topic(
        address="health",
        model=schema.SiteHealth,
        sender="site",
        retained=True,
        qos=0,
        summary="Cameras and backlog, on change and every 30 s.",
    ),
    "state": Topic(
        address="state/{zone}",
        model=schema.ZoneState,
        sender="site",
        retained=True,
        qos=1,
        summary="The level of a zone, on change and every 10 s, gone after 30 s: drive signs from this.",
    ),
    "event": Topic(
        address="event/{zone}",
        model=schema.Alert,
        sender="site",
        retained=False,
        qos=1,
        summary="Every version of every situation, in order, at least once; `source` and `id` tell repeats.",
    ),
    "ack": Topic(
        address="ack/{consumer}",
        model=schema.Acknowledgement,
        sender="consumer",
        retained=False,
        qos=1,
        summary="A consumer has everything up to a number.",
    ),
    "replay": Topic(
        address="cmd/replay",
        model=schema.ReplayCommand,
        sender="consumer",
        retained=False,
        qos=1,
        summary="Ask for a range of events again; they come on event/{zone} as they were.",
    ),
    "ping": Topic(
        address="cmd/ping",
        model=schema.PingCommand,
        sender="consumer",
        retained=False,
        qos=1,
        summary="Ask whether the site hears.",
    ),
    "confirm": Topic(
        address="cmd/confirm",
        model=schema.JudgementCommand,
        sender="consumer",
        retained=False,
        qos=1,
        summary="A person has seen that an open situation is one: it is told again, with who confirmed it.",
    ),
    "dismiss": Topic(
        address="cmd/dismiss",
        model=schema.JudgementCommand,
        sender="consumer",
        retained=False,
        qos=1,
        summary="A person has seen that an open situation is none: it ends as a false alarm.",
    ),
    "test-alert": Topic(
        address="cmd/test-alert",
        model=schema.TestAlertCommand,
        sender="consumer",
        retained=False,
        qos=1,
        summary="Ask for an alert of mode `test` in a zone.",
    ),
    "update": Topic(
        address="cmd/update",
        model=schema.UpdateCommand,
        sender="consumer",
        retained=False,
        qos=1,
        summary="Look at once for a release of the centre.",
    ),
    "release": Topic(
        address="release",
        model=schema.SiteRelease,
        sender="site",
        retained=True,
        qos=1,
        summary="Which release of class sets the site has, and whether it is in force.",
    ),
    "reply": Topic(
        address="reply/{client}",
        model=schema.Reply,
        sender="site",
        retained=False,
        qos=1,
        summary="The answer to a command, where MQTT 5's response topic asks for it.",
    ),
}


def json_schema(model: type[schema.Model]) -> dict[str, Any]:
    """Return the JSON Schema of a payload."""
    generated = model.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": DIALECT, "$id": schema_id(model), **generated}


def schema_id(model: type[schema.Model]) -> str:
    """Return the name of a payload's schema; an alert's is the one that it gives itself."""
    return schema.SCHEMA_ID if model is schema.Alert else f"urn:wildlane:schema:{model.__name__.lower()}:1.0"


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of all topics."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Wildlane",
            "version": VERSION,
            "description": f"Animals on the road, for traffic control. {schema.ADVISORY}",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"broker": {"host": "broker.example:8883", "protocol": "mqtts", "protocolVersion": "5"}},
        "channels": {name: _channel(name, topic) for name, topic in TOPICS.items()},
        "operations": {name: _operation(name, topic) for name, topic in TOPICS.items()},
        "components": {"messages": {name: _message(name, topic) for name, topic in TOPICS.items()}},
    }


def _channel(name: str, topic: Topic) -> dict[str, Any]:
    address = f"wildlane/v1/{{site}}/{topic.address}"
    placeholders = [part[1:-1] for part in address.split("/") if part.startswith("{")]
    return {
        "address": address,
        "description": topic.summary,
        "parameters": {placeholder: {"description": f"the {placeholder}"} for placeholder in placeholders},
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }


def _operation(name: str, topic: Topic) -> dict[str, Any]:
    return {
        "action": "send" if topic.sender == "site" else "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
        "bindings": {"mqtt": {"qos": topic.qos, "retain": topic.retained}},
    }


def _message(name: str, topic: Topic) -> dict[str, Any]:
    content_type = "application/cloudevents+json" if topic.model is schema.Alert else "application/json"
    return {
        "name": name,
        "summary": topic.summary,
        "contentType": content_type,
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": json_schema(topic.model),
        },
    }
