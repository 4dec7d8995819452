"""What is taken from Airflow's own variables, so that a sidecar needs no configuration at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.config import Config, ConfigError, airflow, load

CONN = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
BROKER = "AIRFLOW__CELERY__BROKER_URL"
TRANSPORT = "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__"
DATABASE = {CONN: "postgresql+psycopg2://u:p@db/airflow"}
REDIS = {BROKER: "redis://redis/0"}


def loaded(*environs: Mapping[str, str]) -> Config:
    """The configuration that these variables alone make."""
    environ = {"PATH": os.environ["PATH"]}
    for variables in environs:
        environ |= variables
    return load(None, environ, collectors=())


def problems(*environs: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong with them."""
    with pytest.raises(ConfigError) as caught:
        loaded(*environs)
    return caught.value.problems


def test_zero_configuration() -> None:
    """The variables that every container of an Airflow has are enough."""
    config = loaded(
        {
            **DATABASE,
            **REDIS,
            "AIRFLOW__API__BASE_URL": "https://airflow.example.com/",
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__PARALLELISM": "64",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_SCHEMA": "af",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "45",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "120",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "900.5",
            f"{TRANSPORT}VISIBILITY_TIMEOUT": "21600",
            f"{TRANSPORT}GLOBAL_KEYPREFIX": "af_",
        }
    )
    assert config.airflow.database_dsn() == "postgresql://u:p@db/airflow"
    assert (config.airflow.database_schema, config.airflow.parallelism) == ("af", 64)
    assert config.airflow.base_url == "https://airflow.example.com"
    limits = config.airflow.limits
    assert (limits.component_heartbeat, limits.task_heartbeat, limits.queued) == (45, 120, 900.5)
    assert config.celery.broker().nodes == (("redis", 6379),)
    assert (config.celery.visibility_timeout, config.celery.global_keyprefix) == (21600, "af_")
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "values"),
    [
        ("AIRFLOW__CORE__SQL_ALCHEMY_SCHEMA", "AIRFLOW__DATABASE__SQL_ALCHEMY_SCHEMA", ("a", "b")),
        ("AIRFLOW__WEBSERVER__BASE_URL", "AIRFLOW__API__BASE_URL", ("http://a", "http://b")),
        (
            "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT",
            ("1", "2"),
        ),
    ],
)
def test_older_names_count_where_the_newer_is_not_set(old: str, new: str, values: tuple[str, str]) -> None:
    """As in Airflow itself."""

    def said(config: Config) -> set[object]:
        settings = config.airflow
        return {settings.database_schema, settings.base_url, str(round(settings.limits.task_heartbeat))}

    assert values[0] in said(loaded(DATABASE, {old: values[0], new: ""}))
    assert values[1] in said(loaded(DATABASE, {old: values[0], new: values[1]}))


def test_the_older_name_of_the_connection() -> None:
    """Charts still set it beside the newer one, which counts more."""
    old = {"AIRFLOW__CORE__SQL_ALCHEMY_CONN": "postgresql://old/airflow"}
    assert loaded(old).airflow.database_dsn() == "postgresql://old/airflow"
    assert loaded(old, DATABASE).airflow.database_dsn() == "postgresql://u:p@db/airflow"
    command = {f"{CONN}_CMD": "echo postgresql://command/airflow"}
    assert loaded(old, command).airflow.database_dsn() == "postgresql://command/airflow"


def test_variables_within_variables() -> None:
    """Replaced as Airflow does; what names no variable stays."""
    config = loaded({CONN: "postgresql://u:$PASSWORD$x@${HOST}/airflow", "PASSWORD": "p", "HOST": "db"})
    assert config.airflow.database_dsn() == "postgresql://u:p%24x@db/airflow"


