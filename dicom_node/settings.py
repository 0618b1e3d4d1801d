"""node.toml -> validated, frozen settings. Unknown keys are errors that name the key."""

from __future__ import annotations

import ipaddress
import os
import socket
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from dicom_node.errors import SettingsError

CONFIG_VARIABLE = "DICOM_NODE_CONFIG"
HOME_VARIABLE = "DICOM_NODE_HOME"
ARCHIVE = "archive"
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - compared, not bound
SENDER = "sender"
DEFAULT_PROFILE = "default"
SYSLOG_PORTS = {"tls": 6514, "udp": 514, "tcp": 601}
"""Ports registered for syslog by transport: RFC 5425, RFC 5426, RFC 6587."""


def _ae_title(value: str) -> str:
    if not 1 <= len(value.strip()) <= 16 or not value.isascii() or not value.isprintable() or "\\" in value:
        raise ValueError("an AE title has 1 to 16 ASCII characters and no backslash (PS3.5 6.2)")
    return value.strip()


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(f"expected an address or a network such as 10.1.0.0/16: {error}") from error
    return value


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _meet(one: str, other: str) -> bool:
    """Whether two listeners at these addresses cannot have the same port."""
    return one == other or _EVERYWHERE in {one, other}


def _fingerprint(value: str) -> str:
    plain = value.lower().removeprefix("sha256:").replace(":", "").replace(" ", "")
    if len(plain) != 64 or not all(digit in "0123456789abcdef" for digit in plain):
        raise ValueError("expected the SHA-256 fingerprint of a certificate: 64 hexadecimal digits, colons allowed")
    return plain


def _service_url(value: str) -> str:
    parts = urlsplit(value)
    if not value.isascii() or not value.isprintable() or " " in value or parts.port == 0:  # reading a port checks it
        raise ValueError("expected an address in ASCII without blanks, and a port from 1 to 65535")
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected the root of a DICOMweb service, such as https://pacs.example/dicom-web")
    if parts.username or parts.password:
        raise ValueError("a password does not belong into an address: set user and password_file")
    return value.rstrip("/")


def _database_url(value: str) -> str:
    scheme, separator, _ = value.partition("://")
    if not separator or scheme not in {"postgresql", "postgres", "postgresql+psycopg", "sqlite"}:
        raise ValueError("expected postgresql://user@host:port/database; leave it out for SQLite under home")
    return value


