"""Encrypted connections: what they need, and what went wrong with a certificate, the broker's or ours, in words."""

from __future__ import annotations

import re
import select
import ssl
from contextlib import suppress
from dataclasses import dataclass

from adapters.errors import ConfigError

VERDICT_S = 0.5  # for what the broker says of our certificate; most say something at once
ALERT = re.compile(r"ALERT_(\w+)")  # in OpenSSL's names of errors that the other side tells
MISSING_CERTIFICATE = ("certificate required", "handshake failure")  # the latter is what TLS 1.2 has for it
BAD_CERTIFICATE = (
    "bad certificate",
    "certificate expired",
    "certificate revoked",
    "certificate unknown",
    "unknown ca",
    "unsupported certificate",
)


class HearingSocket(ssl.SSLSocket):
    """Hears what the broker says of our own certificate.

    With TLS 1.3 its verdict comes after the handshake: an alert, or the tickets of a session. Whoever writes first, as
    MQTT does, may find the connection reset before the alert is read.
    """

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  # as the base class has it
        """Shake hands, and wait a moment for the verdict.

        Raises:
            ssl.SSLError: the broker does not take our certificate.
        """
        try:
            super().do_handshake(block)
            if self.version() == "TLSv1.3":
                self._hear_verdict()
        except OSError:
            self.close()  # paho leaves it open
            raise

    def _hear_verdict(self) -> None:
        timeout_s = self.gettimeout()
        select.select([self], [], [], VERDICT_S)
        self.settimeout(0)
        with suppress(ssl.SSLWantReadError):  # nothing, or tickets only
            self.recv(1)
        self.settimeout(timeout_s)


@dataclass(frozen=True, kw_only=True)
class Tls:
    """What an encrypted connection needs.

    Attributes:
        ca_file: certificates of the authorities that may vouch for the broker.
        cert_file, key_file: our own certificate and its key, where the broker asks for them.
        crl_file: what the authority has revoked.
    """

    ca_file: str
    cert_file: str | None = None
    key_file: str | None = None
    crl_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context that checks the broker's name, dates and revocation; TLS 1.2 or newer.

        Raises:
            ConfigError: a file is missing, or holds something else.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            context.sslsocket_class = HearingSocket
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.crl_file is not None:
                context.load_verify_locations(self.crl_file)
                context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"[broker] tls files can't be used ({error})") from None
        return context


def reason_of(error: Exception) -> str:
    """Return what went wrong in words; of a refused certificate, whose it is and why it was refused."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    alert = ALERT.search(error.reason or "") if isinstance(error, ssl.SSLError) else None
    if alert is None:
        return str(error)
    words = alert[1].replace("_", " ").lower()
    if words in MISSING_CERTIFICATE:
        return f"the broker asks for a certificate of ours, see tls_cert_file: {words}"
    return f"the broker refuses our certificate: {words}" if words in BAD_CERTIFICATE else f"the broker says: {words}"
