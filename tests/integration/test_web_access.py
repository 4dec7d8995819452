"""Who may come, over real TLS and HTTP: what a web configuration file makes of the endpoint."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from base64 import b64encode
from pathlib import Path

import aiohttp
import bcrypt
import pytest
import trustme

from exporter.web import Readiness, application, listening
from exporter.web_config import Users, WebConfig, load
from tests.integration.endpoint import LOOPBACK, configured

PATHS = ("/", "/metrics", "/-/healthy", "/-/ready")


def hashed(password: str, rounds: int = 4) -> str:
    """A bcrypt hash, cheap unless told otherwise."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Whom both sides trust."""
    return trustme.CA()


class Files:
    """A web configuration file and the TLS files beside it, which it names without their directory."""

    def __init__(self, directory: Path, authority: trustme.CA) -> None:
        self.path, self._directory, self._authority = directory / "web.yml", directory, authority

    def certify(self, *names: str) -> None:
        """A new certificate for the server."""
        certificate = self._authority.issue_cert(*names)
        certificate.private_key_pem.write_to_path(self._directory / "key.pem")
        (self._directory / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))

    def trust(self, authority: trustme.CA) -> None:
        """Whose clients are let in."""
        authority.cert_pem.write_to_path(self._directory / "ca.pem")

    def load(self, *lines: str) -> WebConfig:
        """With these lines beside the certificate's."""
        tls = ["tls_server_config:", "cert_file: cert.pem", "key_file: key.pem", *lines]
        self.path.write_text("\n  ".join(tls))
        return load(self.path)


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    """The files, with a certificate for 127.0.0.1."""
    made = Files(tmp_path, authority)
    made.certify("127.0.0.1")
    return made


