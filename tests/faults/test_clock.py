"""The wall clock of a running daemon is set: timers do not care, and what it tells says that it can't be relied on."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from monitor.alerts.schema import Alert, SiteHealth, ZoneState
from monitor.config import load_config
from monitor.daemon import Daemon
from tests.conftest import DEMO_CLIP, Mosquitto, wait_until, write_config

BOOT = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)  # no battery, no time server yet
AHEAD = datetime(2027, 11, 23, tzinfo=UTC)


@pytest.mark.drill
def test_a_clock_that_boots_in_1970_and_jumps_a_year_ahead_and_an_hour_back_loses_no_alert(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    listener = mosquitto.listen()
    config = write_config(tmp_path / "c.toml", {"road": str(DEMO_CLIP)}, mosquitto.port)
    told: list[Alert] = []

    def watch() -> None:
        Daemon(load_config(config), config, tmp_path / "state", tell=told.append).run()

    daemon = threading.Thread(target=watch)
    with time_machine.travel(BOOT) as wall:
        daemon.start()
        wait_until(lambda: told, seconds=20, what="the first alert")
        wall.move_to(AHEAD)
        time.sleep(6)
        wall.move_to(AHEAD - timedelta(hours=1))
        daemon.join(timeout=40)
    assert not daemon.is_alive()

    phases = [alert.data.situation.phase for alert in told]
    assert phases.count("start") == phases.count("end") == 3
    events = [Alert.model_validate_json(text) for text in listener.got("/event/road")]
    assert [event.data.seq for event in events] == list(range(1, len(told) + 1))
    years = {event.data.situation.first_observed.year for event in events}
    assert years == {BOOT.year, AHEAD.year}
    assert not any(event.data.provenance.clock.synced for event in events)
    levels = {ZoneState.model_validate_json(text).level for text in listener.got("/state/road")}
    assert levels == {"active", "unknown"}  # never clear: nobody can tell how long that would hold
    healths = [SiteHealth.model_validate_json(text) for text in listener.got("/health")]
    assert {health.time.year for health in healths} == years
    assert not any(health.clock.synced for health in healths)
    print(f"clock set 3 times: {len(events)} of {len(told)} alerts arrived, in order")
    listener.stop()
