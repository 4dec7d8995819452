"""Celery's broker, a Redis or Valkey: commands that only read, sent together, never in a transaction.

A full Redis refuses even reads inside MULTI. Errors leave as `SourceError` with a reason from a closed set.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from types import TracebackType
from typing import Any, Literal, Self, get_args

from redis import exceptions
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import ExponentialBackoff
from redis.credentials import CredentialProvider

from ..config.model import Celery
from ..config.urls import BrokerAddress, Tls
from .errors import Reason, SourceError

log = logging.getLogger(__name__)

CommandName = Literal["DBSIZE", "HLEN", "INFO", "LLEN", "SCAN", "SMEMBERS", "ZRANGE"]
Command = tuple[CommandName, *tuple[str | int, ...]]
"""A command with its arguments. None of them can write, nor fetch a message: messages hold bearer tokens."""

CHUNK = 500
"""Commands per round trip: their replies hold the event loop for a few milliseconds."""

CONNECT_TIMEOUT = 3.0
SENTINEL_TIMEOUT = 1.0
"""Seconds for one sentinel, so that a dead one leaves time for the next."""

NO_CLUSTER = "a Redis Cluster is not supported, nor can it be Celery's broker"


def acl_rule(user: str, prefix: str = "", *, redis_6: bool = False) -> str:
    """The command that makes a user who may do what is done here and no more; Redis 6 has no read-only key patterns."""
    keys = f"{'~' if redis_6 else '%R~'}{glob_literal(prefix)}*"
    commands = " ".join(f"+{name.lower()}" for name in ("SELECT", *get_args(CommandName)))
    return f"ACL SETUSER {user} on >PASSWORD resetkeys {keys} resetchannels -@all {commands}"


def glob_literal(text: str) -> str:
    """A pattern of Redis that this text alone matches."""
    return "".join(f"\\{character}" if character in r"\*?[]" else character for character in text)


class Broker:
    """Connections to one Redis, or to the master that its sentinels name; credentials are asked for at each connect."""

    def __init__(self, celery: Celery) -> None:
        address = celery.broker()
        options = _options(_Login(celery, "username", "password"), address.tls, retries=3) | {
            "db": address.db,
            "socket_timeout": None,  # the deadline's matter
        }
        self._sentinels = _sentinels(celery, address) if address.master_name else []
        self._masters: SentinelConnectionPool | None = None
        if address.master_name:
            manager = Sentinel([])  # type: ignore[no-untyped-call]
            manager.sentinels = self._sentinels
            kind = _SentinelTls if address.tls else SentinelManagedConnection
            self._masters = SentinelConnectionPool(  # type: ignore[no-untyped-call]
                address.master_name, manager, connection_class=kind, **options
            )
        self._client = Redis.from_pool(self._masters or _pool(address.nodes[0], options))
        self._client.response_callbacks = {}  # replies stay as the server sent them
        self._logged: set[tuple[str, str]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in (self._client, *self._sentinels):
            with suppress(exceptions.RedisError):
                await client.aclose()

    @asynccontextmanager
    async def deadline(self, timeout: float) -> AsyncIterator[None]:
        """What is read inside may take `timeout` seconds all together; raises SourceError for whatever goes wrong."""
        try:
            async with asyncio.timeout(timeout):
                if self._masters:
                    # Nothing read here would tell an old master from the new one, so the sentinels are asked each time.
                    with suppress(MasterNotFoundError):
                        await self._masters.get_master_address()  # type: ignore[no-untyped-call]
                yield
        except (TimeoutError, exceptions.TimeoutError):
            raise SourceError("timeout", "no answer in time") from None
        except (exceptions.RedisError, OSError) as error:
            raise _source_error(error) from None

    async def read(self, commands: Sequence[Command]) -> list[Any]:
        """The replies in order; a refused command has its SourceError in place of one.

        To be used within a deadline. Raises SourceError when all commands are refused, and for a Redis Cluster.
        """
        replies: list[Any] = []
        for start in range(0, len(commands), CHUNK):
            pipeline = self._client.pipeline(transaction=False)
            for command in commands[start : start + CHUNK]:
                pipeline.execute_command(*command)
            replies += await pipeline.execute(raise_on_error=False)
        refused = [(at, reply) for at, reply in enumerate(replies) if isinstance(reply, exceptions.RedisError)]
        for at, reply in refused:
            replies[at] = _source_error(reply)
            if _of_cluster(reply) or len(refused) == len(replies):
                raise replies[at]
            self._log(commands[at][0], replies[at])
        return replies

    def _log(self, command: str, error: SourceError) -> None:
        if (command, str(error)) not in self._logged:
            self._logged.add((command, str(error)))
            log.warning("command refused", extra={"command": command, "error": str(error)})


class _Login(CredentialProvider):
    """Reads the credentials, by these names in the broker's address, when a connection needs them."""

    def __init__(self, celery: Celery, username: str, password: str) -> None:
        self._celery, self._of = celery, attrgetter(username, password)

    def get_credentials(self) -> Any:
        """What AUTH takes; nothing for a server without users."""
        try:
            username, password = self._of(self._celery.broker())
        except OSError as error:
            raise exceptions.ConnectionError(str(error)) from None
        if username:
            return username, password or ""
        return (password,) if password else ()

    async def get_credentials_async(self) -> Any:
        """The same."""
        return self.get_credentials()


