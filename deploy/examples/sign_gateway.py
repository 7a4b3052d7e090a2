#!/usr/bin/env python3
"""A sign that is driven from a zone's level, and from nothing else: prints `on`, `off` or `fault` when that changes.

    python sign_gateway.py --host broker.example --site rv3-km41 --zone carriageway-ns --on-fault flash

Events are history and may come late; `state/{zone}` is what holds now. It is told every ten seconds and expires after
thirty, counted on our own clock, so that a broker or a site that fell silent can't keep a sign on or off: then, or
where the site itself does not know, the sign goes to what its owner chose for a fault. It needs paho-mqtt 2 and
nothing of Wildlane. Instead of printing, switch the sign.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import time
from pathlib import Path
from typing import Literal

import paho.mqtt.client as paho

EXPIRES_S = 30.0  # where the broker does not say how long a level still holds
Aspect = Literal["on", "off", "fault"]


class Sign:
    """What a sign must show, by what was heard and when."""

    def __init__(self, *, real_only: bool = True) -> None:
        self._real_only = real_only
        self._level, self._holds_until_s, self._site_is_there = "unknown", 0.0, True

    def hear_level(self, text: str, now_s: float, expires_s: float) -> None:
        """Take in a message of `state/{zone}`; exercises do not move a real sign."""
        state = json.loads(text)
        if state["mode"] != "real" and self._real_only:
            return
        self._level, self._holds_until_s = state["level"], now_s + expires_s

    def hear_status(self, text: str) -> None:
        """Take in a message of `status`: the site's birth, its goodbye, or the broker's word that it is gone."""
        self._site_is_there = json.loads(text)["status"] != "offline"

    def aspect(self, now_s: float) -> Aspect:
        """Return what the sign must show now."""
        if not self._site_is_there or now_s > self._holds_until_s or self._level == "unknown":
            return "fault"
        return "on" if self._level == "active" else "off"


def main() -> None:
    """Drive the sign until stopped."""
    parser = argparse.ArgumentParser(description="Drive a sign from the level of a Wildlane zone.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--username")
    parser.add_argument("--password-file", type=Path)
    parser.add_argument("--tls-ca-file")
    parser.add_argument("--site", required=True)
    parser.add_argument("--zone", required=True)
    parser.add_argument("--on-fault", choices=("dark", "flash"), default="flash", help="what the sign shows then")
    parser.add_argument("--exercises", action="store_true", help="let tests and exercises drive it too")
    options = parser.parse_args()
    root, came = f"wildlane/v1/{options.site}", queue.SimpleQueue()

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    if options.username:
        password = options.password_file.read_text().strip() if options.password_file else None
        client.username_pw_set(options.username, password)
    if options.tls_ca_file:
        client.tls_set(ca_certs=options.tls_ca_file)
    client.reconnect_delay_set(min_delay=1, max_delay=5)
    client.on_connect = lambda c, *_: c.subscribe([(f"{root}/state/{options.zone}", 1), (f"{root}/status", 1)])
    client.on_message = lambda c, userdata, message: came.put(message)
    client.connect_async(options.host, options.port, keepalive=10)
    client.loop_start()

    sign, shown = Sign(real_only=not options.exercises), None
    while True:
        try:
            message = came.get(timeout=0.5)
        except queue.Empty:
            message = None
        try:
            if message is not None and message.topic.endswith("/status"):
                sign.hear_status(message.payload.decode())
            elif message is not None and message.payload:
                left_s = getattr(message.properties, "MessageExpiryInterval", EXPIRES_S)
                sign.hear_level(message.payload.decode(), time.monotonic(), left_s)
        except (
            ValueError,
            KeyError,
            TypeError,
        ) as error:  # it was not heard: the level runs out
            print(f"not understood: {message.topic} ({error})", file=sys.stderr)
        aspect = sign.aspect(time.monotonic())
        if aspect != shown:
            shown = aspect
            print(options.on_fault if aspect == "fault" else aspect, flush=True)


if __name__ == "__main__":
    main()
