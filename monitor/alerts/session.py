"""One connection to the broker: paho behind a plain face. See `mqtt.py` for what is sent when."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties, VariableByteIntegers
from paho.mqtt.reasoncodes import ReasonCode

from adapters.errors import ConfigError
from monitor.alerts.consumers import Heard
from monitor.alerts.journal import Outgoing
from monitor.alerts.receipts import Receipts
from monitor.alerts.tls import Tls, reason_of

log = logging.getLogger(__name__)

WINDOW = 20  # unacknowledged messages at once; less where the broker's receive maximum says so
CONNECT_TIMEOUT_S = 5.0
KEEPALIVE_S = 20
ANSWER_TIMEOUT_S = 2.5  # for the broker's CONNACK
EVENT_EXPIRES_S = 86_400
WILL_DELAY_S = 5
TICK_S = 0.1
REFUSED_FOR_NOW = frozenset({0x80, 0x83, 0x91, 0x97})  # unspecified, its own reason, number in use, quota
NO_SUBSCRIBER = 0x10
FAILURE = 0x80
REFUSED_BY_HANGING_UP = frozenset({0x95, 0x99})  # packet too large, payload format invalid
LARGEST_PACKET = 268_435_460  # MQTT's own limit, in bytes
UNSUPPORTED_VERSION = 0x84
HEARD = ("ack/+", "cmd/+")
MOST_HEARD, MOST_COMMAND_BYTES = 200, 4_096
CLOUDEVENT = "application/cloudevents+json; charset=utf-8"


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the broker is, and who we are to it."""

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = None
    tls: Tls | None = None


@dataclass(frozen=True, kw_only=True)
class Site:
    """Who speaks: the topic prefix, and the payloads of the status topic at birth and as the will."""

    root: str
    online: str
    offline: str


@dataclass(frozen=True)
class Retained:
    """A message of which only the newest counts."""

    payload: str
    expires_s: int | None
    qos: int
    left_s: float = 0.0  # when it was left for the publisher, monotonic

    def is_fresh(self, now_s: float) -> bool:
        """Tell whether it may still be sent: a level that nobody renews must run out at the consumer too."""
        return self.expires_s is None or now_s - self.left_s < self.expires_s


