"""TLS contexts from the settings: the BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12).

TLS 1.3 is preferred and TLS 1.2 taken, nothing below; in TLS 1.2 the four suites that RFC 9325 section 4.2 recommends:
ephemeral keys and authenticated encryption. No compression, no renegotiation, no session tickets: a connection is never
resumed past the look at the peer's certificate.

A file that cannot be used keeps the node from starting. One that is merely out of its time does not, since that would
end plain reception, the work that waits and every other destination too: the listener goes on (whoever calls it
refuses the certificate on their own), what is sent with the certificate waits for its renewal, and log, metrics and
``/health`` say so.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from dicom_node.errors import CertificateOutOfTime, SettingsError
from dicom_node.logs import get_logger
from dicom_node.secret_file import require_private
from dicom_node.settings import CredentialsTable, DestinationTable, DicomwebDestinationTable, Settings, TlsTable

_SUITES: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    ":ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
    ":@SECLEVEL=2"  # no certificate below 112 bits of security: RSA from 2048 bits, SHA-2
)
_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
EXPIRES_SOON: Final = timedelta(days=30)
_log = get_logger("tls")


@dataclass(frozen=True)
class PeerCertificate:
    """The certificate that the other side of a connection has shown and that was found good.

    Attributes:
        names: Common names of its subject, DNS names and addresses of its alternative names; lower case.
        sha256: Its fingerprint, 64 hexadecimal digits.
    """

    names: frozenset[str]
    sha256: str


class ClientContext(ssl.SSLContext):
    """A context for calling others, which remembers why a handshake failed: pynetdicom tells nobody."""

    failure: str = ""


class _ClientSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError as error:
            assert isinstance(self.context, ClientContext)
            self.context.failure = reason_of(error)
            self.close()  # pynetdicom leaves a socket open that was never connected
            raise


def server_context(table: TlsTable) -> ssl.SSLContext:
    """A context for those who call this node; certificates that are out of their time are logged as an error.

    Raises:
        SettingsError: A file cannot be used: missing, unreadable, readable by others, or not a pair.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context, table)
    _or_say(lambda: _require_in_time(table))
    context.num_tickets = 0
    # Asked for in any case: a peer may be bound to its certificate though not all have to show one.
    context.verify_mode = ssl.CERT_REQUIRED if table.require_client_certificate else ssl.CERT_OPTIONAL
    return context


def client_context(credentials: CredentialsTable) -> ClientContext:
    """A context for calling a destination: its certificate and its name are checked, ours is shown.

    Raises:
        SettingsError: As for :func:`server_context`.
        CertificateOutOfTime: Our certificate is, or every one of the authorities.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)  # demands a certificate and the right name
    _restrict(context, credentials)
    _require_in_time(credentials)
    context.sslsocket_class = _ClientSocket
    return context


def service_context(authorities: Path | None, credentials: CredentialsTable | None) -> ssl.SSLContext:
    """A context for calling an HTTPS service; without authorities of its own, those of the machine are believed.

    Raises:
        SettingsError: As for :func:`server_context`.
        CertificateOutOfTime: As for :func:`client_context`.
    """
    if credentials is None and authorities is not None:
        _require_current(f"authorities {authorities}", _certificates("authorities", authorities), _now())
    context = ssl.create_default_context(cafile=str(authorities) if authorities else None)
    if credentials is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _restrict(context, credentials)
        _require_in_time(credentials)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def require_tls(settings: Settings) -> None:
    """Check every file that the settings name for TLS, so that a node does not start with one that cannot work.

    What is out of its time is logged as an error.

    Raises:
        SettingsError: As for :func:`server_context`.
    """
    if settings.tls is not None:
        server_context(settings.tls)
    for credentials in _called_with(settings):
        _or_say(partial(client_context, credentials))
    for service in settings.destination:
        if isinstance(service, DicomwebDestinationTable):
            _or_say(partial(service_context, service.authorities, service.credentials))


def own_certificates(settings: Settings) -> tuple[Path, ...]:
    """The files of the certificates that this node shows, to callers or to those whom it calls."""
    services = [item.credentials for item in settings.destination if isinstance(item, DicomwebDestinationTable)]
    shown = [settings.tls, *_called_with(settings), *services]
    return tuple(sorted({item.certificate for item in shown if item is not None}))


def expiry_of(certificate: Path) -> datetime:
    """Until when a certificate is valid; the first of a file that holds several.

    Raises:
        SettingsError: The file cannot be read, or holds no certificate.
    """
    return _certificates("certificate", certificate)[0].not_valid_after_utc


def _called_with(settings: Settings) -> set[CredentialsTable]:
    """What is shown to DICOM destinations, and to a syslog server."""
    dimse = [item for item in settings.destination if isinstance(item, DestinationTable) and item.tls]
    shown = {item.credentials for item in dimse if item.credentials is not None}
    if settings.audit is not None and (settings.audit.syslog or "").startswith("tls:"):
        assert settings.audit.credentials is not None  # the settings see to it
        shown.add(settings.audit.credentials)
    return shown


def peer_certificate(connection: ssl.SSLSocket) -> PeerCertificate | None:
    """The certificate that the other side has shown; None where it showed none."""
    shown, encoded = connection.getpeercert(), connection.getpeercert(binary_form=True)
    if not shown or not encoded:
        return None
    fields: Any = shown
    common = [value for part in fields.get("subject", ()) for kind, value in part if kind == "commonName"]
    others = [value for kind, value in fields.get("subjectAltName", ()) if kind in {"DNS", "IP Address"}]
    return PeerCertificate(frozenset(name.lower() for name in (*common, *others)), hashlib.sha256(encoded).hexdigest())


def reason_of(error: OSError) -> str:
    """Why a handshake failed, in words that fit into one line of a log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "the handshake was not complete in time"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the other side ended the handshake; does it speak TLS?"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or type(error).__name__


