"""Whether somebody is at home at a camera's address, before a decoder process is spent on it.

A camera that is away for weeks is asked every few seconds for ever; starting a decoder each time would cost a tenth of
a processor core for each such camera.
"""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
OPTIONS = "OPTIONS rtsp://{address}{path} RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: wildlane\r\n\r\n"
TIMEOUT_S = 1.0


class Knock:
    """One attempt, on a thread of its own: an RTSP server must answer OPTIONS, whatever it answers.

    Others need only take the connection.

    Attributes:
        connected: somebody took the connection; some cameras answer nobody whom they don't know.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._answered = self.connected = False
        self._thread = threading.Thread(target=self._ask, name="knock", daemon=True)
        self._thread.start()

    @property
    def answered(self) -> bool | None:
        """Whether somebody answered; None while it is not known yet."""
        return None if self._thread.is_alive() else self._answered

    def _ask(self) -> None:
        try:
            parts = urlsplit(self._url)
            address = (parts.hostname or "", parts.port or PORTS[parts.scheme])
            with socket.create_connection(address, timeout=self._timeout_s) as connection:
                self.connected = True
                if parts.scheme != "rtsp":
                    self._answered = True
                    return
                connection.settimeout(self._timeout_s)
                at = f"{address[0]}:{address[1]}"
                connection.sendall(OPTIONS.format(address=at, path=parts.path).encode())
                self._answered = connection.recv(16).startswith(b"RTSP/")
        except (OSError, ValueError):
            self._answered = False


def wants_knock(url: str) -> bool:
    """Tell whether a source is at an address that can be asked so."""
    try:
        parts = urlsplit(url)
        return parts.scheme in PORTS and bool(parts.hostname)
    except ValueError:  # such as a bracket in a password: FFmpeg may still know what is meant
        return False