def _syslog_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_whole = parts.scheme in SYSLOG_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ValueError(f"expected tls://host:port, udp://host:port or tcp://host:port: {error}") from error
    if not is_whole or parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise ValueError("expected tls://host:port, udp://host:port or tcp://host:port, and nothing more")
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]
Network = Annotated[str, AfterValidator(_network)]
Port = Annotated[int, Field(ge=1, le=65535)]
Priority = Literal["routine", "urgent"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class NodeTable(_Table):
    """``[node]``: who this node is and where it keeps its state."""

    ae_title: AETitle = "DICOM_NODE"
    bind: str = "127.0.0.1"
    port: Port = 11112
    home: Path = Field(default=Path("node-data"), strict=False)
    quiet_seconds: float = Field(default=20.0, ge=0, strict=False)
    name: str = Field(default_factory=socket.gethostname, min_length=1, max_length=64)
    """What this machine is called among those that share a PostgreSQL; its host name unless set."""
    database: Annotated[str, AfterValidator(_database_url)] | None = None
    """``postgresql://user:password@host/database``, or ``sqlite:///PATH``; SQLite under ``home`` where absent."""
    storage_classes: tuple[str, ...] = Field(default=(), strict=False)
    """Further SOP class UIDs to accept beside CT, MR, Enhanced CT and Enhanced MR."""


class LimitsTable(_Table):
    """``[limits]``: how much the node takes before it answers "out of resources" (A700)."""

    spool_bytes: int | None = Field(default=None, ge=1)
    """Quota of the spool in bytes; none by default."""
    free_bytes: int = Field(default=256 * 1024 * 1024, ge=0)
    """Free disk space the node never goes below. Below twice as much only series that have begun are taken, until
    three times as much is free."""
    high_watermark: float = Field(default=0.9, gt=0, le=1, strict=False)
    """Share of a quota (``spool_bytes``, of the node or of a peer) from which only series that have begun are taken."""
    low_watermark: float = Field(default=0.8, gt=0, le=1, strict=False)
    """Share of a quota from which new series are taken again."""
    associations: int = Field(default=32, ge=1)
    connections: int = Field(default=256, ge=1, le=900)
    """Open connections in all, those without an association included; select() ends at 1024 descriptors."""
    connections_per_address: int = Field(default=64, ge=1)
    """Open connections from one IP address; a DICOM router calls for many from one."""
    negotiation_seconds: float = Field(default=30.0, gt=0, strict=False)
    """For a TLS handshake, and then for the association request to arrive whole."""
    pdu_seconds: float = Field(default=120.0, gt=0, strict=False)
    """For one PDU (1 MiB at most) to arrive whole, however its bytes are spread over that time."""
    idle_seconds: float = Field(default=900.0, gt=0, strict=False)
    """An association without any traffic for this long is aborted; scanners keep theirs open while they scan."""
    instance_seconds: float = Field(default=3600.0, gt=0, strict=False)
    """For one instance to arrive whole."""
    instance_bytes: int = Field(default=4 * 1024**3, ge=1)
    """Largest data set of one instance; pixel data cannot be longer than 4 GiB unless it is compressed."""
    receiving_bytes: int | None = Field(default=None, ge=1)
    """Memory that the data sets of all associations together may take while they arrive; half of the machine's where
    it is not set."""
    segmentation_seconds: float = Field(default=3600.0, gt=0, strict=False)
    """The inference process is killed after this long on one case."""
    inference_threads: int | None = Field(default=None, ge=1)
    """CPU threads of the inference process; as many as there are cores unless set."""
    inference_compiled: bool = False
    """Compile the networks when they are loaded, which takes minutes; used only where the results stay the same."""
    attempts: int = Field(default=3, ge=1)
    """Attempts at a case before it is held."""

    @model_validator(mode="after")
    def _low_mark_is_the_lower(self) -> LimitsTable:
        if self.low_watermark > self.high_watermark:
            raise ValueError(f"low_watermark {self.low_watermark} is above high_watermark {self.high_watermark}")
        return self


class CredentialsTable(_Table):
    """What one side of a TLS connection shows and trusts; PEM files."""

    certificate: Path = Field(strict=False)
    """The certificate of this node, followed by the intermediate ones that lead to its authority."""
    key: Path = Field(strict=False)
    """Its private key: unencrypted, readable by its owner alone."""
    authorities: Path = Field(strict=False)
    """The authorities whose certificates are believed; no others are, those of the system included."""


class TlsTable(CredentialsTable):
    """``[tls]``: DICOM over TLS (PS3.15 B.12), beside the plain port or instead of it."""

    port: Port = 2762
    """The DICOM port over TLS; 2762 is registered as dicom-tls."""
    plain: bool = True
    """Whether the plain port, ``[node] port``, is open too; false once every peer speaks TLS."""
    require_client_certificate: bool = True
    """Whether those who call have to show a certificate of one of the authorities."""


class RetentionTable(_Table):
    """``[retention]``: how long what is finished stays on the disk; 0 keeps it for ever.

    Days count from the end of the last case of a series, and only once every case of it is done (all deliveries
    confirmed), superseded by one that is, or discarded. Held cases keep everything.
    """

    spool_days: float = Field(default=30.0, ge=0, strict=False)
    """Received images."""
    results_days: float = Field(default=90.0, ge=0, strict=False)
    """Results and labels in the folder of a case."""
    record_days: float = Field(default=730.0, ge=0, strict=False)
    """What the ledger knows of cases whose images and results are removed."""


class MonitoringTable(_Table):
    """``[monitoring]``: metrics, health and readiness over HTTP, for whoever can reach it; off until a port is set."""

    bind: str = "127.0.0.1"
    port: Port | None = None
    roles: tuple[Literal["listener", "worker", "archive", "audit"], ...] = Field(default=(), strict=False)
    """Processes that have to run on this machine; all of the node's unless set, for a node spread over machines."""
    token: str | None = Field(default=None, min_length=16, pattern=r"^[!-~]+$")
    """Who shows it (``Authorization: Bearer ...``) may ask how series stand and have their cases run again, as
    Orthanc's plugin does; nobody may unless it is set."""


class AuditTable(_Table):
    """``[audit]``: the audit trail, as DICOM audit messages (PS3.15 A.5); absent: none is kept."""

    file: Path | None = Field(default=None, strict=False)
    """One message a line, mode 0600; made anew where it was rotated away."""
    syslog: Annotated[str, AfterValidator(_syslog_url)] | None = None
    """``tls://host:port`` (RFC 5425), ``udp://host:port`` (RFC 5426), or ``tcp://host:port``, which is neither
    encrypted nor part of the standard; the ports that are registered for it where none is given."""
    source_id: str | None = Field(default=None, min_length=1)
    """AuditSourceID; ``[node] name`` unless set."""
    enterprise_site: str | None = Field(default=None, min_length=1)
    """AuditEnterpriseSiteID: which hospital."""
    credentials: CredentialsTable | None = None
    """What is shown to a syslog server over TLS, and trusted; as in ``[tls]`` unless set."""

    @model_validator(mode="after")
    def _goes_somewhere(self) -> AuditTable:
        if self.file is None and self.syslog is None:
            raise ValueError("set file, syslog or both: an audit trail has to go somewhere")
        return self

    @property
    def syslog_server(self) -> SplitResult | None:
        """The syslog server's transport, host and port."""
        if self.syslog is None:
            return None
        parts = urlsplit(self.syslog)
        return parts if parts.port else urlsplit(f"{parts.scheme}://{parts.netloc}:{SYSLOG_PORTS[parts.scheme]}")


class DicomwebTable(_Table):
    """``[dicomweb]``: reception by STOW-RS (PS3.18 10.5) beside C-STORE; off until a port is set.

    Only a ``[[peer]]`` with a token or a certificate of its own may store over it.
    """

    bind: str = "127.0.0.1"
    port: Port | None = None
    prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = "/dicom-web"
    """Path of the service: instances are stored by POST to ``{prefix}/studies``."""
    tls: bool = False
    """Whether it speaks TLS, as ``[tls]`` says; a port that others can reach has to. A client certificate is asked
    for, and needed only by peers that are known by it."""
    parts: int = Field(default=5000, ge=1)
    """Instances in one request at most."""


class ArchiveTable(_Table):
    """``[archive]``: the embedded archive, a destination of its own for installations without a PACS at hand."""

    enabled: bool = True
    ae_title: AETitle = "NODE_ARCHIVE"
    bind: str = "127.0.0.1"
    port: Port = 11113


class PeerTable(_Table):
    """``[[peer]]``: who may send; nobody else. ``ae_title = "*"`` stands for any."""

    ae_title: Annotated[str, AfterValidator(lambda value: value if value == "*" else _ae_title(value))]
    address: Network
    port: Port = 104
    """Where this peer listens, for rules that send results back to the sender."""
    profile: str = DEFAULT_PROFILE
    """How results are made for it, as for a destination."""
    tls: bool = False
    """Whether it has to call over TLS; results go back to it over TLS too."""
    associations: int | None = Field(default=None, ge=1)
    """Associations it may have open at the same time; those of ``[limits]`` unless set."""
    storage_classes: tuple[str, ...] = Field(default=(), strict=False)
    """SOP class UIDs it may store, of those the node accepts; all of them where empty."""
    spool_bytes: int | None = Field(default=None, ge=1)
    """Quota of what it has in the spool, in bytes; none by default."""
    certificate_name: str | None = Field(default=None, min_length=1)
    """The name that the certificate it shows has to bear: subject common name, or a DNS name or address of its
    alternative names. Implies ``tls``."""
    certificate_sha256: Annotated[str, AfterValidator(_fingerprint)] | None = None
    """The SHA-256 fingerprint that the certificate it shows has to have. Implies ``tls``."""
    token_file: Path | None = Field(default=None, strict=False)
    """File, readable by its owner alone, with the bearer token that it has to show to store over DICOMweb."""

    @property
    def over_tls(self) -> bool:
        """Whether this peer is let in over TLS alone."""
        return self.tls or self.has_certificate

    @property
    def has_certificate(self) -> bool:
        """Whether it is known by its certificate."""
        return self.certificate_name is not None or self.certificate_sha256 is not None

    @property
    def may_use_dicomweb(self) -> bool:
        """Whether it may store over DICOMweb: a token or a certificate tells that it is this peer, of one AE title."""
        return self.ae_title != "*" and (self.token_file is not None or self.has_certificate)


class _AnyDestination(_Table):
    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    profile: str = DEFAULT_PROFILE
    timeout_seconds: float = Field(default=60.0, gt=0, strict=False)
    retry_seconds: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(10, 60, 300, 900, 3600, 14400, 43200), strict=False
    )
    """Pause before each further attempt; after the last pause has been used the delivery is held."""


