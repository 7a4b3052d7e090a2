from __future__ import annotations

import json
from pathlib import Path

import pytest

from monitor.alerts.journal import Journal
from monitor.alerts.mirrors import Mirrors, Prefixes
from monitor.alerts.schema import ZoneState
from tests.conftest import Mosquitto, wait_until
from tests.monitor.test_alerts import publisher
from tests.monitor.test_examples import level


def test_home_assistant_finds_the_zones_and_onvif_clients_the_level(mosquitto: Mosquitto, tmp_path: Path) -> None:
    journal, listener = Journal(tmp_path), mosquitto.listen("#")
    sender = publisher(mosquitto.port, journal)
    prefixes = Prefixes(home_assistant="homeassistant", onvif="gate/7")
    mirrors = Mirrors(prefixes, sender, "test", {"road": ["north", "south"]})
    sender.start()
    topic = "gate/7/onvif-ej/RuleEngine/FieldDetector/ObjectsInside/south/road"

    mirrors.show(ZoneState.model_validate_json(level("active")))
    wait_until(lambda: listener.got(topic), seconds=10, what="the first level")
    mirrors.show(ZoneState.model_validate_json(level("clear")))
    wait_until(lambda: len(listener.got(topic)) == 2, seconds=10, what="the second level")

    mirrors.show(ZoneState.model_validate_json(level("unknown")))
    wait_until(lambda: len(listener.got(topic)) == 3, seconds=10, what="nobody knows")
    mirrors.show(ZoneState.model_validate_json(level("active", mode="test")))

    assert listener.got(topic)[2] == ""  # which takes the retained message from the broker
    inside = [json.loads(text) for text in listener.got(topic)[:2]]
    assert [message["Data"]["IsInside"] for message in inside] == [True, False]
    assert inside[0]["Source"] == {"VideoSourceConfigurationToken": "south", "Rule": "road"}
    (found,) = listener.got("homeassistant/binary_sensor/wildlane-test/road/config")
    discovery = json.loads(found)
    assert discovery["state_topic"] == "wildlane/v1/test/state/road"
    assert discovery["availability_topic"] == "wildlane/v1/test/status"
    sender.stop(1)
    listener.stop()
    journal.close()


@pytest.mark.parametrize(("word", "shown"), [("active", "ON"), ("clear", "OFF"), ("unknown", "None")])
def test_home_assistants_template_turns_a_level_into_its_words(word: str, shown: str) -> None:
    jinja2 = pytest.importorskip("jinja2")
    from monitor.alerts.mirrors import _discovery

    template = jinja2.Template(str(_discovery("test", "road")["value_template"]))

    assert template.render(value_json=json.loads(level(word))) == shown


def test_without_prefixes_nothing_is_mirrored(mosquitto: Mosquitto, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    sender = publisher(mosquitto.port, journal)

    Mirrors(Prefixes(home_assistant=None, onvif=None), sender, "test", {"road": ["north"]}).show(
        ZoneState.model_validate_json(level("active"))
    )

    assert not sender._levels
    journal.close()
