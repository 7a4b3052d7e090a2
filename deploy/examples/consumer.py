#!/usr/bin/env python3
"""A consumer that loses nothing: prints every event of a site once, in order, and fetches what it missed.

    python consumer.py --host broker.example --site rv3-km41 --name tmc --memory tmc.json >> events.jsonl

It remembers the journal and the last number it has printed. A gap, whoever was away, shows in the numbers, or in
`newest` of the site's health, and is asked for with `cmd/replay`. Receipts go to `ack/{name}`. It needs paho-mqtt 2
and nothing of Wildlane.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import time
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ASK_AGAIN_S = 3.0  # a replay that was lost on the way is asked for again
MOST_ASKED = 5  # times; what did not come then is past the site's retention
AT_ONCE = 10_000  # events that a site replays for one command


class Consumer:
    """What is known of a site's journal, and what is still missing."""

    def __init__(self, memory: Path, *, from_start: bool) -> None:
        self._memory, self._from_start = memory, from_start
        known = json.loads(memory.read_text()) if memory.exists() else {}
        self.journal: str | None = known.get("journal")
        self.upto: int = known.get("upto", 0)
        self.newest = self.upto
        self._early: dict[int, str] = {}  # came before what is missing
        self._asked_at_s, self._asked_for, self._asked = 0.0, 0, 0

    def take(self, text: str) -> list[str]:
        """Take in an event, and return those that can be told now, in order."""
        data = json.loads(text)["data"]
        self._adopt(data["journal"], data["seq"] - 1)
        if data["seq"] > self.upto:
            self._early[data["seq"]] = text
            self.newest = max(self.newest, data["seq"])
        ready = []
        while self.upto + 1 in self._early:
            self.upto += 1
            ready.append(self._early.pop(self.upto))
        return ready

    def hear_of(self, journal: str, newest: int) -> None:
        """Learn from the site's health how far its journal goes."""
        self._adopt(journal, newest)
        self.newest = max(self.newest, newest)

    def _adopt(self, journal: str, begin: int) -> None:
        """Begin with a journal: with the first event heard where we are new, with its first one where it is new."""
        if journal != self.journal:
            if self.journal is not None:
                print(f"journal {self.journal} ended, {journal} begins", file=sys.stderr)
            self.upto = begin if self.journal is None and not self._from_start else 0
            self.journal, self.newest, self._early = journal, self.upto, {}

    def wanted(self) -> dict[str, object] | None:
        """Return what to ask the site for, None where nothing is missing or it was asked a moment ago."""
        if self.newest <= self.upto or time.monotonic() - self._asked_at_s < ASK_AGAIN_S:
            return None
        last = min(min(self._early, default=self.newest + 1) - 1, self.upto + AT_ONCE)
        self._asked = self._asked + 1 if self._asked_for == self.upto + 1 else 1
        self._asked_at_s, self._asked_for = time.monotonic(), self.upto + 1
        if self._asked > MOST_ASKED:
            print(f"events {self.upto + 1} to {last} are gone for good", file=sys.stderr)
            self.upto = last
            return None
        return {"journal": self.journal, "first": self.upto + 1, "last": last}

    def remember(self) -> str:
        """Write down what was told, whole or not at all, and return it as a receipt."""
        receipt = json.dumps({"journal": self.journal, "upto": self.upto})
        draft = self._memory.with_suffix(".part")
        draft.write_text(receipt)
        with draft.open() as file:
            os.fsync(file.fileno())
        draft.replace(self._memory)
        return receipt


def main() -> None:
    """Listen until stopped."""
    parser = argparse.ArgumentParser(description="Print every event of a Wildlane site once, in order.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--site", required=True)
    parser.add_argument("--name", default="consumer", help="of this consumer, in its receipts")
    parser.add_argument("--memory", type=Path, default=Path("consumer.json"), help="what was told already")
    parser.add_argument("--username")
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--tls-ca-file")
    parser.add_argument("--from-start", action="store_true", help="begin with the oldest event the site still has")
    options = parser.parse_args()
    root, came = f"wildlane/v1/{options.site}", queue.SimpleQueue()

    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2, client_id=f"{options.name}-{options.site}", protocol=paho.MQTTv5
    )
    if options.username:
        password = options.password_file.read_text().strip() if options.password_file else None
        client.username_pw_set(options.username, password)
    if options.tls_ca_file:
        client.tls_set(ca_certs=options.tls_ca_file)
    client.reconnect_delay_set(min_delay=1, max_delay=10)
    client.on_connect = lambda c, *_: c.subscribe([(f"{root}/event/#", 1), (f"{root}/health", 1)])
    client.on_message = lambda c, userdata, message: came.put((message.topic, message.payload.decode()))
    day = Properties(PacketTypes.CONNECT)
    day.SessionExpiryInterval = 86_400  # the broker keeps for a day what comes while this program is away
    client.connect_async(options.host, options.port, keepalive=20, clean_start=False, properties=day)
    client.loop_start()

    consumer = Consumer(options.memory, from_start=options.from_start)
    while True:
        try:
            topic, text = came.get(timeout=0.5)
        except queue.Empty:
            topic, text = "", ""
        if topic.endswith("/health"):
            health = json.loads(text)
            consumer.hear_of(health["journal"], health["newest"])
        elif topic:
            for event in consumer.take(text):
                print(event, flush=True)
            client.publish(f"{root}/ack/{options.name}", consumer.remember(), qos=1)
        wanted = consumer.wanted()
        if wanted is not None and client.is_connected():
            client.publish(f"{root}/cmd/replay", json.dumps(wanted), qos=1)


if __name__ == "__main__":
    main()
