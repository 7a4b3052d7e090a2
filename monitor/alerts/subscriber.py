"""Listen to a site as any consumer does: for `wildlane alerts tail` and `replay`."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from adapters.errors import ConfigError
from monitor.alerts.session import CONNECT_TIMEOUT_S, KEEPALIVE_S, Address, secure

TICK_S = 0.2


@dataclass(frozen=True)
class Message:
    """A message of a topic below the site's root."""

    topic: str
    payload: str


class Subscriber:
    """A connection that listens to topics of one site. It goes on after a loss: paho connects again by itself."""

    def __init__(self, address: Address, root: str, topics: list[str]) -> None:
        """Connect and subscribe.

        Args:
            address: of the broker.
            root: topic prefix, `wildlane/v1/{site}`.
            topics: below it; `+` and `#` are allowed.

        Raises:
            ConfigError: the broker can't be reached, or refuses us.
        """
        self._root, self._topics = root, topics
        self._came: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="", protocol=paho.MQTTv5)
        secure(self._client, address)
        self._client.on_connect, self._client.on_message = self._on_connect, self._on_message
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        where = f"broker {address.host}:{address.port}"
        try:
            self._client.connect(address.host, address.port, keepalive=KEEPALIVE_S)
            self._client.loop_start()
            problem = self._answered.get(timeout=CONNECT_TIMEOUT_S)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{where} can't be reached ({error})") from None
        except queue.Empty:
            self.close()
            raise ConfigError(f"{where}: no answer within {CONNECT_TIMEOUT_S:.0f} s") from None
        if problem:
            self.close()
            raise ConfigError(f"{where} refuses us ({problem})")

    def messages(self, *, idle_s: float | None = None) -> Iterator[Message]:
        """Yield messages as they come; end when nothing came for `idle_s`, or never."""
        waited_s = 0.0
        while idle_s is None or waited_s < idle_s:
            try:
                yield self._came.get(timeout=TICK_S)
                waited_s = 0.0
            except queue.Empty:
                waited_s += TICK_S

    def ask(self, topic: str, payload: str, reply_topic: str) -> None:
        """Publish a command; its answer comes on the reply topic."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.ResponseTopic = f"{self._root}/{reply_topic}"
        self._client.publish(f"{self._root}/{topic}", payload, qos=1, properties=properties)

    def say(self, topic: str, payload: str, *, retained: bool = False) -> None:
        """Publish to a topic; it goes out once the broker is there."""
        self._client.publish(f"{self._root}/{topic}", payload, qos=1, retain=retained)

    def close(self) -> None:
        """End the connection."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: paho.Client, userdata: object, flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if not reason.is_failure:
            client.subscribe([(f"{self._root}/{topic}", 1) for topic in self._topics])
        self._answered.put(reason.getName() if reason.is_failure else "")

    def _on_message(self, client: object, userdata: object, message: paho.MQTTMessage) -> None:
        topic = message.topic.removeprefix(f"{self._root}/")
        self._came.put(Message(topic, bytes(message.payload).decode("utf-8", errors="replace")))
