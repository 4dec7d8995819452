"""Which URLs of databases and brokers are understood, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils.url import parse_url
from psycopg.conninfo import conninfo_to_dict

from exporter.config.urls import UnsupportedBrokerError, parse_broker_url, postgres_dsn

DATABASES = {
    "postgresql://u:p@h:5432/d": "postgresql://u:p@h:5432/d",
    "postgres://u@h/d": "postgresql://u@h/d",
    "postgresql+psycopg2://u:p@h/d": "postgresql://u:p@h/d",
    "postgresql+psycopg://u:p@h/d": "postgresql://u:p@h/d",
    "postgresql+asyncpg://u:p@h/d?ssl=verify-full": "postgresql://u:p@h/d?sslmode=verify-full",
    "POSTGRESQL+pg8000://h/d\n": "postgresql://h/d",
    "postgresql://:p@h/d": "postgresql://:p@h/d",
    "postgresql://u:@h/d": "postgresql://u:@h/d",
    "postgresql://u:a/b?c#d:e@h/d": "postgresql://u:a%2Fb%3Fc%23d%3Ae@h/d",
    "postgresql://u:100%25%@h/d": "postgresql://u:100%25%25@h/d",
    "postgresql://u:%c3%a9@h/d": "postgresql://u:%C3%A9@h/d",
    "postgresql://u@h:65535/d": "postgresql://u@h:65535/d",
    "postgresql://u@h:1/d": "postgresql://u@h:1/d",
    "postgresql://u@[::1]:5432/d": "postgresql://u@[::1]:5432/d",
    "postgresql://u@a:1,b:2/d?target_session_attrs=read-write": "postgresql://u@a:1,b:2/d?target_session_attrs=read-write",
    "postgresql:///d?host=/var/run/postgresql": "postgresql:///d?host=%2Fvar%2Frun%2Fpostgresql",
    "postgresql://%2Fvar%2Frun/d": "postgresql://%2Fvar%2Frun/d",
    "postgresql://h/d?sslrootcert=/ca%2B.pem&keepalives_idle=5": "postgresql://h/d?sslrootcert=%2Fca%2B.pem&keepalives_idle=5",
}


@pytest.mark.parametrize("url", DATABASES)
def test_a_database_url_becomes_libpqs(url: str) -> None:
    """Drivers go, what SQLAlchemy lets pass is escaped, and libpq accepts the result, twice."""
    dsn = postgres_dsn(url)
    assert dsn == DATABASES[url]
    assert conninfo_to_dict(dsn)["dbname"] == "d"
    assert postgres_dsn(dsn) == dsn


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(user=TEXT, password=TEXT, database=TEXT)
def test_what_is_escaped_arrives_whole(user: str, password: str, database: str) -> None:
    """libpq reads the very user, password and database that SQLAlchemy would."""
    url = f"postgresql+psycopg2://{quote(user, safe='')}:{quote(password, safe='')}@h:5432/{quote(database, safe='')}"
    assert conninfo_to_dict(postgres_dsn(url)) == {
        "user": user,
        "password": password,
        "host": "h",
        "port": "5432",
        "dbname": database,
    }


@given(password=st.text(st.characters(exclude_characters="@%\0", exclude_categories=["Cs"]), min_size=1))
def test_a_password_may_hold_anything_that_sqlalchemy_lets_pass(password: str) -> None:
    """Unescaped, but for the signs that end it."""
    assert conninfo_to_dict(postgres_dsn(f"postgresql://u:{password}@h/d"))["password"] == password


REFUSED_DATABASES = {
    "mysql+pymysql://u:p@h/d": "mysql is not supported: Windsock reads PostgreSQL 14 to 18",
    "sqlite:////opt/airflow/airflow.db": "sqlite is not supported: Windsock reads PostgreSQL 14 to 18",
    "mssql+pyodbc://u:p@h/d": "mssql is not supported: Windsock reads PostgreSQL 14 to 18",
    "host=h dbname=d": "must be a URL such as postgresql://user@host:5432/airflow",
    "postgresql://u:p@ss@h/d": "special characters in a password are written as %XX",
    "postgresql://u:p@h:x/d": "the host or port is not valid",
    "postgresql://u:p@h:0/d": "the host or port is not valid",
    "postgresql://h/d?unknown": "no connection argument unknown",
    "postgresql://u:p@h:65536/d": "the host or port is not valid",
    "postgresql://u:p@h h/d": "the host or port is not valid",
    "postgresql://u:%00@h/d": "what %XX stands for in a URL must be UTF-8, without NUL",
    "postgresql://u:%e9@h/d": "what %XX stands for in a URL must be UTF-8, without NUL",
    "postgresql+asyncpg://h/d?prepared_statement_cache_size=0": "no connection argument prepared_statement_cache_size",
    "postgresql://h/d?sslmode=require&ssl=require": "no connection argument ssl, or not twice",
    "": "must be a URL such as postgresql://user@host:5432/airflow",
}


@pytest.mark.parametrize("url", REFUSED_DATABASES)
def test_other_databases_are_refused_with_a_sentence(url: str) -> None:
    """It says what is supported."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the text is compared below)
        postgres_dsn(url)
    assert REFUSED_DATABASES[url] in str(caught.value)