def trusting(authority: trustme.CA, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """A client's side of TLS."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate:
        certificate.configure_cert(context)
    return context


async def status(url: str, tls: ssl.SSLContext) -> int | str:
    """The status of a new connection's answer; `refused` if TLS fails."""
    async with aiohttp.ClientSession() as client:
        try:
            return (await client.get(f"{url}/metrics", ssl=tls)).status
        except (aiohttp.ClientConnectionError, aiohttp.ClientOSError):
            return "refused"


def endpoint(access: WebConfig, listen: str = "0.0.0.0:9780") -> aiohttp.web.Application:
    """An endpoint without collectors."""
    return application([], configured(listen=listen), access, Readiness(None))


async def test_tls_and_nothing_else(files: Files, authority: trustme.CA) -> None:
    """The endpoint speaks HTTPS; plain HTTP is not answered; and TLS alone proves nothing of the client."""
    access = files.load("min_version: TLS13")
    async with listening(endpoint(access), LOOPBACK, access) as url, aiohttp.ClientSession() as client:
        assert url.startswith("https://127.0.0.1:")
        assert (await client.get(f"{url}/metrics", ssl=trusting(authority))).status == 200
        assert (await client.get(f"{url}/", ssl=trusting(authority))).status == 403
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get(url.replace("https", "http"))
        old = trusting(authority)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await status(url, old) == "refused"


async def test_client_certificates(files: Files, authority: trustme.CA) -> None:
    """Required: only who has one of the authority gets anything at all, the status page included."""
    files.trust(authority)
    access = files.load("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.pem")
    known, stranger = authority.issue_cert("prometheus"), trustme.CA().issue_cert("prometheus")
    async with listening(endpoint(access), LOOPBACK, access) as url, aiohttp.ClientSession() as client:
        answers = [await status(url, trusting(authority, proof)) for proof in (known, stranger, None)]
        assert answers == [200, "refused", "refused"]
        assert (await client.get(f"{url}/", ssl=trusting(authority, known))).status == 200


async def test_optional_client_certificates(files: Files, authority: trustme.CA) -> None:
    """Who has none may come, but not who has a wrong one; and they do not open the status page."""
    files.trust(authority)
    access = files.load("client_auth_type: VerifyClientCertIfGiven", "client_ca_file: ca.pem")
    known, stranger = authority.issue_cert("prometheus"), trustme.CA().issue_cert("prometheus")
    async with listening(endpoint(access), LOOPBACK, access) as url, aiohttp.ClientSession() as client:
        answers = [await status(url, trusting(authority, proof)) for proof in (known, stranger, None)]
        assert answers == [200, "refused", 200]
        assert (await client.get(f"{url}/", ssl=trusting(authority, known))).status == 403


async def test_renewed_certificates_are_used_at_once(files: Files, authority: trustme.CA) -> None:
    """A new certificate and a new client authority need no restart, also for clients that name no server."""
    files.trust(authority)
    access = files.load("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.pem")
    other = trustme.CA()
    before, after = authority.issue_cert("before"), other.issue_cert("after")
    async with listening(endpoint(access), LOOPBACK, access) as url:
        assert await status(url, trusting(authority, before)) == 200
        files.certify("localhost", "127.0.0.1")
        files.trust(other)
        for name in ("localhost", "127.0.0.1"):
            there = url.replace("127.0.0.1", name)
            assert await status(there, trusting(authority, after)) == 200
            assert await status(there, trusting(authority, before)) == "refused"


async def test_certificates_that_cannot_be_used_are_not(
    files: Files, authority: trustme.CA, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Half-written or missing files leave the old certificate in use, with one warning, until they are whole."""
    access = files.load()
    whole = (tmp_path / "key.pem").read_bytes()
    async with listening(endpoint(access), LOOPBACK, access) as url:
        (tmp_path / "key.pem").unlink()
        with caplog.at_level(logging.INFO, "exporter"):
            assert [await status(url, trusting(authority)) for _ in range(3)] == [200] * 3
            (tmp_path / "key.pem").write_bytes(whole[:100])
            assert await status(url, trusting(authority)) == 200
            files.certify("127.0.0.1")
            assert await status(url, trusting(authority)) == 200
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "new TLS files cannot be used, the old ones stay"),
        ("INFO", "new TLS files are in use"),
    ]


def basic(name: str, password: str, scheme: str = "Basic") -> dict[str, str]:
    """The header of these credentials."""
    return {"Authorization": f"{scheme} {b64encode(f'{name}:{password}'.encode()).decode()}"}


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        (basic("ann", "péché: 1"), 200),
        (basic("ann", "péché: 1", scheme="bAsIc"), 200),
        (basic("bob", "b" * 80), 200),
        (basic("ann", "péché: 2"), 401),
        (basic("ann", ""), 401),
        (basic("bob", "péché: 1"), 401),
        (basic("eve", "péché: 1"), 401),
        (basic("", ""), 401),
        (basic("ann", "péché: 1", scheme="Bearer"), 401),
        ({"Authorization": "Basic ann:pass"}, 401),
        ({"Authorization": "Basic /w=="}, 401),
        ({"Authorization": "Basic"}, 401),
        ({}, 401),
    ],
)
async def test_basic_authentication(tmp_path: Path, headers: dict[str, str], answer: int) -> None:
    """Every path but those of probes needs a user and the password; what cannot be read is no password."""
    file = tmp_path / "web.yml"
    file.write_text(f"basic_auth_users:\n  ann: {hashed('péché: 1')}\n  bob: {hashed('b' * 72)}\n")
    access = load(file)
    async with listening(endpoint(access), LOOPBACK, access) as url, aiohttp.ClientSession(headers=headers) as client:
        answers = {path: await client.get(f"{url}{path}") for path in (*PATHS, "/nothing")}
        assert {path: got.status for path, got in answers.items()} == {
            "/": answer,
            "/metrics": answer,
            "/-/healthy": 200,
            "/-/ready": 200,
            "/nothing": 404 if answer == 200 else 401,
        }
    asked = answers["/metrics"].headers.get("WWW-Authenticate")
    assert asked == (None if answer == 200 else 'Basic realm="Windsock", charset="UTF-8"')


async def test_a_good_password_is_checked_once() -> None:
    """Asked again it costs nothing, even if many ask at the same time; and it is not kept."""
    users = Users({"ann": hashed("right", rounds=10).encode()})
    started = time.process_time()
    await users.admit("ann", "right")
    once = time.process_time() - started
    started = time.process_time()
    assert await asyncio.gather(*(users.admit("ann", "right") for _ in range(100))) == [True] * 100
    assert time.process_time() - started < 2 * once
    assert "right" not in repr(vars(users))


async def test_an_unknown_user_costs_as_much_as_a_known_one() -> None:
    """So that the time of an answer does not tell who exists."""
    users = Users({"ann": hashed("right", rounds=10).encode()})

    async def cost(name: str) -> float:
        started = time.process_time()
        assert not await users.admit(name, "wrong")
        return time.process_time() - started

    assert await cost("eve") > 0.5 * await cost("ann")


async def test_guessing_does_not_delay_who_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever others guess, a known user costs no further bcrypt; what is remembered grows by no request."""
    checked: list[bytes] = []
    check = bcrypt.checkpw

    def counted(secret: bytes, hashed: bytes) -> bool:
        checked.append(secret)
        return check(secret, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    users = Users({"ann": hashed("r" * 72).encode()})
    assert await users.admit("ann", "r" * 72)
    guesses = [asyncio.create_task(users.admit("ann", str(number))) for number in range(300)]
    await asyncio.sleep(0)
    assert all([await users.admit("ann", "r" * (72 + more)) for more in range(300)])
    assert not any(guess.done() for guess in guesses[1:])
    assert await asyncio.gather(*guesses) == [False] * 300
    assert await users.admit("ann", "r" * 72)
    assert checked == [b"r" * 72, *(str(number).encode() for number in range(300))]
    assert len(users._admitted) == 1


async def test_checking_a_password_does_not_hold_up_others() -> None:
    """A scrape of somebody who is known is answered while an expensive hash is computed."""
    users = Users({"ann": hashed("right", rounds=12).encode()})
    checking = asyncio.create_task(users.admit("ann", "wrong"))
    turns = 0
    while not checking.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 10
