"""A web configuration file that is wrong: every problem at once, with its path, and no secret in it."""

from __future__ import annotations

from pathlib import Path

import bcrypt
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from exporter.config import ConfigError
from exporter.web_config import WebConfig, load

HASH = bcrypt.hashpw(b"right", b"$2b$04$abcdefghijklmnopqrstuu").decode()
CLIENT_AUTH = "'NoClientCert', 'RequestClientCert', 'VerifyClientCertIfGiven' or 'RequireAndVerifyClientCert'"
TLS = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"


def problems(directory: Path, content: str | bytes) -> list[str]:
    """What is wrong with a file of this content, without the file's own name."""
    file = directory / "web.yml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert all(problem.startswith(f"{file}: ") for problem in caught.value.problems)
    return [problem.removeprefix(f"{file}: ").replace(f"{directory}/", "") for problem in caught.value.problems]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a certificate and its key."""
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    (tmp_path / "garbage.pem").write_text("garbage")
    return tmp_path


def test_no_file_and_an_empty_file_protect_nothing(tmp_path: Path) -> None:
    """As in the exporter-toolkit; sections without content count as left out."""
    assert load(None) == WebConfig()
    for content in ("", "# nothing\n", "basic_auth_users:\ntls_server_config:\nhttp_server_config:\n"):
        (tmp_path / "web.yml").write_text(content)
        access = load(tmp_path / "web.yml")
        assert (access.ssl_context, access.users, access.authenticates) == (None, None, False)


def test_all_problems_are_told_at_once(directory: Path) -> None:
    """Unknown keys are problems, too."""
    content = f"""\
tls_server_config:
  cert_file: missing.pem
  client_ca_file: [ca.pem]
  curve_preferences: [X25519]
  min_version: TLS10
http_server_config:
  http2: true
  headers: {{X-Frame-Options: deny}}
basic_auth_users: {{ann: plain, bob: {HASH}, eve: 5}}
rate_limit: {{burst: 3}}
"""
    assert problems(directory, content) == [
        "basic_auth_users.ann: must be a bcrypt hash, as `htpasswd -nBC 10 name` prints it after the colon",
        "basic_auth_users.eve: must be a valid string",
        "http_server_config.headers: unknown key",
        "rate_limit: unknown key",
        "tls_server_config.cert_file: cannot read missing.pem: No such file or directory",
        "tls_server_config.client_ca_file: must be the path of a file",
        "tls_server_config.curve_preferences: unknown key",
        "tls_server_config.key_file: must be set",
        "tls_server_config.min_version: must be 'TLS12' or 'TLS13'",
    ]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("client_auth_type: RequireAnyClientCert", f".client_auth_type: must be {CLIENT_AUTH}"),
        (
            "client_auth_type: RequireAndVerifyClientCert",
            ": client_ca_file and a client_auth_type that verifies need each other",
        ),
        ("client_ca_file: cert.pem", ": client_ca_file and a client_auth_type that verifies need each other"),
        ("client_allowed_sans: [a]", ".client_allowed_sans: unknown key"),
        ("cipher_suites: [TLS_AES_128_GCM_SHA256]", ".cipher_suites: unknown key"),
        ("prefer_server_cipher_suites: true", ".prefer_server_cipher_suites: unknown key"),
        ("min_version: TLS13\n  max_version: TLS12", ": min_version is above max_version"),
        (
            "client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: garbage.pem",
            ": the files cannot be used: no certificate or crl found",
        ),
    ],
)
def test_tls_settings_that_do_not_fit_together(directory: Path, settings: str, problem: str) -> None:
    """What cannot be done, or would protect less than it seems to, is said at the start."""
    assert problems(directory, f"{TLS}  {settings}\n") == [f"tls_server_config{problem}"]


def test_a_key_of_another_certificate(directory: Path) -> None:
    """It is refused at the start, not at the first handshake."""
    trustme.CA().issue_cert("127.0.0.1").private_key_pem.write_to_path(directory / "key.pem")
    assert problems(directory, TLS) == ["tls_server_config: the files cannot be used: key values mismatch"]


def test_a_certificate_that_is_none(directory: Path) -> None:
    """A file of something else is refused at the start."""
    assert problems(directory, TLS.replace("cert.pem", "garbage.pem")) == [
        "tls_server_config: the files cannot be used: not in PEM format"
    ]


def test_a_key_with_a_passphrase(directory: Path) -> None:
    """It is refused instead of asking a terminal that a daemon does not have."""
    key = serialization.load_pem_private_key((directory / "key.pem").read_bytes(), None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (directory / "key.pem").write_bytes(key.private_bytes(*form, serialization.BestAvailableEncryption(b"secret")))
    (problem,) = problems(directory, TLS)
    assert problem.startswith("tls_server_config: the files cannot be used: ")


def test_relative_files_are_those_beside_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the working directory is; absolute ones stay as they are."""
    monkeypatch.chdir("/")
    file = directory / "web.yml"
    file.write_text(f"tls_server_config:\n  cert_file: ./cert.pem\n  key_file: {directory}/key.pem\n")
    assert load(file).ssl_context


@pytest.mark.parametrize(
    "content",
    [
        "basic_auth_users: {ann: *hunter2}\n",
        "basic_auth_users: {ann: !hunter2 x}\n",
        "basic_auth_users: {ann: 'hunter2\n",
        "- hunter2\n",
        "basic_auth_users: hunter2\n",
        "basic_auth_users: {ann: [hunter2]}\n",
        f"basic_auth_users: {{ann: '{HASH}hunter2'}}\n",
        "basic_auth_users: {hunter2 is the password: x}\n",
        f"{TLS.replace('key.pem', '|')}    -----BEGIN PRIVATE KEY-----\n    hunter2\n",
        b"basic_auth_users: {ann: hunter2\xff}\n",
    ],
)
def test_no_problem_repeats_a_secret(directory: Path, content: str | bytes) -> None:
    """Neither values, nor lines of the file, nor what was written in place of a name."""
    (problem,) = problems(directory, content)
    assert "hunter2" not in problem and HASH not in problem


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named, with the reason."""
    with pytest.raises(ConfigError, match=r"nothing\.yml: .*No such file or directory"):
        load(tmp_path / "nothing.yml")


def test_hashes_are_not_in_what_is_printed(tmp_path: Path) -> None:
    """Neither is the key under which results are remembered."""
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{ann: {HASH}}}\n")
    access = load(tmp_path / "web.yml")
    assert access.authenticates and HASH not in repr(access)
