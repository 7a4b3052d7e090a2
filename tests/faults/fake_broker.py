"""A broker that answers as it is told: raw MQTT packets, as Mosquitto's own tests write them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14
RECEIVE_MAXIMUM, MAXIMUM_PACKET_SIZE = 0x21, 0x27


@dataclass
class FakeBroker:
    """Accepts clients one after the other and answers each PUBLISH with a reason code.

    Attributes:
        reason: topic and how many came before on it -> PUBACK's reason code (MQTT 5), or None for no answer.
        receive_maximum: what CONNACK says; more messages at once than that are counted in `violations`.
        maximum_packet_size: what CONNACK says, in bytes.
        only_311: refuses MQTT 5 as a broker of 2014 does.
        hangs_up: as soon as it has taken a client.
        hates: what a payload must hold so that the broker hangs up over it, with DISCONNECT 0x95 (packet too large).
        got: (topic, payload) of every PUBLISH, in order.
        sizes: of the same packets, in bytes.
    """

    reason: Callable[[str, int], int | None] = lambda topic, before: 0
    receive_maximum: int | None = None
    maximum_packet_size: int | None = None
    only_311: bool = False
    hangs_up: bool = False
    hates: bytes | None = None
    got: list[tuple[str, bytes]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    violations: int = 0
    connects: int = 0

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for end in (self._server, *self._clients):
            end.close()

    def take_over(self) -> None:
        """Tell the client that another one took its name (0x8E), and hang up."""
        client = self._clients[-1]
        client.sendall(packet(DISCONNECT, b"\x8e\x00"))
        with contextlib.suppress(OSError):  # it may have hung up first
            client.shutdown(socket.SHUT_RDWR)

    def events(self) -> list[bytes]:
        return [payload for topic, payload in list(self.got) if "/event/" in topic]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self._clients.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), client:
            stream = client.makefile("rb")
            version, unanswered = 5, list[tuple[bytes, int]]()
            while True:
                kind, flags, body = read_packet(stream)
                if kind == CONNECT:
                    self.connects += 1
                    version = body[6]
                    if version == 5 and self.only_311:
                        client.sendall(packet(CONNACK, b"\x00\x01"))  # 3.1.1's "unacceptable protocol version"
                        return
                    properties = self._limits()
                    client.sendall(
                        packet(CONNACK, b"\x00\x00" + (bytes([len(properties)]) + properties) * (version == 5))
                    )
                    if self.hangs_up:
                        client.shutdown(socket.SHUT_RDWR)
                        return
                elif kind == SUBSCRIBE:
                    client.sendall(packet(SUBACK, body[:2] + b"\x00" * (version == 5) + b"\x01\x01"))
                elif kind == PINGREQ:
                    client.sendall(packet(PINGRESP, b""))
                elif kind == PUBLISH and self.hates is not None and self.hates in body:
                    client.sendall(packet(DISCONNECT, b"\x95\x00"))
                    client.shutdown(socket.SHUT_RDWR)
                    return
                elif kind == PUBLISH:
                    self.sizes.append(1 + len(length_bytes(len(body))) + len(body))
                    unanswered += self._take(flags, body, version)
                    if self.receive_maximum is not None and len(unanswered) > self.receive_maximum:
                        self.violations += 1
                    for mid, code in unanswered:
                        client.sendall(packet(PUBACK, mid + (bytes([code, 0]) if version == 5 and code else b"")))
                    unanswered = []

    def _limits(self) -> bytes:
        limits = b""
        if self.receive_maximum is not None:
            limits += bytes([RECEIVE_MAXIMUM]) + self.receive_maximum.to_bytes(2)
        if self.maximum_packet_size is not None:
            limits += bytes([MAXIMUM_PACKET_SIZE]) + self.maximum_packet_size.to_bytes(4)
        return limits

    def _take(self, flags: int, body: bytes, version: int) -> list[tuple[bytes, int]]:
        length = int.from_bytes(body[:2])
        topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
        mid, rest = (rest[:2], rest[2:]) if flags & 0x06 else (b"", rest)
        if version == 5:
            skipped, rest = variable_length(rest)
            rest = rest[skipped:]
        before = sum(topic == other for other, _ in self.got)
        self.got.append((topic, rest))
        code = self.reason(topic, before)
        return [(mid, code)] if mid and code is not None else []


def packet(kind: int, body: bytes) -> bytes:
    return bytes([kind << 4, len(body)]) + body


def length_bytes(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    more = length_bytes(value >> 7) if value > 0x7F else b""
    return bytes([value & 0x7F | (0x80 if more else 0)]) + more


def read_packet(stream: object) -> tuple[int, int, bytes]:
    first = stream.read(1)
    if not first:
        raise EOFError
    length, shift = 0, 0
    while True:
        byte = stream.read(1)[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    return first[0] >> 4, first[0] & 0x0F, stream.read(length)


def variable_length(data: bytes) -> tuple[int, bytes]:
    value, shift = 0, 0
    for i, byte in enumerate(data):
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, data[i + 1 :]
    raise EOFError
