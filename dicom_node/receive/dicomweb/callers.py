"""Who may store over DICOMweb: an address, and a bearer token or a certificate, that one ``[[peer]]`` has."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from itertools import combinations
from pathlib import Path
from typing import Final

from dicom_node.errors import SettingsError
from dicom_node.logs import get_logger
from dicom_node.receive.admission import Caller, contains, lack_of_security
from dicom_node.receive.renewal import Renewed
from dicom_node.secret_file import read_secret
from dicom_node.settings import PeerTable, Settings
from dicom_node.tls import PeerCertificate

log = get_logger("receive")
_LEAST_TOKEN: Final = 16
_Entries = list[tuple[PeerTable, bytes | None]]
"""Peers with the digests of their tokens."""


@dataclass(frozen=True)
class WebCaller:
    """Who makes a request.

    Attributes:
        address: The IP address it comes from.
        authorization: Its Authorization header; empty where it has none.
        over_tls: Whether the connection is a secure one.
        certificate: What it has shown; None where it showed nothing.
    """

    address: str
    authorization: str
    over_tls: bool
    certificate: PeerCertificate | None


@dataclass(frozen=True)
class Denial:
    """Why a caller may not store: HTTP status (401 or 403), and the reason for the log."""

    status: int
    message: str


class Doorkeeper:
    """Knows the tokens of the peers, and reads their files anew when one has changed.

    While what one holds now cannot be used, the token that was read last from it stays good, and the log says why.

    Args:
        peers: Those of the settings; one without token and certificate may not store over DICOMweb.

    Raises:
        SettingsError: A token's file is missing, can be read by others, or holds no token; or two peers that may call
            from one address have the same.
    """

    def __init__(self, peers: Sequence[PeerTable]) -> None:
        named = [peer for peer in peers if peer.may_use_dicomweb]
        files = (peer.token_file for peer in named if peer.token_file is not None)
        self._peers = Renewed("with tokens", files, partial(_with_tokens, named), _with_renewed_tokens)

    def admit(self, caller: WebCaller) -> PeerTable | Denial:
        """The first peer that fits the address, the certificate and the token of a caller, else why none does."""
        near = [entry for entry in self._peers.current() if contains(entry[0].address, caller.address)]
        if not near:
            return Denial(403, "no [[peer]] with a token or certificate has this address")
        shown = _digest_of_bearer(caller.authorization)
        lacks: list[str] = []
        for peer, token in near:
            lack = lack_of_security(peer, _as_dicom_caller(peer, caller)) or _lack_of_token(token, shown)
            if not lack:
                return peer
            lacks.append(f'"{peer.ae_title}" {lack}')
        return Denial(401, "; ".join(lacks))


def require_tokens(settings: Settings) -> None:
    """Check every token's file, so that a node does not start with one that cannot work.

    Raises:
        SettingsError: As for :class:`Doorkeeper`.
    """
    if settings.dicomweb.port is not None:
        Doorkeeper(settings.peers)


def _with_tokens(peers: Sequence[PeerTable]) -> _Entries:
    entries = [(peer, _token_digest(peer.token_file) if peer.token_file is not None else None) for peer in peers]
    _require_own_tokens(entries)
    return entries


def _with_renewed_tokens(known: _Entries) -> tuple[_Entries, str]:
    """The peers with what their files hold now, each file by itself; and why some do not count."""
    entries, complaints = [], []
    for peer, token in known:
        try:
            entries.append((peer, _token_digest(peer.token_file) if peer.token_file is not None else None))
        except SettingsError as error:
            entries.append((peer, token))
            complaints.append(error.message)
    try:
        _require_own_tokens(entries)
    except SettingsError as error:
        return known, "; ".join([*complaints, error.message])
    return entries, "; ".join(complaints)


def _as_dicom_caller(peer: PeerTable, caller: WebCaller) -> Caller:
    return Caller(peer.ae_title, "", caller.address, caller.over_tls, caller.certificate)


def _lack_of_token(token: bytes | None, shown: bytes | None) -> str:
    if token is None:
        return ""
    if shown is None:
        return "has to show a bearer token, and shows none"
    return "" if hmac.compare_digest(token, shown) else "shows a token that is not its own"


def _require_own_tokens(entries: Sequence[tuple[PeerTable, bytes | None]]) -> None:
    """Refuse a token that tells nobody which peer is calling: its images would bear the name of another one."""
    for (one, token), (other, others) in combinations(entries, 2):
        if token is not None and token == others and one.ae_title != other.ae_title and _are_near(one, other):
            raise SettingsError(
                f'[[peer]] "{one.ae_title}" and "{other.ae_title}" have the same token, and may call from the same '
                f"address: give each a token of its own in {other.token_file}"
            )


def _are_near(one: PeerTable, other: PeerTable) -> bool:
    return ip_network(one.address, strict=False).overlaps(ip_network(other.address, strict=False))


def _digest_of_bearer(authorization: str) -> bytes | None:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return None
    return hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()


def _token_digest(path: Path) -> bytes:
    """The digest of a token: the token itself is not kept in memory."""
    content = read_secret("[[peer]] token_file", path)
    if len(content) < _LEAST_TOKEN or not content.isascii() or not content.isprintable() or " " in content:
        raise SettingsError(
            f"[[peer]] token_file {path}: expected one token of {_LEAST_TOKEN} characters or more, without spaces; "
            "make one with: openssl rand -hex 32"
        )
    return hashlib.sha256(content.encode()).digest()