def _restrict(context: ssl.SSLContext, credentials: CredentialsTable) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_SINGLE_ECDH_USE
    context.set_ciphers(_SUITES)
    require_private("[tls] key", credentials.key)
    for key in ("certificate", "authorities"):
        _certificates(key, getattr(credentials, key))
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(credentials.certificate, credentials.key, password=lambda: b"")
    except ssl.SSLError as error:
        raise SettingsError(
            f"[tls] certificate {credentials.certificate} and key {credentials.key} cannot be used together "
            f"({reason_of(error)}): expected an unencrypted PEM key, and the certificate that was made for it"
        ) from error
    context.load_verify_locations(credentials.authorities)
    if credentials.crl is not None:
        _revocation_lists(credentials.crl)
        context.load_verify_locations(credentials.crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def _or_say(check: Callable[[], object]) -> None:
    """Log what is out of its time."""
    try:
        check()
    except CertificateOutOfTime as error:
        _log.error("certificate out of its time", reason=error.message)


def _require_in_time(credentials: CredentialsTable) -> None:
    now, own = _now(), _certificates("certificate", credentials.certificate)[0]
    _require_current(f"certificate {credentials.certificate}", [own], now)
    _require_current(
        f"authorities {credentials.authorities}", _certificates("authorities", credentials.authorities), now
    )
    if credentials.crl is not None:
        _require_current_lists(credentials.crl, now)
    if own.not_valid_after_utc - now < EXPIRES_SOON:
        _log.warning(
            "certificate expires soon", path=str(credentials.certificate), expires=own.not_valid_after_utc.isoformat()
        )


def _require_current(what: str, certificates: Iterable[x509.Certificate], now: datetime) -> None:
    """Refuse a file all of whose certificates are out of date; a bundle may keep an old authority beside its heir."""
    periods = [(item.not_valid_before_utc, item.not_valid_after_utc) for item in certificates]
    if not any(begin <= now <= end for begin, end in periods):
        begin, end = periods[-1]
        raise CertificateOutOfTime(
            f"[tls] {what} is valid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, now it is "
            f"{now:%Y-%m-%d %H:%M}: renew it, or set the clock"
        )


def _require_current_lists(path: Path, now: datetime) -> None:
    """Refuse a file in which the last list of an authority was to be replaced by now."""
    ends: dict[x509.Name, datetime] = {}
    for item in _revocation_lists(path):
        end = item.next_update_utc or datetime.max.replace(tzinfo=UTC)
        ends[item.issuer] = max(end, ends.get(item.issuer, end))
    for issuer, end in ends.items():
        if end < now:
            raise CertificateOutOfTime(
                f"[tls] crl {path}: the list of {issuer.rfc4514_string()} was to be replaced by {end:%Y-%m-%d %H:%M} "
                "UTC; no certificate of this authority is accepted until a new one is there"
            )


def _revocation_lists(path: Path) -> list[x509.CertificateRevocationList]:
    try:
        content = path.read_bytes()
        blocks = _CRL.findall(content)
        lists = [x509.load_pem_x509_crl(block) for block in blocks]
    except ValueError as error:
        raise SettingsError(f"[tls] crl {path} holds a list that cannot be read ({error})") from error
    except OSError as error:
        raise SettingsError(f"[tls] crl {path} cannot be read: {error.strerror}") from error
    if re.search(rb"BEGIN [A-Z0-9 ]*CERTIFICATE-----", content):  # OpenSSL would take it for one more authority
        raise SettingsError(f"[tls] crl {path} holds certificates: expected revocation lists and nothing else")
    if not lists:
        raise SettingsError(f"[tls] crl {path} holds no revocation list in PEM form: convert one in DER form first")
    return lists


def _certificates(key: str, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError as error:
        raise SettingsError(f"[tls] {key} {path} holds no certificate in PEM form ({error})") from error
    except OSError as error:
        raise SettingsError(f"[tls] {key} {path} cannot be read: {error.strerror}") from error
