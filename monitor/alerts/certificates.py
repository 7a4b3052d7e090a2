"""How long the files of an encrypted connection still hold: an expired one silences a site at midnight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from cryptography.x509 import load_pem_x509_certificates, load_pem_x509_crl
from cryptography.x509.oid import NameOID

from adapters.errors import ConfigError
from monitor.alerts.tls import Tls

Role = Literal["own", "authority", "revocations"]
WARN_DAYS = 30.0
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Validity:
    """How long a file holds: our own chain until its first certificate ends, authorities until their last one does."""

    role: Role
    file: str
    not_after: datetime

    def days_left(self, now: datetime) -> float:
        """Return how many days are left; negative where it has expired."""
        return (self.not_after - now).total_seconds() / 86_400

    def warning(self, now: datetime) -> str | None:
        """Return what to tell the operator, None while there is time enough."""
        days = self.days_left(now)
        if days > WARN_DAYS:
            return None
        when = f"on {self.not_after:%Y-%m-%d %H:%M} UTC"
        return f"{self.file}: expired {when}" if days < 0 else f"{self.file}: expires {when}, in {days:.0f} days"


def validities(tls: Tls | None) -> list[Validity]:
    """Return how long each file of a connection holds; none where nothing is encrypted.

    Raises:
        ConfigError: a file can't be read as what it should be.
    """
    return [] if tls is None else list(_validities(tls))


def _validities(tls: Tls) -> Iterator[Validity]:
    yield Validity(role="authority", file=tls.ca_file, not_after=_read(tls.ca_file, _last_end))
    if tls.cert_file is not None:
        yield Validity(role="own", file=tls.cert_file, not_after=_read(tls.cert_file, _first_end))
    if tls.crl_file is not None:
        yield Validity(role="revocations", file=tls.crl_file, not_after=_read(tls.crl_file, _next_update))


def _read(file: str, wanted: Callable[[bytes], T]) -> T:
    try:
        return wanted(Path(file).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: can't be read as a certificate or revocation list ({error})") from None


def _first_end(pem: bytes) -> datetime:
    first: datetime = min(certificate.not_valid_after_utc for certificate in load_pem_x509_certificates(pem))
    return first


def _last_end(pem: bytes) -> datetime:
    last: datetime = max(certificate.not_valid_after_utc for certificate in load_pem_x509_certificates(pem))
    return last


def _next_update(pem: bytes) -> datetime:
    next_update: datetime | None = load_pem_x509_crl(pem).next_update_utc
    return next_update or datetime.max.replace(tzinfo=UTC)


def name_of(cert_file: str) -> str:
    """Return the common name of a certificate: who a broker takes us for.

    Raises:
        ConfigError: it can't be read.
    """
    return _read(cert_file, _common_name)


def _common_name(pem: bytes) -> str:
    names = load_pem_x509_certificates(pem)[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
