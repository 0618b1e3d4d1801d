"""Who may store over DICOMweb: an address, and a bearer token or a certificate, that one ``[[peer]]`` has."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import combinations
from pathlib import Path
from typing import Final

from dicom_node.errors import SettingsError
from dicom_node.logs import get_logger
from dicom_node.receive.admission import Caller, contains, lack_of_security
from dicom_node.receive.renewal import Stamp, stamp_of
from dicom_node.secret_file import read_secret
from dicom_node.settings import PeerTable, Settings
from dicom_node.tls import PeerCertificate

log = get_logger("receive")
_LEAST_TOKEN: Final = 16


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
        self._named = [peer for peer in peers if peer.may_use_dicomweb]
        self._lock = threading.Lock()
        self._stamps = self._stamps_now()
        self._peers = _with_tokens(self._named)
        self._complaints: list[str] = []

    def admit(self, caller: WebCaller) -> PeerTable | Denial:
        """The first peer that fits the address, the certificate and the token of a caller, else why none does."""
        near = [entry for entry in self._current() if contains(entry[0].address, caller.address)]
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

    def _current(self) -> list[tuple[PeerTable, bytes | None]]:
        with self._lock:
            stamps = self._stamps_now()
            if stamps != self._stamps:
                self._renew(stamps)
            return self._peers

    def _renew(self, stamps: list[Stamp]) -> None:
        """Read each file by itself; what cannot be used is tried again at the next request, and told once."""
        entries, complaints = [], []
        for peer, known in self._peers:
            token = known
            try:
                if peer.token_file is not None:
                    token = _token_digest(peer.token_file)
            except SettingsError as error:
                complaints.append(error.message)
            entries.append((peer, token))
        try:
            _require_own_tokens(entries)
            self._peers = entries
        except SettingsError as error:
            complaints.append(error.message)
        if complaints and complaints != self._complaints:
            log.warning("token files cannot be used, tokens read before stay good", reason="; ".join(complaints))
        elif not complaints:
            self._stamps = stamps  # taken before reading: a change in between is seen by the next request
            log.info("token files read anew")
        self._complaints = complaints

    def _stamps_now(self) -> list[Stamp]:
        return [stamp_of(peer.token_file) for peer in self._named if peer.token_file is not None]


def require_tokens(settings: Settings) -> None:
    """Check every token's file, so that a node does not start with one that cannot work.

    Raises:
        SettingsError: As for :class:`Doorkeeper`.
    """
    if settings.dicomweb.port is not None:
        Doorkeeper(settings.peers)


def _with_tokens(peers: Sequence[PeerTable]) -> list[tuple[PeerTable, bytes | None]]:
    entries = [(peer, _token_digest(peer.token_file) if peer.token_file is not None else None) for peer in peers]
    _require_own_tokens(entries)
    return entries


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