class DestinationTable(_AnyDestination):
    """``[[destination]]``: where results may go."""

    ae_title: AETitle
    host: str = Field(min_length=1)
    port: Port
    confirm: Literal["commitment", "auto", "c-find", "c-store"] = "c-find"
    """How arrival is proved: the destination commits to it (storage commitment; C-FIND where it offers none, and with
    ``auto`` where it refuses the request, too), it is asked back by C-FIND (where the peer offers it), or the C-STORE
    status alone."""
    commitment_seconds: float = Field(default=3600.0, gt=0, strict=False)
    """How long a report of storage commitment may take; then C-FIND is asked, and commitment requested again."""
    reports_from: tuple[Network, ...] = Field(default=(), strict=False)
    """Addresses or networks its reports of storage commitment may come from, beside those of ``host``."""
    tls: bool = False
    """Whether it is called over TLS; it has to show a certificate for its host."""
    tls_name: str | None = Field(default=None, min_length=1)
    """The DNS name or address that its certificate bears, where that is not ``host``."""
    credentials: CredentialsTable | None = None
    """What this node shows to it and trusts; as in ``[tls]`` unless set."""

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return f"{self.ae_title} at {self.host}:{self.port}"

    @property
    def over_tls(self) -> bool:
        """Whether it is called over TLS."""
        return self.tls


