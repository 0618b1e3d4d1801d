"""Certificates that the tests make for themselves."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Credentials:
    """A certificate, its key and the authority to believe, as PEM files."""

    certificate: Path
    key: Path
    authorities: Path

    @property
    def table(self) -> dict[str, str]:
        """As in ``[tls]``."""
        return {key: str(path) for key, path in vars(self).items()}

    @property
    def dcmtk(self) -> tuple[str, ...]:
        """As dcmtk's tools take them."""
        return ("+tls", str(self.key), str(self.certificate), "+cf", str(self.authorities))

    @property
    def sha256(self) -> str:
        """The certificate's fingerprint."""
        found = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return found.fingerprint(hashes.SHA256()).hex(":").upper()


@dataclass(frozen=True)
class Authority:
    """An authority of the tests' own; files lie under ``folder``."""

    folder: Path
    name: str = "Hospital CA"

    @cached_property
    def key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def subject(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])

    @cached_property
    def file(self) -> Path:
        """Its own certificate."""
        builder = self._builder(self.subject, self.key, days=(-1, 3650)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        path = self.folder / f"{self.name}.pem".replace(" ", "-")
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def issue(
        self, name: str, *, days: tuple[int, int] = (-1, 365), believes: Path | None = None, bits: int = 2048
    ) -> Credentials:
        """A certificate for this machine.

        Args:
            name: Its common name; its alternative names are 127.0.0.1 and ``name``.test.
            days: From when to when it is valid, from today.
            believes: Authorities that its owner believes; this one unless given.
            bits: Length of its RSA key.
        """
        key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        alternatives = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(f"{name}.test")]
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, days=days)
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        signed = builder.sign(self.key, hashes.SHA256())
        self.folder.mkdir(parents=True, exist_ok=True)
        certificate, key_file = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(pem_of(key))
        return Credentials(certificate, key_file, believes or self.file)

    def revoke(self, *revoked: Credentials, days: tuple[int, int] = (-1, 7), name: str = "revoked") -> Path:
        """A revocation list.

        Args:
            revoked: What it names.
            days: From when to when it is good, from today.
            name: Of the file.
        """
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(issuer_name=self.subject)
        builder = builder.last_update(now + timedelta(days=days[0])).next_update(now + timedelta(days=days[1]))
        for each in revoked:
            serial = x509.load_pem_x509_certificate(each.certificate.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - timedelta(hours=1))
            builder = builder.add_revoked_certificate(entry.build())
        path = self.folder / f"{name}.crl"
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def _builder(self, subject: x509.Name, key: rsa.RSAPrivateKey, *, days: tuple[int, int]) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
        )


def pem_of(key: rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    """A private key as PEM."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
