"""What single values of node.toml have to be; each check gives back the value or says what was expected."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

ARCHIVE: Final = "archive"
SENDER: Final = "sender"
DEFAULT_PROFILE: Final = "default"
SYSLOG_PORTS: Final = {"tls": 6514, "udp": 514, "tcp": 601}
"""Ports registered for syslog by transport: RFC 5425, RFC 5426, RFC 6587."""
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - compared, not bound


def ae_title(value: str) -> str:
    """An AE title without the blanks around it (PS3.5 6.2)."""
    if not 1 <= len(value.strip()) <= 16 or not value.isascii() or not value.isprintable() or "\\" in value:
        raise ValueError("an AE title has 1 to 16 ASCII characters and no backslash (PS3.5 6.2)")
    return value.strip()


def network(value: str) -> str:
    """An address or a network in CIDR notation."""
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(f"expected an address or a network such as 10.1.0.0/16: {error}") from error
    return value


def is_loopback(address: str) -> bool:
    """Whether nobody but this machine can reach an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def meet(one: str, other: str) -> bool:
    """Whether two listeners at these addresses cannot have the same port."""
    return one == other or _EVERYWHERE in {one, other}


def fingerprint(value: str) -> str:
    """The SHA-256 fingerprint of a certificate: 64 hexadecimal digits, lower case."""
    plain = value.lower().removeprefix("sha256:").replace(":", "").replace(" ", "")
    if len(plain) != 64 or not all(digit in "0123456789abcdef" for digit in plain):
        raise ValueError("expected the SHA-256 fingerprint of a certificate: 64 hexadecimal digits, colons allowed")
    return plain


def service_url(value: str) -> str:
    """The root of a DICOMweb service, without a slash at its end."""
    parts = urlsplit(value)
    if not value.isascii() or not value.isprintable() or " " in value or parts.port == 0:  # reading a port checks it
        raise ValueError("expected an address in ASCII without blanks, and a port from 1 to 65535")
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected the root of a DICOMweb service, such as https://pacs.example/dicom-web")
    if parts.username or parts.password:
        raise ValueError("a password does not belong into an address: set user and password_file")
    return value.rstrip("/")


def database_url(value: str) -> str:
    """The URL of a database of a kind that the node can use."""
    scheme, separator, _ = value.partition("://")
    if not separator or scheme not in {"postgresql", "postgres", "postgresql+psycopg", "sqlite"}:
        raise ValueError("expected postgresql://user@host:port/database; leave it out for SQLite under home")
    return value


def syslog_url(value: str) -> str:
    """Transport, host and port of a syslog server."""
    try:
        parts = urlsplit(value)
        is_whole = parts.scheme in SYSLOG_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ValueError(f"expected tls://host:port, udp://host:port or tcp://host:port: {error}") from error
    if not is_whole or parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise ValueError("expected tls://host:port, udp://host:port or tcp://host:port, and nothing more")
    return value


AETitle = Annotated[str, AfterValidator(ae_title)]
Network = Annotated[str, AfterValidator(network)]
Port = Annotated[int, Field(ge=1, le=65535)]
Priority = Literal["routine", "urgent"]


class Table(BaseModel):
    """A table of node.toml: frozen, strict, and without keys that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
