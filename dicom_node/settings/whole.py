"""The whole of node.toml, and what its tables have to agree on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field, model_validator

from dicom_node.settings.others import Destination, DestinationEntry, DestinationTable, PeerTable, RuleTable
from dicom_node.settings.services import (
    ArchiveTable,
    AuditTable,
    CredentialsTable,
    DicomwebTable,
    LimitsTable,
    MonitoringTable,
    NodeTable,
    RetentionTable,
    TlsTable,
)
from dicom_node.settings.values import ARCHIVE, SENDER, Table, is_loopback, meet


class Settings(Table):
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
    destination: tuple[DestinationEntry, ...] = Field(default=(), strict=False)
    rule: tuple[RuleTable, ...] = Field(default=(), strict=False)
    profile: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """``[profile.NAME]``: a site's own profiles, beside those of anatomy.toml; checked where they are read."""

    @model_validator(mode="after")
    def _ports_differ(self) -> Settings:
        taken: list[tuple[str, int]] = []
        for bind, port, refusal in self._listeners():
            if any(port == other and meet(bind, there) for there, other in taken):
                raise ValueError(refusal)
            taken.append((bind, port))
        return self

    def _listeners(self) -> Iterator[tuple[str, int, str]]:
        """Address and port of everything that listens, and what is said where an earlier one has it."""
        node, archive, tls = self.node, self.archive, self.tls
        if tls is None or tls.plain:
            yield node.bind, node.port, ""
        if archive.enabled:
            yield archive.bind, archive.port, f"node and archive cannot both listen on {node.bind}:{node.port}"
        if tls is not None:
            yield node.bind, tls.port, f"[tls] port {tls.port} is taken by the plain port or by the archive"
        for name, service in (("monitoring", self.monitoring), ("dicomweb", self.dicomweb)):
            if service.port is not None:
                words = f"[{name}] port {service.port} is taken by another service of this node"
                yield service.bind, service.port, words

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
        return self

    @model_validator(mode="after")
    def _dicomweb_is_closed_to_strangers(self) -> Settings:
        for peer in self.peer:
            if peer.token_file is not None and peer.ae_title == "*":
                raise ValueError('a peer with a token_file needs an AE title of its own, not "*"')
        web = self.dicomweb
        if web.port is None:
            return self
        if web.tls and self.tls is None:
            raise ValueError("[dicomweb] speaks TLS, but there is no table [tls]")
        if not web.tls and not is_loopback(web.bind):
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
