"""The tables of those the node speaks with: peers, destinations, and the rules between them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from dicom_node.settings.services import CredentialsTable
from dicom_node.settings.values import (
    DEFAULT_PROFILE,
    AETitle,
    Network,
    Port,
    Priority,
    Table,
    ae_title,
    fingerprint,
    service_url,
)


class PeerTable(Table):
    """``[[peer]]``: who may send; nobody else. ``ae_title = "*"`` stands for any."""

    ae_title: Annotated[str, AfterValidator(lambda value: value if value == "*" else ae_title(value))]
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
    certificate_sha256: Annotated[str, AfterValidator(fingerprint)] | None = None
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


Proof = Literal["commitment", "query", "answer"]
"""What proves that something has arrived at a destination: that it commits to it, that it lists it when it is asked, or
its answer to what was sent."""


class _AnyDestination(Table):
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

    @property
    def proof(self) -> Proof:
        """What proves that something has arrived."""
        if self.confirm == "c-find":
            return "query"
        return "answer" if self.confirm == "c-store" else "commitment"


class DicomwebDestinationTable(_AnyDestination):
    """``[[destination]]`` with a ``url``: results go there by STOW-RS (PS3.18 10.5)."""

    url: Annotated[str, AfterValidator(service_url)]
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

    @property
    def proof(self) -> Proof:
        """What proves that something has arrived."""
        return "query" if self.confirm == "qido-rs" else "answer"

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
DestinationEntry = Annotated[
    Annotated[DestinationTable, Tag("dimse")] | Annotated[DicomwebDestinationTable, Tag("dicomweb")],
    Discriminator(_kind_of_destination),
]
"""The same as an entry of node.toml: which of the two it is, is seen from its keys."""


class RuleTable(Table):
    """``[[rule]]``: conditions over DICOM keywords; the first rule that matches wins."""

    name: str = Field(min_length=1)
    when: dict[str, Any] = Field(default_factory=dict)
    card: str | None = None
    """Card to segment with; none: the card whose anatomy fits."""
    to: tuple[str, ...] = Field(default=(), strict=False)
    """Names of destinations; "sender" is who sent the series. None: every destination, else the embedded archive."""
    priority: Priority = "routine"