class _FreshCertificates:
    """Reads the certificates anew at each connect: the driver would keep the first ones."""

    ssl_context: Any

    async def connect(self) -> None:
        self.ssl_context.context = None
        await super().connect()  # type: ignore[misc]


class _Tls(_FreshCertificates, SSLConnection):
    pass


class _SentinelTls(_FreshCertificates, SentinelManagedSSLConnection):
    pass


def _sentinels(celery: Celery, address: BrokerAddress) -> list[Redis]:
    login = _Login(celery, "sentinel_username", "sentinel_password")
    options = _options(login, address.sentinel_tls, retries=0) | {
        "socket_timeout": SENTINEL_TIMEOUT,
        "socket_connect_timeout": SENTINEL_TIMEOUT,
    }
    return [Redis.from_pool(_pool(node, options)) for node in address.nodes]


def _pool(node: tuple[str, int], options: dict[str, Any]) -> ConnectionPool:
    host, port = node
    return ConnectionPool(_Tls if "ssl_cert_reqs" in options else Connection, host=host, port=port, **options)


def _options(login: _Login, tls: Tls | None, retries: int) -> dict[str, Any]:
    """RESP2 and no driver_info: a connect then needs no rights beyond AUTH and SELECT."""
    options: dict[str, Any] = {
        "credential_provider": login,
        "driver_info": None,
        "protocol": 2,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), retries),
        "socket_connect_timeout": CONNECT_TIMEOUT,
    }
    if tls:
        options |= {
            "ssl_ca_certs": tls.ca_file and str(tls.ca_file),
            "ssl_certfile": tls.cert_file and str(tls.cert_file),
            "ssl_keyfile": tls.key_file and str(tls.key_file),
            "ssl_cert_reqs": "required" if tls.verify else "none",
            "ssl_check_hostname": tls.verify and tls.check_hostname,
        }
    return options


def _source_error(error: exceptions.RedisError | OSError) -> SourceError:
    if _of_cluster(error):
        return SourceError("query", NO_CLUSTER)
    return SourceError(_reason(error), _line(error))


def _of_cluster(error: exceptions.RedisError | OSError) -> bool:
    cluster = (exceptions.AskError, exceptions.ClusterError, exceptions.ClusterCrossSlotError)
    return isinstance(error, cluster) and not isinstance(error, exceptions.MasterDownError)  # a lonely replica's


def _reason(error: exceptions.RedisError | OSError) -> Reason:
    match error:
        case exceptions.AuthenticationError() | exceptions.AuthorizationError() | exceptions.NoPermissionError():
            return "permission"
        case exceptions.ConnectionError() | OSError():
            return "connect"
        case _:
            return "query"


def _line(error: exceptions.RedisError | OSError) -> str:
    match error:
        case MasterNotFoundError():
            return "no sentinel answers and knows a healthy master of that name"
        case exceptions.BusyLoadingError():
            return "the server is loading its data"
        case _:
            text = str(error).partition(", with args")[0]  # of an unknown command, which AUTH can be
            return " ".join(text.split()) or type(error).__name__