@pytest.mark.parametrize(
    ("url", "node", "db"),
    [
        ("redis://redis:6380/3", ("redis", 6380), 3),
        ("redis://redis", ("redis", 6379), 0),
        ("redis:///1", ("localhost", 6379), 1),
        ("redis://:p%40ss%2F@redis/0", ("redis", 6379), 0),
        ("redis://user:pass@redis:6379//2", ("redis", 6379), 2),
        ("rediss://redis/0?ssl_cert_reqs=required", ("redis", 6379), 0),
        ("redis://[::1]:6379/0", ("::1", 6379), 0),
    ],
)
def test_a_broker_url_is_read_as_kombu_reads_it(url: str, node: tuple[str, int], db: int) -> None:
    """The same server, database and login that Airflow's workers use."""
    address, theirs = parse_broker_url(url), parse_url(url)
    assert (address.nodes, address.db, address.sentinel) == ((node,), db, False)
    assert (address.username, address.password) == (theirs["userid"], theirs["password"])
    assert (theirs["hostname"] or "localhost", theirs["port"] or 6379) == node
    assert int((theirs["virtual_host"] or "0").strip("/")) == db


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://h", None),
        ("valkey://h", None),
        ("rediss://h", {}),
        ("valkeys://h", {}),
        ("REDISS://h", {}),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", {"verify": True}),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", {"verify": False}),
        ("rediss://h?ssl_cert_reqs=none", {"verify": False}),
        ("redis://h?ssl_cert_reqs=optional", {"verify": True}),
        ("rediss://h?ssl_check_hostname=false", {"check_hostname": False}),
        (
            f"rediss://h/0?ssl_ca_certs={__file__}&ssl_certfile={__file__}&ssl_keyfile={__file__}",
            {"ca_file": Path(__file__), "cert_file": Path(__file__), "key_file": Path(__file__)},
        ),
    ],
)
def test_tls_in_a_broker_url(url: str, options: dict[str, object] | None) -> None:
    """The scheme or an argument turns it on; whatever is not said is verified."""
    tls = parse_broker_url(url).tls
    assert (tls and tls.model_dump(exclude_unset=True)) == options
    defaults = {"ca_file": None, "cert_file": None, "key_file": None, "verify": True, "check_hostname": True}
    assert tls is None or tls.model_dump() == defaults | (options or {})


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("ssl_ca_certs=/nope/ca.pem", r"ca_file: cannot read /nope/ca\.pem: No such file or directory$"),
        ("ssl_keyfile=/nope&ssl_certfile=/", r"cert_file: cannot read /: .*; key_file: cannot read /nope: "),
        ("ssl_check_hostname=hunter2", "^check_hostname: must be a valid boolean"),
    ],
)
def test_tls_in_a_broker_url_that_cannot_be_used(query: str, problem: str) -> None:
    """A file that cannot be read is found when the URL is checked, not when it is used."""
    with pytest.raises(ValueError, match=problem) as caught:
        parse_broker_url(f"rediss://:hunter2@h?{query}")
    assert "hunter2" not in str(caught.value)


def test_sentinels() -> None:
    """All of the list, with the login and the database of the first that has one."""
    address = parse_broker_url("sentinel://a;sentinel://:secret@b:26380/4; sentinel://[::1]:5")
    assert (address.sentinel, address.nodes) == (True, (("a", 26379), ("b", 26380), ("::1", 5)))
    assert (address.password, address.db) == ("secret", 4)


UNSUPPORTED = {
    "amqp://u:p@h//": "amqp is not supported",
    "pyamqp://h": "pyamqp is not supported",
    "sqs://": "sqs is not supported",
    "filesystem://": "filesystem is not supported",
    "sqla+postgresql://u:p@h/d": "sqla+postgresql is not supported",
    "redis+socket:///run/redis.sock": "redis+socket is not supported",
    "redis+cluster://h": "Redis Cluster is not supported",
    "rediscluster://h": "Redis Cluster is not supported",
    "redis://h;amqp://h": "amqp is not supported",
}


@pytest.mark.parametrize("url", UNSUPPORTED)
def test_other_brokers_are_refused_with_a_sentence(url: str) -> None:
    """It says what is supported, and is of its own kind: Airflow may well use such a broker."""
    with pytest.raises(UnsupportedBrokerError) as caught:
        parse_broker_url(url)
    assert str(caught.value) == f"{UNSUPPORTED[url]}: Windsock reads one Redis or Valkey, or Sentinel"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis",
        "redis://h:x",
        "redis://h:0",
        "redis://h:65536",
        "redis://[::1",
        "redis://u:p@ss#word@h",
        "redis://u:p/w@h",
        "redis://h/db",
        "redis://h/-1",
        "redis://h?socket_timeout=5",
        "redis://h?socket_timeout",
        "rediss://h?ssl_cert_reqs=perhaps",
        "redis://a;redis://b",
        "sentinel://a;redis://b",
        "sentinel://a;b",
        "sentinel://a;",
    ],
)
def test_a_malformed_broker_url_is_an_error(url: str) -> None:
    """And never taken for a broker of another kind."""
    with pytest.raises(ValueError, match=r"must|valid|argument") as caught:
        parse_broker_url(url)
    assert not isinstance(caught.value, UnsupportedBrokerError)
