"""What is committed under docs/contracts is what the models say, and what the models say is what is published."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from monitor.alerts.contracts import TOPICS, asyncapi, json_schema
from monitor.alerts.schema import SCHEMA_ID, Alert

CONTRACTS = Path(__file__).parents[2] / "docs/contracts"
EXAMPLE = json.loads(Path(__file__).with_name("alert.example.json").read_text())


@pytest.mark.parametrize("name", TOPICS)
def test_the_committed_schemas_are_the_models(name: str) -> None:
    assert json.loads((CONTRACTS / f"{name}.schema.json").read_text()) == json_schema(TOPICS[name].model)
    jsonschema.Draft202012Validator.check_schema(json_schema(TOPICS[name].model))


def test_the_committed_asyncapi_document_is_the_topics() -> None:
    assert json.loads((CONTRACTS / "asyncapi.json").read_text()) == asyncapi()


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()

    def check(node: object) -> None:
        if isinstance(node, dict):
            reference = node.get("$ref", "")
            if reference.startswith(("#/components", "#/channels")):
                target: object = document
                for part in reference[2:].split("/"):
                    target = target[part]
            for value in node.values():
                check(value)
        elif isinstance(node, list):
            for value in node:
                check(value)

    check(document)
    assert {operation["action"] for operation in document["operations"].values()} == {"send", "receive"}


def test_the_designs_example_is_valid_by_the_generated_schema() -> None:
    jsonschema.validate(EXAMPLE, json_schema(Alert))
    Alert.model_validate_json(json.dumps(EXAMPLE))


def test_an_alert_names_the_schema_that_is_shipped_for_it() -> None:
    shipped = {json.loads(file.read_text())["$id"]: file.name for file in CONTRACTS.glob("*.schema.json")}

    assert shipped[EXAMPLE["dataschema"]] == "event.schema.json"
    assert json_schema(Alert)["$id"] == SCHEMA_ID == EXAMPLE["dataschema"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("data", "animal", "size"), "huge"),
        (("data", "certainty", "probability"), 1.2),
        (("data", "where", "point", "lat"), 91),
        (("sequence",), "18231"),
        (("data", "surprise"), 1),
    ],
)
def test_wrong_fields_are_refused_by_schema_and_model(path: tuple[str, ...], value: object) -> None:
    wrong = json.loads(json.dumps(EXAMPLE))
    inner = wrong
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value

    assert list(jsonschema.Draft202012Validator(json_schema(Alert)).iter_errors(wrong))
    with pytest.raises(ValueError, match="validation error"):
        Alert.model_validate_json(json.dumps(wrong))