class DicomwebDestinationTable(_AnyDestination):
    """``[[destination]]`` with a ``url``: results go there by STOW-RS (PS3.18 10.5)."""

    url: Annotated[str, AfterValidator(_service_url)]
    """Root of the service: ``/studies`` is appended."""
    confirm: Literal["qido-rs", "stow-rs"] = "qido-rs"
    """How arrival is proved: the service is asked back by QIDO-RS (where it offers it), or its answer alone."""
    token_file: Path | None = Field(default=None, strict=False)
    """File with a bearer token, readable by its owner alone; read for each attempt, so that it may be renewed."""
    user: str | None = Field(default=None, min_length=1)
    """User name, for services that ask for a password."""
    password_file: Path | None = Field(default=None, strict=False)
    """File with the password, readable by its owner alone."""
    authorities: Path | None = Field(default=None, strict=False)
    """The authorities whose certificates are believed; those of the machine unless set."""
    credentials: CredentialsTable | None = None
    """What this node shows and trusts, for services that want a client certificate; instead of ``authorities``."""

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return self.url

    @property
    def over_tls(self) -> bool:
        """Whether it is called over TLS."""
        return self.url.startswith("https://")

    @model_validator(mode="after")
    def _secrets_are_whole_and_kept(self) -> DicomwebDestinationTable:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together")
        if self.token_file is not None and self.user is not None:
            raise ValueError("set a token or a user with a password, not both")
        secrets = [self.token_file, self.password_file, self.authorities, self.credentials]
        if not self.url.startswith("https://") and any(secrets):
            raise ValueError("passwords, tokens and certificates are sent over https alone")
        if self.authorities is not None and self.credentials is not None:
            raise ValueError("credentials name authorities already")
        return self


def _kind_of_destination(table: Any) -> str:
    if isinstance(table, dict):
        return "dicomweb" if "url" in table else "dimse"
    return "dicomweb" if isinstance(table, DicomwebDestinationTable) else "dimse"


Destination = DestinationTable | DicomwebDestinationTable
"""Where results may go: over the DICOM upper layer, or to a DICOMweb service where a ``url`` is set."""
_DESTINATION = Annotated[
    Annotated[DestinationTable, Tag("dimse")] | Annotated[DicomwebDestinationTable, Tag("dicomweb")],
    Discriminator(_kind_of_destination),
]


class RuleTable(_Table):
    """``[[rule]]``: conditions over DICOM keywords; the first rule that matches wins."""

    name: str = Field(min_length=1)
    when: dict[str, Any] = Field(default_factory=dict)
    card: str | None = None
    """Card to segment with; none: the card whose anatomy fits."""
    to: tuple[str, ...] = Field(default=(), strict=False)
    """Names of destinations; "sender" is who sent the series. None: every destination, else the embedded archive."""
    priority: Priority = "routine"


