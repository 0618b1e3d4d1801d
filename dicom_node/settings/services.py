"""The tables of what the node itself is and runs."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, model_validator

from dicom_node.settings.values import SYSLOG_PORTS, AETitle, Port, Table, database_url, syslog_url


class NodeTable(Table):
    """``[node]``: who this node is and where it keeps its state."""

    ae_title: AETitle = "DICOM_NODE"
    bind: str = "127.0.0.1"
    port: Port = 11112
    home: Path = Field(default=Path("node-data"), strict=False)
    quiet_seconds: float = Field(default=20.0, ge=0, strict=False)
    name: str = Field(default_factory=socket.gethostname, min_length=1, max_length=64)
    """What this machine is called among those that share a PostgreSQL; its host name unless set."""
    database: Annotated[str, AfterValidator(database_url)] | None = None
    """``postgresql://user:password@host/database``, or ``sqlite:///PATH``; SQLite under ``home`` where absent."""
    storage_classes: tuple[str, ...] = Field(default=(), strict=False)
    """Further SOP class UIDs to accept beside CT, MR, Enhanced CT and Enhanced MR."""


class LimitsTable(Table):
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


class CredentialsTable(Table):
    """What one side of a TLS connection shows and trusts; PEM files."""

    certificate: Path = Field(strict=False)
    """The certificate of this node, followed by the intermediate ones that lead to its authority."""
    key: Path = Field(strict=False)
    """Its private key: unencrypted, readable by its owner alone."""
    authorities: Path = Field(strict=False)
    """The authorities whose certificates are believed; no others are, those of the system included."""
    crl: Path | None = Field(default=None, strict=False)
    """Revocation lists of every authority that issues to peers: a certificate on one is not believed, nor is any while
    the list of its authority is missing or out of its time. No certificate is looked up unless it is set."""


class TlsTable(CredentialsTable):
    """``[tls]``: DICOM over TLS (PS3.15 B.12), beside the plain port or instead of it."""

    port: Port = 2762
    """The DICOM port over TLS; 2762 is registered as dicom-tls."""
    plain: bool = True
    """Whether the plain port, ``[node] port``, is open too; false once every peer speaks TLS."""
    require_client_certificate: bool = True
    """Whether those who call have to show a certificate of one of the authorities."""


class RetentionTable(Table):
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


class MonitoringTable(Table):
    """``[monitoring]``: metrics, health and readiness over HTTP, for whoever can reach it; off until a port is set."""

    bind: str = "127.0.0.1"
    port: Port | None = None
    roles: tuple[Literal["listener", "worker", "archive", "audit"], ...] = Field(default=(), strict=False)
    """Processes that have to run on this machine; all of the node's unless set, for a node spread over machines."""
    token: str | None = Field(default=None, min_length=16, pattern=r"^[!-~]+$")
    """Who shows it (``Authorization: Bearer ...``) may ask how series stand and have their cases run again, as
    Orthanc's plugin does; nobody may unless it is set."""


class AuditTable(Table):
    """``[audit]``: the audit trail, as DICOM audit messages (PS3.15 A.5); absent: none is kept."""

    file: Path | None = Field(default=None, strict=False)
    """One message a line, mode 0600; made anew where it was rotated away."""
    syslog: Annotated[str, AfterValidator(syslog_url)] | None = None
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


class DicomwebTable(Table):
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


class ArchiveTable(Table):
    """``[archive]``: the embedded archive, a destination of its own for installations without a PACS at hand."""

    enabled: bool = True
    ae_title: AETitle = "NODE_ARCHIVE"
    bind: str = "127.0.0.1"
    port: Port = 11113
