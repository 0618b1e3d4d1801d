"""TLS from the settings: what cannot work is named before anything starts."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from dicom_node.errors import CertificateOutOfTime, SettingsError
from dicom_node.settings import CredentialsTable, Settings, parse_settings
from dicom_node.tls import client_context, require_tls, server_context
from tests.certificates import Authority, Credentials, pem_of


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def credentials(authority: Authority) -> Credentials:
    return authority.issue("node")


def settings_of(credentials: Credentials, **tables: Any) -> Settings:
    return parse_settings({"tls": credentials.table, **tables}, origin="test")


def refusal(credentials: Credentials) -> str:
    with pytest.raises(SettingsError) as raised:
        require_tls(settings_of(credentials))
    return raised.value.message


def test_what_fits_is_taken_and_nothing_old_is_offered(credentials: Credentials) -> None:
    settings = settings_of(credentials)
    require_tls(settings)
    assert settings.tls is not None
    context = server_context(settings.tls)
    old = [cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert sorted(old) == sorted(
        f"ECDHE-{kind}-{suite}"
        for kind in ("ECDSA", "RSA")
        for suite in ("AES256-GCM-SHA384", "AES128-GCM-SHA256")
    )  # fmt: skip
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("key", ["certificate", "key", "authorities"])
def test_a_missing_file_is_named(credentials: Credentials, key: str) -> None:
    getattr(credentials, key).unlink()
    message = refusal(credentials)
    assert f"[tls] {key} {getattr(credentials, key)} cannot be read: No such file" in message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_refused(credentials: Credentials, mode: int) -> None:
    credentials.key.chmod(mode)
    assert f"can be read by others (mode {mode:04o}): chmod 600 {credentials.key}" in refusal(credentials)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a key over as a secret of root's")
@pytest.mark.parametrize(("mode", "is_taken"), [(0o440, True), (0o460, False), (0o444, False)])
def test_a_key_of_roots_may_be_readable_by_the_group_of_the_node(
    credentials: Credentials, mode: int, is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials.key.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    if is_taken:
        require_tls(settings_of(credentials))
    else:
        assert f"can be read by others (mode {mode:04o})" in refusal(credentials)


@pytest.mark.parametrize(("days", "word"), [((-10, -1), "renew it"), ((1, 10), "set the clock")])
def test_a_certificate_out_of_its_time_is_told_and_keeps_nothing_from_starting(
    authority: Authority, days: tuple[int, int], word: str, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(authority.issue("late", days=days))
    require_tls(settings)
    assert settings.tls is not None
    server_context(settings.tls)
    said = "".join(capfd.readouterr())
    assert said.count("certificate out of its time") == 2
    assert word in said


def test_what_is_out_of_its_time_is_not_sent_with(authority: Authority) -> None:
    late = CredentialsTable.model_validate(authority.issue("late", days=(-10, -1)).table)
    with pytest.raises(CertificateOutOfTime):
        client_context(late)


def test_a_destination_whose_certificate_is_out_of_its_time_keeps_nothing_from_starting(
    authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    late = authority.issue("late", days=(-10, -1))
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "pacs.example", "port": 2762}
    secured = {**pacs, "tls": True, "credentials": late.table}
    require_tls(parse_settings({"destination": [secured]}, origin="test"))
    assert "certificate out of its time" in "".join(capfd.readouterr())


def test_a_certificate_out_of_its_time_whose_key_does_not_fit_is_refused(authority: Authority) -> None:
    late, other = authority.issue("late", days=(-10, -1)), authority.issue("other")
    assert "cannot be used together" in refusal(Credentials(late.certificate, other.key, late.authorities))


def test_a_key_of_another_certificate_is_refused(authority: Authority, credentials: Credentials) -> None:
    other = authority.issue("other")
    message = refusal(Credentials(credentials.certificate, other.key, credentials.authorities))
    assert "cannot be used together (key values mismatch)" in message


def test_an_encrypted_key_is_refused_and_nobody_is_asked(credentials: Credentials) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    credentials.key.write_bytes(pem_of(key, b"secret"))
    assert "expected an unencrypted PEM key" in refusal(credentials)


def test_a_short_key_is_refused(authority: Authority) -> None:
    assert "key too small" in refusal(authority.issue("short", bits=1024))


def test_a_file_without_a_certificate_is_refused(credentials: Credentials) -> None:
    credentials.authorities.write_text("nothing\n")
    assert "holds no certificate in PEM form" in refusal(credentials)


def test_a_file_without_a_revocation_list_is_refused(credentials: Credentials) -> None:
    (empty := credentials.certificate.with_name("empty.crl")).write_text("nothing\n")
    tables = {"tls": {**credentials.table, "crl": str(empty)}}
    with pytest.raises(SettingsError, match="holds no revocation list"):
        require_tls(parse_settings(tables, origin="test"))


def test_no_certificate_becomes_an_authority_by_way_of_the_revocation_lists(credentials: Credentials) -> None:
    tables = {"tls": {**credentials.table, "crl": str(credentials.authorities)}}
    with pytest.raises(SettingsError, match="holds certificates"):
        require_tls(parse_settings(tables, origin="test"))


def test_a_destination_shows_what_the_node_shows_unless_it_has_its_own(
    authority: Authority, credentials: Credentials
) -> None:
    own = authority.issue("own")
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "pacs.test", "port": 2762, "tls": True}
    settings = settings_of(credentials, destination=[pacs, {**pacs, "name": "other", "credentials": own.table}])
    shown = [item.credentials.certificate for item in settings.destination if item.credentials]
    assert shown == [credentials.certificate, own.certificate]
    own.key.chmod(0o644)
    with pytest.raises(SettingsError, match="can be read by others"):
        require_tls(settings)


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"peer": [{"ae_title": "A", "address": "10.1.0.0/16", "tls": True}]}, 'peer "A" has to call over TLS'),
        (
            {"peer": [{"ae_title": "A", "address": "10.1.0.0/16", "certificate_name": "ct"}]},
            'peer "A" has to call over TLS',
        ),
        (
            {"destination": [{"name": "d", "ae_title": "A", "host": "h", "port": 1, "tls": True}]},
            'destination "d" is called over TLS, but there is no table',
        ),
        ({"peer": [{"ae_title": "A", "address": "10.1.0.0/16", "certificate_sha256": "AB:CD"}]}, "64 hexadecimal"),
        ({"tls": {"certificate": "a", "key": "b", "authorities": "c", "port": 11112}}, "taken by the plain port"),
        ({"tls": {"certificate": "a", "key": "b"}}, "tls.authorities"),
    ],
)
def test_settings_that_contradict_each_other_are_named(tables: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_settings(tables, origin="test")
    assert named in raised.value.message