def test_a_bare_path_as_base_url_is_left_out() -> None:
    """Airflow accepts it; no link can be made of it."""
    assert loaded(DATABASE, {"AIRFLOW__API__BASE_URL": "/airflow"}).airflow.base_url is None


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (
            "AIRFLOW__CORE__PARALLELISM",
            "many",
            "airflow.parallelism: must be a valid integer, unable to parse string as an integer",
        ),
        (
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT",
            "soon",
            "airflow.limits.queued: must be a duration such as 15s, 5m, 1h or 1h30m",
        ),
        (
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT",
            "-5",
            "airflow.limits.queued: must be a duration such as 15s, 5m, 1h or 1h30m",
        ),
        (
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT",
            "nan",
            "airflow.limits.queued: must be a duration such as 15s, 5m, 1h or 1h30m",
        ),
        (
            CONN,
            "sqlite:////airflow.db",
            "airflow.database_url: sqlite is not supported: Windsock reads PostgreSQL 14 to 18 (postgresql://user@host:5432/airflow)",
        ),
        (f"{TRANSPORT}SENTINEL_KWARGS", "{", "celery.sentinel_password: must be a JSON object"),
        (
            BROKER,
            "redis://h:x",
            "celery.broker_url: the host or port is not valid (special characters in a password are written as %XX)",
        ),
    ],
)
def test_an_error_names_the_variable(name: str, value: str, problem: str) -> None:
    """And says what is wanted in our own terms."""
    assert problems(DATABASE, REDIS, {name: value}) == (f"{problem} ({name})",)


def test_a_database_that_is_refused_counts_only_if_no_other_is_given() -> None:
    """Our own setting hides Airflow's, and its command does not run."""
    ours = {"WINDSOCK_AIRFLOW__DATABASE_URL": "postgresql://db/airflow"}
    for theirs in ({CONN: "mysql://db/airflow"}, {f"{CONN}_CMD": "false"}, {f"{CONN}_SECRET": "x"}):
        assert loaded(ours, theirs).airflow.database_dsn() == "postgresql://db/airflow"
        assert len(problems(theirs)) == 1


def test_a_command_is_run_as_airflow_runs_it(tmp_path: Path) -> None:
    """Split as a shell would, but without one, with the same environment; the newline goes."""
    (tmp_path / "url").write_text("redis://redis/5\n")
    config = loaded(
        {
            f"{CONN}_CMD": "echo 'postgresql://db/air flow;exit'",
            f"{BROKER}_CMD": "sh -c 'cat $FILE'",
            "FILE": str(tmp_path / "url"),
        }
    )
    assert config.airflow.database_dsn() == "postgresql://db/air%20flow%3Bexit"
    assert config.celery.broker().db == 5


def test_a_command_is_run_once(tmp_path: Path) -> None:
    """At a reload everything else would wait for it: what it printed at the start is still good."""
    ran = tmp_path / "ran"
    command = {f"{CONN}_CMD": f"sh -c 'echo ran >>{ran}; echo postgresql://db/airflow'"}
    for _ in range(2):
        assert loaded(command).airflow.database_dsn() == "postgresql://db/airflow"
    assert ran.read_text() == "ran\n"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("sh -c 'echo postgresql://db/airflow; exit 3'", "the command ended with exit status 3"),
        ("sleep 5", "the command took longer than 0s"),
        ("no-such-command-anywhere", "the command cannot be run"),
        ("echo 'unbalanced", "the command cannot be run"),
        ("true", "is not set"),
    ],
)
def test_a_command_that_fails_is_an_error(command: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable's name, without the command or what it printed; a hanging one is given up."""
    monkeypatch.setattr(airflow, "_COMMAND_TIMEOUT", 0.2)
    assert problems({f"{CONN}_CMD": command}) == (f"airflow.database_url: {reason} ({CONN}_CMD)",)


def test_a_secrets_backend_is_refused() -> None:
    """With a sentence, unless the secret is also given in a way that Airflow prefers."""
    (problem,) = problems({f"{BROKER}_SECRET": "celery/broker"})
    sentence = "Windsock cannot ask Airflow's secrets backend: give the URL itself, or a file that holds it"
    assert problem == f"celery.broker_url: {sentence} ({BROKER}_SECRET)"
    assert loaded(REDIS, {f"{BROKER}_SECRET": "celery/broker"}).celery.has_broker


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("amqp://u:p@h//", "amqp"),
        ("sqs://", "sqs"),
        ("rediscluster://h", "Redis Cluster"),
        ("filesystem://", "filesystem"),
    ],
)
def test_an_unsupported_broker_is_a_warning(url: str, named: str) -> None:
    """One sentence and no broker half, whatever else is said of that broker; with no database it explains the error."""
    warning = f"no broker metrics: {named} is not supported: Windsock reads one Redis or Valkey, or Sentinel ({BROKER})"
    variables = {BROKER: url, "AIRFLOW__CELERY__SSL_ACTIVE": "True", "AIRFLOW__CELERY__SSL_CACERT": "/nowhere"}
    config = loaded(DATABASE, variables)
    assert (config.celery.has_broker, config.warnings) == (False, (warning,))
    assert problems(variables)[1:] == (warning,)


