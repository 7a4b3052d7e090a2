"""A bad network between the program and its broker: a TCP proxy that can swallow, reset, crumble and delay."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

PUBLISH = 0x30  # upper half of the first byte of an MQTT PUBLISH
DELAY_S = 5.0


class Proxy:
    """Forwards between its own port and the broker's, in a mode that can be changed while it runs.

    Modes: `pass`; `blackhole` swallows everything in both directions; `reset` breaks the connection once a PUBLISH
    went to the broker, before its receipt comes back; `crumbs` sends single bytes; `delay` holds each piece for five
    seconds.
    """

    def __init__(self, broker_port: int) -> None:
        self.mode, self.resets = "pass", 0
        self._broker_port = broker_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    broker = socket.create_connection(("127.0.0.1", self._broker_port))
                except OSError:
                    client.close()
                    continue
                _Connection(self, client, broker)


class _Connection:
    def __init__(self, proxy: Proxy, client: socket.socket, broker: socket.socket) -> None:
        self._proxy, self._client, self._broker = proxy, client, broker
        self._published = False
        for forward in (self._to_broker, self._to_client):
            threading.Thread(target=forward, daemon=True).start()

    def _to_broker(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self._client.recv(65_536):
                self._published = self._published or piece[0] & 0xF0 == PUBLISH
                self._send(self._broker, piece)
        self._end()

    def _to_client(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self._broker.recv(65_536):
                if self._proxy.mode == "reset" and self._published:
                    self._reset()
                    return
                self._send(self._client, piece)
        self._end()

    def _send(self, sink: socket.socket, piece: bytes) -> None:
        mode = self._proxy.mode
        if mode == "delay":
            time.sleep(DELAY_S)
        if mode == "crumbs":
            for i in range(len(piece)):
                sink.sendall(piece[i : i + 1])
        elif mode != "blackhole":
            sink.sendall(piece)

    def _reset(self) -> None:
        """Break with RST, so that nothing under way arrives."""
        self._proxy.resets += 1
        for end in (self._client, self._broker):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)  # wakes the other thread: while it reads, a close sends nothing
                end.close()

    def _end(self) -> None:
        for end in (self._client, self._broker):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