class Settings(_Table):
    """The whole of node.toml."""

    node: NodeTable = NodeTable()
    limits: LimitsTable = LimitsTable()
    retention: RetentionTable = RetentionTable()
    archive: ArchiveTable = ArchiveTable()
    tls: TlsTable | None = None
    audit: AuditTable | None = None
    monitoring: MonitoringTable = MonitoringTable()
    dicomweb: DicomwebTable = DicomwebTable()
    peer: tuple[PeerTable, ...] = Field(default=(), strict=False)
    destination: tuple[_DESTINATION, ...] = Field(default=(), strict=False)
    rule: tuple[RuleTable, ...] = Field(default=(), strict=False)
    profile: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """``[profile.NAME]``: a site's own profiles, beside those of anatomy.toml; checked where they are read."""

    @model_validator(mode="after")
    def _ports_differ(self) -> Settings:
        if self.archive.enabled and (self.archive.bind, self.archive.port) == (self.node.bind, self.node.port):
            raise ValueError(f"node and archive cannot both listen on {self.node.bind}:{self.node.port}")
        monitoring = self.monitoring
        taken = set(self.dicom_ports) if _meet(monitoring.bind, self.node.bind) else set()
        if self.archive.enabled and _meet(monitoring.bind, self.archive.bind):
            taken.add(self.archive.port)
        if monitoring.port in taken:
            raise ValueError(f"[monitoring] port {monitoring.port} is taken by another service of this node")
        return self

    @model_validator(mode="before")
    @classmethod
    def _others_share_our_credentials(cls, tables: Any) -> Any:
        tls = tables.get("tls") if isinstance(tables, dict) else None
        if not isinstance(tls, dict):
            return tables
        ours = {key: tls[key] for key in CredentialsTable.model_fields if key in tls}
        if isinstance(tables.get("audit"), dict):
            tables = {**tables, "audit": {"credentials": ours, **tables["audit"]}}
        if not isinstance(tables.get("destination"), list | tuple):
            return tables
        destinations = [
            {"credentials": ours, **item} if isinstance(item, dict) and item.get("tls") is True else item
            for item in tables["destination"]
        ]
        return {**tables, "destination": destinations}

    @model_validator(mode="after")
    def _tls_is_set_up_where_it_is_asked_for(self) -> Settings:
        for peer in self.peer:
            if peer.over_tls and self.tls is None:
                raise ValueError(f'peer "{peer.ae_title}" has to call over TLS, but there is no table [tls]')
        for destination in self.destination:
            if isinstance(destination, DestinationTable) and destination.tls and destination.credentials is None:
                raise ValueError(f'destination "{destination.name}" is called over TLS, but there is no table [tls]')
        if self.audit is not None and (self.audit.syslog or "").startswith("tls:") and not self.audit.credentials:
            raise ValueError("[audit] syslog is called over TLS, but there is neither [tls] nor [audit.credentials]")
        if self.tls is not None:
            others = [(self.node.bind, self.node.port)] if self.tls.plain else []
            others += [(self.archive.bind, self.archive.port)] if self.archive.enabled else []
            if (self.node.bind, self.tls.port) in others:
                raise ValueError(f"[tls] port {self.tls.port} is taken by the plain port or by the archive")
        return self

    @model_validator(mode="after")
    def _dicomweb_is_closed_to_strangers(self) -> Settings:
        for peer in self.peer:
            if peer.token_file is not None and peer.ae_title == "*":
                raise ValueError('a peer with a token_file needs an AE title of its own, not "*"')
        web = self.dicomweb
        if web.port is None:
            return self
        taken = {self.node.port, *([self.tls.port] if self.tls else [])} if web.bind == self.node.bind else set()
        taken |= {table.port for table in (self.archive, self.monitoring) if table.bind == web.bind and table.port}
        if web.port in taken:
            raise ValueError(f"[dicomweb] port {web.port} is taken by another service of this node")
        if web.tls and self.tls is None:
            raise ValueError("[dicomweb] speaks TLS, but there is no table [tls]")
        if not web.tls and not _is_loopback(web.bind):
            raise ValueError(
                f"[dicomweb] bind {web.bind} can be reached by others, who would see tokens and images: set tls = true"
            )
        if not any(peer.may_use_dicomweb for peer in self.peer):
            raise ValueError(
                "[dicomweb] nobody may store over it: give a [[peer]] a token_file, certificate_name or "
                "certificate_sha256"
            )
        return self

    @model_validator(mode="after")
    def _references_exist(self) -> Settings:
        names = [destination.name for destination in self.destination]
        for name in names:
            if names.count(name) > 1 or name in {SENDER, ARCHIVE}:
                raise ValueError(f'destination name "{name}" is used twice or is reserved')
        known = {*names, SENDER, *([ARCHIVE] if self.archive.enabled else [])}
        for rule in self.rule:
            unknown = [name for name in rule.to if name not in known]
            if unknown:
                raise ValueError(f'rule "{rule.name}" sends to {unknown}, but the destinations are {sorted(known)}')
        return self

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Configured destinations, and the embedded archive where it is enabled."""
        if not self.archive.enabled:
            return self.destination
        archive = DestinationTable(
            name=ARCHIVE, ae_title=self.archive.ae_title, host=self.archive.bind, port=self.archive.port
        )
        return (*self.destination, archive)

    @property
    def peers(self) -> tuple[PeerTable, ...]:
        """Who may send; without any ``[[peer]]``, any AE title of this machine alone."""
        return self.peer or (
            PeerTable(ae_title="*", address="127.0.0.0/8"),
            PeerTable(ae_title="*", address="::1/128"),
        )

    @property
    def default_destinations(self) -> tuple[str, ...]:
        """Where results go when no rule says: every configured destination, else the embedded archive."""
        names = tuple(destination.name for destination in self.destination)
        return names or ((ARCHIVE,) if self.archive.enabled else ())

    @property
    def dicom_ports(self) -> tuple[int, ...]:
        """The ports that the listener opens."""
        if self.tls is None:
            return (self.node.port,)
        return (*((self.node.port,) if self.tls.plain else ()), self.tls.port)

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the node's database: SQLite under home unless ``[node] database`` says otherwise.

        PostgreSQL is reached through psycopg 3, which the engine brings; the plain scheme means another driver in
        SQLAlchemy 2.0.
        """
        if self.node.database is None:
            return f"sqlite:///{(self.node.home / 'node.sqlite').absolute()}"
        if not self.is_shared:
            return self.node.database
        return "postgresql+psycopg://" + self.node.database.partition("://")[2]

    @property
    def is_shared(self) -> bool:
        """Whether several machines may work on this database: whether it is PostgreSQL."""
        return self.node.database is not None and not self.node.database.startswith("sqlite")