@pytest.mark.parametrize("name", ["WINDSOCK_CELERY__BROKER_URL", "file"])
def test_an_unsupported_broker_of_our_own_is_an_error(name: str, tmp_path: Path) -> None:
    """Here somebody asked for it."""
    file = tmp_path / "windsock.yml"
    file.write_text("celery: {broker_url: 'amqp://h'}" if name == "file" else "")
    environ = {**DATABASE, **({} if name == "file" else {name: "amqp://h"})}
    with pytest.raises(ConfigError, match=r"^celery.broker_url: amqp is not supported"):
        load(file, environ, collectors=())


@pytest.mark.parametrize(
    ("executor", "warned"),
    [
        ("CeleryExecutor", True),
        ("LocalExecutor,CeleryExecutor", True),
        ("LocalExecutor", False),
        ("KubernetesExecutor", False),
    ],
)
def test_no_broker(executor: str, warned: bool) -> None:
    """A warning only where Airflow must have one that is not told."""
    config = loaded(DATABASE, {"AIRFLOW__CORE__EXECUTOR": executor})
    assert (config.celery.has_broker, len(config.warnings)) == (False, warned)


def test_sentinel() -> None:
    """The master's name and the sentinels' own login come from the transport options."""
    sentinels = {BROKER: "sentinel://:master@a;sentinel://b:26380"}
    assert problems(sentinels) == (f"celery: master_name is required with sentinel:// ({BROKER})",)
    options = {
        f"{TRANSPORT}MASTER_NAME": "mymaster",
        f"{TRANSPORT}SENTINEL_KWARGS": '{"username": "u", "password": "p", "ssl": true, "socket_timeout": 1}',
    }
    broker = loaded(sentinels, options).celery.broker()
    assert (broker.nodes, broker.master_name) == ((("a", 26379), ("b", 26380)), "mymaster")
    assert (broker.password, broker.tls) == ("master", None)
    assert (broker.sentinel_username, broker.sentinel_password) == ("u", "p")
    assert broker.sentinel_tls and broker.sentinel_tls.verify
    assert loaded(sentinels, {f"{TRANSPORT}MASTER_NAME": "mymaster"}).celery.broker().sentinel_tls is None
    assert loaded(REDIS, options).celery.broker().master_name is None


def test_tls(tmp_path: Path) -> None:
    """Verified always; our certificate counts unless mutual TLS is off; all of it only where SSL_ACTIVE is true."""
    paths = {key: str(tmp_path / key) for key in ("CACERT", "CERT", "KEY")}
    for path in paths.values():
        Path(path).touch()
    files = {f"AIRFLOW__CELERY__SSL_{key}": path for key, path in paths.items()}
    assert loaded(REDIS, files).celery.broker().tls is None
    active = {**REDIS, **files, "AIRFLOW__CELERY__SSL_ACTIVE": "True"}
    tls = loaded(active).celery.broker().tls
    assert tls and [str(file) for file in (tls.ca_file, tls.cert_file, tls.key_file)] == list(paths.values())
    assert tls.verify
    tls = loaded(active, {"AIRFLOW__CELERY__SSL_MUTUAL_TLS": "False"}).celery.broker().tls
    assert tls and (str(tls.ca_file), tls.cert_file, tls.key_file) == (paths["CACERT"], None, None)
