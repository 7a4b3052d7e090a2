"""The embedded broker: rumqttd in a child process, MQTT 5 on loopback, for a first look and for single boxes."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import Self

from adapters.errors import ConfigError

INSTALL = "install mosquitto and set `embedded = false` in [broker]"
SETTINGS = """
id = 0
[router]
id = 0
max_connections = 200
max_outgoing_packet_count = 200
max_segment_size = 1048576
max_segment_count = 10
[v5.1]
name = "wildlane"
listen = "{host}:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 10000
max_payload_size = 262144
max_inflight_count = 100
dynamic_filters = true
"""


class EmbeddedBroker:
    """A broker that lives as long as the program; it stops when the program does, however that ends."""

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        """Start it.

        Args:
            port: TCP port, 0 for any free one.
            host: loopback address.

        Raises:
            ConfigError: it is not installed here, or the port is taken.
        """
        try:
            from iotcore import Broker
        except ImportError:
            raise ConfigError(
                f"[broker] embedded = true: no embedded broker is installed for this platform; {INSTALL}"
            ) from None
        self.port = port or _free_port(host)
        self._folder = tempfile.TemporaryDirectory(prefix="wildlane-broker-")
        settings = Path(self._folder.name) / "rumqttd.toml"
        settings.write_text(SETTINGS.format(host=host, port=self.port))
        self._broker = Broker(config_path=str(settings))
        try:
            self._broker.start()
        except (OSError, RuntimeError) as error:
            self._folder.cleanup()
            raise ConfigError(
                f"[broker] embedded = true: can't listen on {host}:{self.port} ({error}); "
                f"set another port, or {INSTALL}"
            ) from None

    def stop(self) -> None:
        """Stop it and release the port."""
        self._broker.stop()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