class Session:
    """One connection, from connect to loss. paho's callbacks run on its own thread and only leave notes here."""

    def __init__(self, address: Address, site: Site, receipts: Receipts, protocol: MQTTProtocolVersion) -> None:
        self._address, self._site, self._receipts, self._root = address, site, receipts, site.root
        self._is_5 = protocol == paho.MQTTv5
        self._answers: queue.SimpleQueue[tuple[int, int, str]] = queue.SimpleQueue()
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._in_flight: dict[int, Outgoing | str | None] = {}  # by message id: row, topic of a level, None: reply
        self.speaks_only_311 = False
        self._waiting_since_s = 0.0  # for the next receipt
        self.was_answered = False  # at least one event has its receipt
        self.unheard = False  # nobody subscribes to the event that was delivered last (MQTT 5 only)
        self._answered = threading.Event()
        self._accepted = False
        self._lost = False  # never False again: whichever thread sees the loss first, none takes it back
        self._window, self._largest = WINDOW, LARGEST_PACKET  # as CONNACK has it
        self._refused: Outgoing | None = None  # for now; what is above it goes out again behind it
        self._hung_up_over = ""  # why the broker hung up, where a message was the cause
        self.problem = ""
        self._client = self._make_client()

    def _make_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._address.client_id,
            protocol=paho.MQTTv5 if self._is_5 else paho.MQTTv311,
            reconnect_on_failure=False,
        )
        secure(client, self._address)
        delay = self._properties(PacketTypes.WILLMESSAGE, WillDelayInterval=WILL_DELAY_S)
        client.will_set(f"{self._root}/status", self._site.offline, qos=1, retain=True, properties=delay)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def connect(self) -> bool:
        """Connect, announce ourselves, and tell whether it worked; else `problem` says why."""
        try:
            self._client.connect_timeout = CONNECT_TIMEOUT_S
            anew = True if self._is_5 else paho.MQTT_CLEAN_START_FIRST_ONLY  # a 3.1.1 client begins anew by default
            self._client.connect(self._address.host, self._address.port, keepalive=KEEPALIVE_S, clean_start=anew)
        except (OSError, ValueError) as error:
            self.problem = f"no connection ({reason_of(error)})"
            return False
        self._client.loop_start()
        if not self._answered.wait(ANSWER_TIMEOUT_S) or not self._accepted:
            self.problem = self.problem or f"no answer within {ANSWER_TIMEOUT_S:.1f} s"
            self.close(goodbye=False)
            return False
        code, _ = self._client.subscribe([(f"{self._root}/{topic}", 1) for topic in HEARD])
        self._check_sent(code)
        self.publish_level(f"{self._root}/status", Retained(self._site.online, None, 1))
        if not self.alive:
            self.close(goodbye=False)
        return self.alive

    @property
    def alive(self) -> bool:
        """Whether the broker took us and the connection has not been lost since."""
        return self._accepted and not self._lost

    @property
    def waiting_s(self) -> float:
        """How long no receipt has come although one is due; a connection can be dead without a word."""
        return time.monotonic() - self._waiting_since_s if self._in_flight else 0.0

    @property
    def room(self) -> int:
        """How many more messages may be under way."""
        return max(0, (1 if self._receipts.careful else self._window) - len(self._in_flight))

    def _properties(self, kind: int, **values: object) -> Properties | None:
        """Return MQTT 5 properties; None where the broker knows none."""
        if not self._is_5:
            return None
        properties = Properties(kind)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        for name, value in values.items():
            setattr(properties, name, value)
        return properties

    def publish_event(self, row: Outgoing) -> None:
        """Send a row of the journal."""
        properties = self._properties(
            PacketTypes.PUBLISH,
            ContentType=CLOUDEVENT,
            PayloadFormatIndicator=1,
            MessageExpiryInterval=EVENT_EXPIRES_S,
            UserProperty=[("seq", str(row.seq))],
        )
        topic = f"{self._root}/event/{row.zone}"
        if packet_size(topic, row.event, properties) > self._largest:
            self._receipts.refused(row, self._too_large())
            return
        sent = self._client.publish(topic, row.event, qos=1, properties=properties)
        self._note_sent(sent, row)

    def _too_large(self) -> str:
        return f"larger than the {self._largest} bytes that the broker takes"

    def _note_sent(self, sent: paho.MQTTMessageInfo, about: Outgoing | str | None) -> None:
        """Wait for the receipt of a message, where paho took it."""
        if self._check_sent(sent.rc):
            if not self._in_flight:
                self._waiting_since_s = time.monotonic()
            self._in_flight[sent.mid] = about

    def _check_sent(self, code: int) -> bool:
        """Tell whether paho took a message; where it did not, it has lost the connection and may not say so."""
        if code != paho.MQTT_ERR_SUCCESS:
            self._lose(f"publishing failed ({paho.error_string(code)})")
        return code == paho.MQTT_ERR_SUCCESS

    def _lose(self, why: str) -> None:
        self.problem = self.problem or why
        self._lost = True

    def publish_level(self, topic: str, level: Retained) -> None:
        """Send a message of which only the newest counts."""
        expires = {} if level.expires_s is None else {"MessageExpiryInterval": level.expires_s}
        properties = self._properties(
            PacketTypes.PUBLISH, ContentType="application/json; charset=utf-8", PayloadFormatIndicator=1, **expires
        )
        if packet_size(topic, level.payload, properties) > self._largest:
            self._receipts.level_refused(topic, self._too_large())
            return
        qos = 1 if self._receipts.careful else level.qos  # one at a time: then it must be known when each is over
        sent = self._client.publish(topic, level.payload, qos=qos, retain=True, properties=properties)
        if qos:
            self._note_sent(sent, topic)
        elif self._check_sent(sent.rc):
            self._receipts.level_taken(topic)

    def heard(self) -> Iterator[Heard]:
        """Yield what consumers said since the last call."""
        while not self._heard.empty():
            yield self._heard.get()

    def publish_reply(self, message: Heard, payload: str) -> None:
        """Answer a command, where it says where to."""
        below = message.reply_to.removeprefix(f"{self._root}/reply/")  # nobody may make us write elsewhere
        if below == message.reply_to or not below or set(below) & set("+#\0") or not self.room:
            return
        correlation = {"CorrelationData": message.correlation} if message.correlation else {}
        properties = self._properties(PacketTypes.PUBLISH, **correlation)
        if packet_size(message.reply_to, payload, properties) <= self._largest:
            self._note_sent(self._client.publish(message.reply_to, payload, qos=1, properties=properties), None)

    def take_receipts(self) -> bool:
        """Hand on what the broker said of our messages; return True where it refused one for now."""
        again = False
        while not self._answers.empty():
            mid, code, name = self._answers.get()
            if mid not in self._in_flight:  # paho reports what needs no receipt too
                continue
            self._waiting_since_s = time.monotonic()
            about = self._in_flight.pop(mid)
            if isinstance(about, Outgoing):
                again |= self._take_receipt(about, code, name)
            elif about is not None and code < FAILURE:
                self._receipts.level_taken(about)
            elif about is not None:  # the next one comes in ten seconds anyway
                self._receipts.level_refused(about, name)
        return again

    def _take_receipt(self, row: Outgoing, code: int, name: str) -> bool:
        """Hand on what the broker said of a row; return True where it refused it for now."""
        self.was_answered = True
        before = self._refused
        if before is not None and before.journal == row.journal and before.seq < row.seq:
            return False  # sent before the refusal was known: again, so that consumers see the order
        if code in REFUSED_FOR_NOW:
            log.warning("event %d: the broker refuses it for now (%s)", row.seq, name)
            self._refused = row
            self._receipts.be_careful()
            return True
        if row == before:
            self._refused = None
        if code < FAILURE:
            self._note_listeners(row.seq, nobody=code == NO_SUBSCRIBER)
            self._receipts.taken(row)
        else:
            self._receipts.refused(row, name)
        return False

    def find_culprit(self) -> str:
        """Where the broker hung up over a message, set it aside; from now on they go out one at a time.

        Returns:
            The topic of a level that the broker does not take, else nothing.
        """
        if not self._hung_up_over:
            return ""
        suspects = list(self._in_flight.values()) if self._receipts.careful else []
        self._receipts.be_careful()
        if len(suspects) != 1:  # the next connection tells which
            return ""
        (culprit,) = suspects
        if isinstance(culprit, Outgoing):
            self._receipts.refused(culprit, self._hung_up_over)
        elif culprit is not None:
            self._receipts.level_refused(culprit, self._hung_up_over)
        return culprit if isinstance(culprit, str) else ""

    def _note_listeners(self, seq: int, *, nobody: bool) -> None:
        if nobody and not self.unheard:
            log.warning("event %d: the broker has it, but nobody subscribes to it", seq)
        self.unheard = nobody

    def close(self, *, goodbye: bool) -> None:
        """End the connection: with our own offline message, or, when it broke, with none: the will speaks then."""
        if goodbye and self.alive:
            last = self._client.publish(f"{self._root}/status", self._site.offline, qos=1, retain=True)
            with_receipt = time.monotonic() + 1.0
            while not last.rc and not last.is_published() and time.monotonic() < with_receipt:
                time.sleep(TICK_S / 5)
        self._lost = True
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: object, userdata: object, flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._accepted = not reason.is_failure
        if reason.is_failure:
            self.problem = f"refuses us ({reason.getName()})"
            self.speaks_only_311 = self._is_5 and reason.value == UNSUPPORTED_VERSION
        self._window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        self._largest = getattr(properties, "MaximumPacketSize", LARGEST_PACKET)
        self._answered.set()

    def _on_disconnect(
        self, client: object, userdata: object, flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.value in REFUSED_BY_HANGING_UP:
            self._hung_up_over = reason.getName()
        self._lose(f"connection lost ({reason.getName()})")
        self._answered.set()

    def _on_message(self, client: object, userdata: object, message: paho.MQTTMessage) -> None:
        if self._heard.qsize() >= MOST_HEARD:  # a flood of commands must not fill the memory
            return
        if message.retain:  # a command holds once, not at every connection
            return
        properties = message.properties
        self._heard.put(
            Heard(
                topic=message.topic.removeprefix(f"{self._root}/"),
                payload=bytes(message.payload[:MOST_COMMAND_BYTES]),
                reply_to=str(getattr(properties, "ResponseTopic", "")),
                correlation=bytes(getattr(properties, "CorrelationData", b"")),
            )
        )

    def _on_publish(
        self, client: object, userdata: object, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._answers.put((mid, reason.value, reason.getName()))


def packet_size(topic: str, payload: str, properties: Properties | None) -> int:
    """Return how many bytes a PUBLISH of QoS 1 has, as section 3.3 of MQTT 5 lays it out."""
    packed = b"" if properties is None else properties.pack()  # type: ignore[no-untyped-call]  # paho leaves it untyped
    rest = 2 + len(topic.encode()) + 2 + len(packed) + len(payload.encode())
    length = VariableByteIntegers.encode(rest)  # type: ignore[no-untyped-call]  # paho leaves it untyped
    return 1 + len(length) + rest


def secure(client: paho.Client, address: Address) -> None:
    """Give a client our credentials, and TLS where the address asks for it."""
    if address.username:
        client.username_pw_set(address.username, address.password)
    if address.tls:
        client.tls_set_context(address.tls.context())


def read_password(path: str | None) -> str | None:
    """Return the password that a file holds.

    Raises:
        ConfigError: the file can't be read.
    """
    check_readable("password_file", path)
    return None if path is None else Path(path).read_text(encoding="utf-8").strip()


def check_readable(key: str, path: str | None) -> None:
    """Raise ConfigError where a file that the configuration names can't be read."""
    try:
        if path is not None:
            Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"[broker] {key} = '{path}': can't be read ({error.strerror})") from None


def check_reachable(address: Address) -> str | None:
    """Return why the broker can't be reached, None where it answers and its certificate, if any, is good."""
    import socket

    try:
        with socket.create_connection((address.host, address.port), timeout=CONNECT_TIMEOUT_S) as plain:
            if address.tls is not None:
                with address.tls.context().wrap_socket(plain, server_hostname=address.host):
                    pass
            return None
    except OSError as error:
        return f"broker {address.host}:{address.port} can't be reached ({reason_of(error)})"
