"""What the web configuration file makes of the endpoint: its TLS, and who may come.

Basic authentication protects every path but `/-/healthy` and `/-/ready`, which orchestrators ask without credentials.
Certificates, keys and client authorities are read again as soon as their files change; the file itself is read once.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import bcrypt

from .config import ConfigError
from .config.web_file import TlsServer, load_web_file

log = logging.getLogger(__name__)

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENTS = {"VerifyClientCertIfGiven": ssl.CERT_OPTIONAL, "RequireAndVerifyClientCert": ssl.CERT_REQUIRED}


class Users:
    """Names, and a bcrypt hash of each one's password.

    A check costs the same for an unknown name, and runs off the event loop, one at a time. Who has been admitted is
    remembered, under keyed hashes, and not delayed by the guesses of others.
    """

    def __init__(self, hashes: Mapping[str, bytes]) -> None:
        self._hashes = hashes
        self._key = secrets.token_bytes()
        self._admitted: set[bytes] = set()
        self._turn = asyncio.Lock()

    async def admit(self, name: str, password: str) -> bool:
        """True if there is such a user and this is the password."""
        secret = password.encode()[:72]  # bcrypt takes 72 bytes and no more
        pair = hmac.digest(self._key, repr((name, secret)).encode(), "sha256")
        if pair not in self._admitted:
            async with self._turn:  # while it was awaited, another request may have had the same check made
                if pair not in self._admitted and not await asyncio.to_thread(self._matches, name, secret):
                    return False
            self._admitted.add(pair)
        return True

    def _matches(self, name: str, secret: bytes) -> bool:
        known = name in self._hashes
        return bcrypt.checkpw(secret, self._hashes[name if known else next(iter(self._hashes))]) and known


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Ready for use; without a file everybody may come, over plain HTTP."""

    ssl_context: ssl.SSLContext | None = None
    users: Users | None = None
    certificates: bool = False

    @property
    def authenticates(self) -> bool:
        """Whether a client has to prove who it is."""
        return self.certificates or self.users is not None


def load(path: Path | None) -> WebConfig:
    """Read the file, if there is one, and what it names; raises ConfigError with every problem, none with a secret."""
    if not path:
        return WebConfig()
    file = load_web_file(path)
    tls = file.tls_server_config
    hashes = {name: secret.get_secret_value().encode() for name, secret in file.basic_auth_users.items()}
    try:
        context = _Certificates(tls).context if tls else None
    except OSError as error:
        raise ConfigError([f"{path}: tls_server_config: the files cannot be used: {_reason(error)}"]) from None
    return WebConfig(
        ssl_context=context,
        users=Users(hashes) if hashes else None,
        certificates=bool(tls and tls.client_auth_type == "RequireAndVerifyClientCert"),
    )


class _Certificates:
    """A TLS context that hands each handshake to the newest one that its files could make."""

    def __init__(self, tls: TlsServer) -> None:
        self._tls = tls
        self._state = self._look()
        self._broken = False
        self.context = self._newest = self._build()
        self.context.sni_callback = self._choose  # called in every handshake, also of a client that names no server

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        try:
            state = self._look()
            if state != self._state:
                self._newest, self._state, self._broken = self._build(), state, False
                log.info("new TLS files are in use")
        except OSError as error:
            if not self._broken:
                log.warning("new TLS files cannot be used, the old ones stay", extra={"error": _reason(error)})
            self._broken = True
        connection.context = self._newest

    def _look(self) -> list[tuple[int, int, int]]:
        files = (self._tls.cert_file, self._tls.key_file, self._tls.client_ca_file)
        states = [file.stat() for file in files if file]
        return [(state.st_mtime_ns, state.st_ino, state.st_size) for state in states]

    def _build(self) -> ssl.SSLContext:
        tls = self._tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
        context.load_cert_chain(tls.cert_file, tls.key_file, password="")  # else OpenSSL asks the terminal
        if tls.client_ca_file:
            context.load_verify_locations(tls.client_ca_file)
            context.verify_mode = _CLIENTS[tls.client_auth_type]
        return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason.replace("_", " ").lower() if error.reason else "not in PEM format"
    return error.strerror or type(error).__name__
