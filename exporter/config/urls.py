"""Connection URLs as Airflow writes them, made into what the drivers take; no error repeats a part of a password."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from pydantic import ValidationError

from .document import problems
from .values import ReadableFile, Section

_ESCAPES = "(special characters in a password are written as %XX)"
_LIBPQ_ARGUMENT = re.compile(
    "application_name|channel_binding|client_encoding|connect_timeout|dbname|fallback_application_name|gssdelegation|"
    "gssencmode|gsslib|host|hostaddr|keepalives(_count|_idle|_interval)?|krbsrvname|load_balance_hosts|options|passfile|"
    "password|port|require_auth|requirepeer|service|ssl_(max|min)_protocol_version|target_session_attrs|user|"
    "ssl(cert|certmode|compression|crl|crldir|key|mode|negotiation|password|rootcert|sni)|tcp_user_timeout"
)
# SQLAlchemy lets a password hold "/", "?", "#" and ":" unescaped, libpq does not: the URL is taken apart and rebuilt.
_DATABASE = re.compile(
    r"(?P<scheme>[^:/@]*)://(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?@]*)(?:/(?P<name>[^?@]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_HOST = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[\w.%~-]*)(?::(?P<port>\d{0,5}))?", re.ASCII)
_BROKER_SCHEMES = {"redis": False, "valkey": False, "rediss": True, "valkeys": True, "sentinel": False}
_VERIFIES = {"required": True, "optional": True, "none": False}
_TLS_ARGUMENTS = {
    "ssl_ca_certs": "ca_file",
    "ssl_certfile": "cert_file",
    "ssl_keyfile": "key_file",
    "ssl_check_hostname": "check_hostname",
}


class Tls(Section):
    """How the broker's server is verified, and who we are; without ca_file by the system's authorities."""

    ca_file: ReadableFile | None = None
    cert_file: ReadableFile | None = None
    key_file: ReadableFile | None = None
    verify: bool = True
    check_hostname: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerAddress:
    """How to reach the broker: with a master_name the nodes are sentinels, else there is one; tls None is plain TCP."""

    nodes: tuple[tuple[str, int], ...]
    sentinel: bool
    db: int
    username: str | None
    password: str | None = field(repr=False)
    tls: Tls | None
    master_name: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    sentinel_tls: Tls | None = None


class UnsupportedBrokerError(ValueError):
    """The URL is of a broker that Windsock does not read."""


def postgres_dsn(url: str) -> str:
    """The libpq URI of a PostgreSQL URL without its SQLAlchemy driver; ValueError says what is wrong with it."""
    match = _DATABASE.fullmatch(url.strip())
    if not match:
        raise ValueError(f"must be a URL such as postgresql://user@host:5432/airflow {_ESCAPES}")
    product = match["scheme"].lower().partition("+")[0]
    if product not in ("postgresql", "postgres"):
        named = f"{product} is not supported: " if product.isalnum() else ""
        raise ValueError(f"{named}Windsock reads PostgreSQL 14 to 18 (postgresql://user@host:5432/airflow)")
    for host in match["hosts"].split(","):
        found = _HOST.fullmatch(host)
        if not found or not 0 < int(found["port"] or 5432) < 65536:
            raise ValueError(f"the host or port is not valid {_ESCAPES}")
    login = ":".join(_encoded(part) for part in (match["user"], match["password"]) if part is not None)
    database = _encoded(match["name"] or "")
    query = _libpq_query(match["query"] or "")
    return f"postgresql://{login}{'@' if login else ''}{match['hosts']}/{database}{query and '?'}{query}"


def _encoded(text: str) -> str:
    try:
        plain = unquote(text, errors="strict")
    except UnicodeDecodeError:
        plain = "\0"
    if "\0" in plain:
        raise ValueError("what %XX stands for in a URL must be UTF-8, without NUL")
    return quote(plain, safe="")


def _libpq_query(query: str) -> str:
    arguments: dict[str, str] = {}
    for given, value in parse_qsl(query, keep_blank_values=True):
        name = "sslmode" if given == "ssl" else given  # asyncpg's name for it, with the same values
        if not _LIBPQ_ARGUMENT.fullmatch(name) or name in arguments:
            raise ValueError(f"PostgreSQL's libpq takes no connection argument {_argument(given)}, or not twice")
        arguments[name] = _encoded(quote(value))
    return "&".join(f"{name}={value}" for name, value in arguments.items())


def _argument(name: str) -> str:
    return name if re.fullmatch(r"[a-z_]{1,40}", name) else "of that name"


def parse_broker_url(url: str) -> BrokerAddress:
    """What a URL says, as kombu reads it; UnsupportedBrokerError for other brokers, ValueError if it is malformed."""
    schemes, parts = zip(*(_split(part.strip()) for part in url.split(";")), strict=True)
    sentinel = schemes[0] == "sentinel"
    if len(set(schemes)) > 1 or (len(parts) > 1 and not sentinel):
        raise ValueError("a list of servers must be sentinels: sentinel://a:26379;sentinel://b:26379")
    arguments = {name: value for part in parts for name, value in parse_qsl(part.query, keep_blank_values=True)}
    login = next((part for part in parts if part.username or part.password), parts[0])
    database = next((part.path.strip("/") for part in parts if part.path.strip("/")), "0")
    if not re.fullmatch(r"[0-9]{1,4}", database):
        raise ValueError("the part after the host must be a database number, such as /0")
    return BrokerAddress(
        nodes=tuple((part.hostname or "localhost", part.port or (26379 if sentinel else 6379)) for part in parts),
        sentinel=sentinel,
        db=int(database),
        username=unquote(login.username) if login.username else None,
        password=unquote(login.password) if login.password else None,
        tls=_tls(arguments) if _BROKER_SCHEMES[schemes[0]] or arguments else None,
    )


def _split(url: str) -> tuple[str, SplitResult]:
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        raise ValueError("must be a URL such as redis://host:6379/0")
    if scheme not in _BROKER_SCHEMES:
        named = "Redis Cluster" if "cluster" in scheme else scheme if re.fullmatch(r"[a-z+]{1,20}", scheme) else "this"
        raise UnsupportedBrokerError(f"{named} is not supported: Windsock reads one Redis or Valkey, or Sentinel")
    try:
        parts = urlsplit(f"http://{rest}")
        if parts.port != 0 and not parts.fragment and not re.search(r"[\s@]", parts.hostname or ""):
            return scheme, parts
    except ValueError:  # its text repeats the URL
        pass
    raise ValueError(f"the host or port is not valid {_ESCAPES}")


def _tls(arguments: dict[str, str]) -> Tls:
    tls: dict[str, object] = {}
    for name, value in arguments.items():
        if name in _TLS_ARGUMENTS:
            tls[_TLS_ARGUMENTS[name]] = value
        elif name == "ssl_cert_reqs" and (wanted := value.lower().removeprefix("cert_")) in _VERIFIES:
            tls["verify"] = _VERIFIES[wanted]
        else:
            raise ValueError(f"a broker URL takes no argument {_argument(name)}, or not with this value")
    try:
        return Tls.model_validate(tls)
    except ValidationError as error:
        raise ValueError("; ".join(f"{keys[0]}: {sentence}" for keys, sentence in problems(error))) from None