def load_settings(path: Path | None = None) -> Settings:
    """Read the configuration.

    Args:
        path: The file; else ``$DICOM_NODE_CONFIG``, else ``./node.toml``, else the defaults.
            ``$DICOM_NODE_HOME`` replaces a home that the file does not set.

    Raises:
        SettingsError: The file is missing, is not TOML, has an unknown key or a wrong value.
    """
    source = _config_path(path)
    tables = _read_toml(source) if source else {}
    return parse_settings(tables, origin=str(source) if source else "defaults")


def parse_settings(tables: dict[str, Any], *, origin: str) -> Settings:
    """Validate settings that were read already.

    Args:
        tables: The TOML document.
        origin: What error messages call it.

    Raises:
        SettingsError: An unknown key or a wrong value, by name.
    """
    node = dict(tables.get("node", {})) if isinstance(tables.get("node", {}), dict) else tables["node"]
    if isinstance(node, dict) and "home" not in node and os.environ.get(HOME_VARIABLE):
        tables = {**tables, "node": {**node, "home": os.environ[HOME_VARIABLE]}}
    try:
        return Settings.model_validate(tables)
    except ValidationError as error:
        raise SettingsError(f"{origin}: " + "; ".join(_plain(item) for item in error.errors())) from error


def _config_path(path: Path | None) -> Path | None:
    named = path or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            raise SettingsError(f"{named}: no such configuration file")
        return named
    local = Path("node.toml")
    return local if local.is_file() else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors of Windows put a byte order mark first
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error


def _plain(item: Any) -> str:
    kinds = {"dimse", "dicomweb"} if item["loc"][:1] == ("destination",) else set()
    place = ".".join(str(part) for part in item["loc"] if part not in kinds) or "settings"
    if item["type"] == "extra_forbidden":
        return f'unknown key "{place}"'
    return f"{place}: {item['msg']}"
