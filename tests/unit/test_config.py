"""What the file, the environment and the command line may say, and what is said about what they may not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.config import Config, ConfigError, load
from exporter.config.values import Address

COLLECTORS = ("dag_runs", "task_instances")
BROKER = "celery: {broker_url: 'redis://redis:6379/0'}"


def loaded(tmp_path: Path, text: str = BROKER, environ: Mapping[str, str] = {}, **overrides: object) -> Config:
    """The configuration of a file with this text."""
    file = tmp_path / "windsock.yml"
    file.write_text(text)
    return load(file, environ, collectors=COLLECTORS, overrides=overrides)


def problems(tmp_path: Path, text: str, environ: Mapping[str, str] = {}) -> tuple[str, ...]:
    """What is wrong with it; the file's name without its folder."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return tuple(problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems)


def test_defaults(tmp_path: Path) -> None:
    """One source is enough, and all else has the value that the design names."""
    config = loaded(tmp_path)
    assert config.listen == Address("127.0.0.1", 9780)
    assert (config.airflow.name, config.airflow.base_url, config.airflow.parallelism) == ("airflow", None, 32)
    assert (config.airflow.dags.allow.pattern, config.airflow.dags.deny.pattern) == (".*", "")
    assert (config.airflow.dags.tags, config.airflow.dags.max, config.airflow.task_labels) == ((), 2000, ())
    assert list(config.airflow.limits.model_dump().values()) == [30, 300, 600, 60]
    assert (config.celery.queues, config.celery.visibility_timeout, config.celery.global_keyprefix) == ((), 86400, "")
    assert (config.web.config_file, config.web.insecure) == (None, False)
    assert (config.log.format, config.log.level) == ("logfmt", "info")
    assert (config.airflow.has_database, config.celery.has_broker, config.warnings) == (False, True, ())


def test_a_whole_file(tmp_path: Path) -> None:
    """Every key arrives where it belongs."""
    (tmp_path / "web.yml").touch()
    (tmp_path / "ca.pem").touch()
    config = loaded(
        tmp_path,
        """
        listen: "[::]:9000"
        airflow:
          name: " prod "
          database_url: postgresql://windsock@db/airflow
          database_schema: airflow
          base_url: https://airflow.example.com/
          dags: {allow: "etl_.*", deny: ".*_test", max: 0, tags: [team, tier]}
          parallelism: 0
          task_labels: [task_id, operator, task_id]
          limits: {component_heartbeat: 1m, task_heartbeat: 1h30m, queued: 500ms, overdue_grace: 0s}
        celery:
          broker_url: sentinel://a;sentinel://b
          queues: [default, heavy]
          visibility_timeout: 1d
          master_name: mymaster
          global_keyprefix: af_
          sentinel_username: watcher
          sentinel_password: secret
          sentinel_tls: true
          tls: {ca_file: ca.pem, verify: false}
        collectors:
          task_instances: {interval: 1s, timeout: 5m}
          dag_runs: {enabled: false}
        web: {config_file: web.yml, insecure: true}
        log: {format: json, level: debug}
        """,
    )
    assert config.listen == Address("::", 9000)
    assert config.airflow.database_dsn() == "postgresql://windsock@db/airflow"
    assert (config.airflow.name, config.airflow.database_schema) == ("prod", "airflow")
    assert (config.airflow.base_url, config.airflow.parallelism) == ("https://airflow.example.com", 0)
    assert (config.airflow.dags.tags, config.airflow.task_labels) == (("team", "tier"), ("operator", "task_id"))
    assert list(config.airflow.limits.model_dump().values()) == [60, 5400, 0.5, 0]
    broker = config.celery.broker()
    assert (broker.nodes, broker.master_name) == ((("a", 26379), ("b", 26379)), "mymaster")
    assert (broker.sentinel_username, broker.sentinel_password) == ("watcher", "secret")
    assert broker.tls and (broker.tls.ca_file, broker.tls.verify) == (tmp_path / "ca.pem", False)
    assert broker.sentinel_tls == broker.tls
    assert (config.celery.queues, config.celery.visibility_timeout) == (("default", "heavy"), 86400)
    assert (config.schedule("task_instances").interval, config.schedule("task_instances").timeout) == (1, 300)
    assert (config.schedule("dag_runs").enabled, config.schedule("other").enabled) == (False, True)
    assert (config.web.config_file, config.web.insecure) == (tmp_path / "web.yml", True)
    assert (config.log.format, config.log.level) == ("json", "debug")


WEB_ADDRESS = "must be an http:// or https:// address without a password"
EITHER = 'needs either every: 26h or at: "07:30"'
TIME = 'must be a time of day in quotes, such as "07:30"'
WRONG = {
    "listen: 9780": "listen: must be host:port, such as 0.0.0.0:9780 or [::1]:9780",
    "listen: ':9780'": "listen: must be host:port, such as 0.0.0.0:9780 or [::1]:9780",
    "listen: '::1:9780'": "listen: must be host:port, such as 0.0.0.0:9780 or [::1]:9780",
    "listen: host:65536": "listen: must be host:port, such as 0.0.0.0:9780 or [::1]:9780",
    "airflow: {name: ''}": "airflow.name: must have at least 1 character",
    "airflow: {name: 7}": "airflow.name: must be a valid string",
    "airflow: {base_url: airflow.example.com}": f"airflow.base_url: {WEB_ADDRESS}",
    "airflow: {base_url: 'https://u:p@h'}": f"airflow.base_url: {WEB_ADDRESS}",
    "airflow: {dags: {allow: '('}}": "airflow.dags.allow: must be a valid regular expression",
    "airflow: {dags: {deny: [a]}}": "airflow.dags.deny: must be a valid pattern",
    "airflow: {dags: {max: -1}}": "airflow.dags.max: must be greater than or equal to 0",
    "airflow: {task_labels: task_id}": "airflow.task_labels: must be a list",
    "airflow: {task_labels: [run_id]}": "airflow.task_labels.0: must be 'operator' or 'task_id'",
    "airflow: {limits: 5m}": "airflow.limits: must be a mapping",
    "airflow: {limits: {queued: 10}}": "airflow.limits.queued: a duration needs a unit: write 15s, 5m or 1h",
    "airflow: {limits: {queued: '10'}}": "airflow.limits.queued: a duration needs a unit: write 15s, 5m or 1h",
    "airflow: {limits: {queued: 5x}}": "airflow.limits.queued: must be a duration such as 15s, 5m, 1h or 1h30m",
    "airflow: {limits: {queued: 30m1h}}": "airflow.limits.queued: must be a duration such as 15s, 5m, 1h or 1h30m",
    "airflow: {limits: {queued: ''}}": "airflow.limits.queued: must be a duration such as 15s, 5m, 1h or 1h30m",
    "airflow: {limits: {queued: 0s}}": "airflow.limits.queued: must be greater than 0 seconds",
    "celery: {queues: default}": "celery.queues: must be a list",
    "celery: {queues: [a, '']}": "celery.queues.1: must have at least 1 character",
    "celery: {queues: [a, 1]}": "celery.queues.1: must be a valid string",
    "celery: {tls: {verify: perhaps}}": "celery.tls.verify: must be a valid boolean, unable to interpret input",
    "celery: {tls: {ca_file: no.pem}}": "celery.tls.ca_file: cannot read no.pem: No such file or directory",
    "collectors: [dag_runs]": "collectors: must be a mapping",
    "collectors: {dags: {}, other: {interval: 15s}}": (
        "collectors.other: there is no such collector, only dag_runs, task_instances"
    ),
    "collectors: {dag_runs: {interval: 999ms}}": (
        "collectors.dag_runs.interval: must be greater than or equal to 1 seconds"
    ),
    "collectors: {dag_runs: {timeout: 0s}}": "collectors.dag_runs.timeout: must be greater than 0 seconds",
    "collectors: {dag_runs: {timeout: 301s}}": "collectors.dag_runs.timeout: must be less than or equal to 300 seconds",
    'web: {config_file: "no\\nyml"}': "web.config_file: cannot read no yml: No such file or directory",
    "web: {config_file: no.yml}": "web.config_file: cannot read no.yml: No such file or directory",
    "log: {format: xml}": "log.format: must be 'logfmt' or 'json'",
    "log: {level: loud}": "log.level: must be 'debug', 'info', 'warning' or 'error'",
    "redis: {url: x}": "redis: unknown key",
    "airflow: {expected: {}}": "airflow.expected: unknown key",
    "airflow: {expected_by: {etl: {tz: UTC}}}": f"airflow.expected_by.etl: {EITHER}",
    "airflow: {expected_by: {etl: {every: 1h, at: '07:30'}}}": f"airflow.expected_by.etl: {EITHER}",
    "airflow: {expected_by: {etl: {at: 17:30}}}": f"airflow.expected_by.etl.at: {TIME}",
    "airflow: {expected_by: {etl: {at: '7:30'}}}": f"airflow.expected_by.etl.at: {TIME}",
    "airflow: {expected_by: {etl: {at: '07:30', tz: Mars}}}": "airflow.expected_by.etl.tz: "
    "must be a time zone such as Europe/Berlin",
    "1: 2": "1: unknown key",
    "airflow_events: {on: [run_lost]}": (
        "airflow_events.on.0: must be 'run_failed', 'success_overdue', 'dag_overdue', 'import_error' or "
        "'scheduler_silent'"
    ),
    "airflow_events: {dags: {allow: '('}}": "airflow_events.dags.allow: must be a valid regular expression",
    "airflow_events: {off: [run_failed]}": "airflow_events.off: unknown key",
}


@pytest.mark.parametrize("text", WRONG)
def test_an_error_names_its_path_and_its_file(tmp_path: Path, text: str) -> None:
    """One wrong value is one line, and a sentence that says what is wanted."""
    assert problems(tmp_path, text) == (f"{WRONG[text]} (windsock.yml)",)


def test_all_errors_come_at_once(tmp_path: Path) -> None:
    """Of every kind and from every place, sorted."""
    text = "airflow: {limits: {queued: 5x}}\ncollectors: {other: {}, dag_runs: {interval: 15}}\nredis: {}"
    environ = {"WINDSOCK_LISTEN": "9780", "WINDSOCK_SLAK": "1", "AIRFLOW__CORE__PARALLELISM": "many"}
    found = problems(tmp_path, text, environ)
    assert [problem.partition(": ")[0] for problem in found] == [
        "airflow.limits.queued",
        "airflow.parallelism",
        "collectors.dag_runs.interval",
        "listen",
        "redis",
        "slak",
    ]
    assert [problem.rpartition(" ")[2] for problem in found] == [
        "(windsock.yml)",
        "(AIRFLOW__CORE__PARALLELISM)",
        "(windsock.yml)",
        "(WINDSOCK_LISTEN)",
        "(windsock.yml)",
        "(WINDSOCK_SLAK)",
    ]


MALFORMED = {
    "a: [1\nb: 2": "line 2: expected ',' or ']', but got ':'",
    "listen: 'a:1'\nlisten: 'b:1'": "line 2: the key listen occurs twice",
    "airflow:\n  limits:\n    queued: 1s\n    queued: 2s": "line 4: the key queued occurs twice",
    "airflow:\n\tname: x": r"line 2: found character '\t' that cannot start any token",
    "- listen": "line 1: must be a mapping",
    "just text": "line 1: must be a mapping",
    "a: 1\n---\nb: 2": "line 2: but found another document",
    "name: 2024-99-99": "holds what cannot be read as YAML",
    "[" * 1000: "holds what cannot be read as YAML",
    "a: \x01": "holds what cannot be read as YAML",
}


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: text[:20])
def test_what_is_no_mapping_in_yaml_is_an_error_with_its_line(tmp_path: Path, text: str) -> None:
    """Nothing else is reported then, for nothing else is known."""
    assert problems(tmp_path, text) == (f"windsock.yml: {MALFORMED[text]}",)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Missing, or not text."""
    file = tmp_path / "windsock.yml"
    with pytest.raises(ConfigError, match=re.escape(f"{file}: cannot be read: No such file or directory")):
        load(file, {}, collectors=COLLECTORS)
    file.write_bytes(b"listen: a:1\nairflow: {name: \xff}\n")
    with pytest.raises(ConfigError, match=re.escape(f"{file}: line 2: not UTF-8 text")):
        load(file, {}, collectors=COLLECTORS)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    """As some editors write it."""
    assert loaded(tmp_path, f"\ufeff{BROKER}").celery.has_broker


def test_an_empty_section_says_nothing(tmp_path: Path) -> None:
    """A section whose keys are all comments hides neither defaults nor what other layers say."""
    text = "airflow:\n  limits:\ncelery:\ncollectors:\n  dag_runs:\nlog: {}"
    config = loaded(tmp_path, text, {"AIRFLOW__CELERY__BROKER_URL": "redis://redis/0"})
    assert config.celery.has_broker
    assert config.airflow.limits.queued == 600


def test_null_takes_back_what_a_lower_layer_says(tmp_path: Path) -> None:
    """A file can switch the broker or its TLS off though Airflow's variables name them."""
    environ = {
        "AIRFLOW__CELERY__BROKER_URL": "redis://redis/0",
        "AIRFLOW__CELERY__SSL_ACTIVE": "True",
        "AIRFLOW__CELERY__SSL_CACERT": str(tmp_path / "windsock.yml"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://db/airflow",
    }
    assert loaded(tmp_path, "celery: {tls: }", environ).celery.broker().tls is None
    assert loaded(tmp_path, "celery: {tls: {}}", environ).celery.broker().tls is not None
    assert not loaded(tmp_path, "celery: {broker_url: null}", environ).celery.has_broker


FILE = "airflow: {limits: {queued: 2s}}"
VARIABLE = {"WINDSOCK_AIRFLOW__LIMITS__QUEUED": "3s"}


@pytest.mark.parametrize(
    ("text", "environ", "overrides", "seconds"),
    [
        ("", {}, {}, 1),
        (FILE, {}, {}, 2),
        (FILE, VARIABLE, {}, 3),
        (FILE, VARIABLE, {"airflow.limits.queued": "4s"}, 4),
    ],
)
def test_precedence(
    tmp_path: Path, text: str, environ: Mapping[str, str], overrides: Mapping[str, object], seconds: int
) -> None:
    """The command line over WINDSOCK_… over the file over Airflow's variables, key by key."""
    of_airflow = {"AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "1", "AIRFLOW__CORE__PARALLELISM": "8"}
    config = loaded(tmp_path, f"{BROKER}\n{text}", {**of_airflow, **environ}, **overrides)
    assert config.airflow.limits.queued == seconds
    assert config.airflow.parallelism == 8


def test_environment(tmp_path: Path) -> None:
    """Text is taken as it is, lists and maps are YAML, a longer path wins over a map, and empty says nothing."""
    config = loaded(
        tmp_path,
        "listen: h:1",
        {
            "WINDSOCK_AIRFLOW__NAME": "007",
            "WINDSOCK_AIRFLOW__DAGS__ALLOW": "[a-z]+",
            "WINDSOCK_AIRFLOW__DAGS__MAX": "5",
            "WINDSOCK_AIRFLOW__LIMITS": "{queued: 1m, overdue_grace: 2m}",
            "WINDSOCK_AIRFLOW__LIMITS__QUEUED": "5m",
            "WINDSOCK_CELERY__BROKER_URL": "redis://redis",
            "WINDSOCK_AIRFLOW__TASK_LABELS": "[task_id]",
            "WINDSOCK_CELERY__QUEUES": "[a, b]",
            "WINDSOCK_CELERY__TLS__VERIFY": "false",
            "WINDSOCK_COLLECTORS__TASK_INSTANCES__INTERVAL": "1h",
            "WINDSOCK_LISTEN": "",
            "WINDSOCK_WEB__INSECURE": "true",
        },
    )
    assert (config.airflow.name, config.airflow.dags.allow.pattern, config.airflow.dags.max) == ("007", "[a-z]+", 5)
    assert (config.airflow.limits.queued, config.airflow.limits.overdue_grace) == (300, 120)
    assert (config.airflow.task_labels, config.celery.queues) == (("task_id",), ("a", "b"))
    assert config.celery.tls and not config.celery.tls.verify
    assert config.schedule("task_instances").interval == 3600
    assert (config.listen.host, config.web.insecure) == ("h", True)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("WINDSOCK_AIRFLOW__LIMIT__QUEUED", "5m", "airflow.limit.queued: unknown key"),
        ("WINDSOCK_AIRFLOW_NAME", "x", "airflow_name: unknown key"),
        ("WINDSOCK_AIRFLOW__NAME__X", "", "airflow.name.x: unknown key"),
        ("WINDSOCK_CELERY__QUEUES", "[a", "celery.queues: line 1: expected ',' or ']', but got '<stream end>'"),
        ("WINDSOCK_CELERY__QUEUES", "default", "celery.queues: must be a list"),
        ("WINDSOCK_AIRFLOW__LIMITS", "5m", "airflow.limits: must be a mapping"),
        (
            "WINDSOCK_COLLECTORS__OTHER__INTERVAL",
            "5m",
            "collectors.other: there is no such collector, only dag_runs, task_instances",
        ),
    ],
)
def test_an_error_names_its_variable(tmp_path: Path, name: str, value: str, problem: str) -> None:
    """An unknown one is an error even when it is empty."""
    assert problems(tmp_path, BROKER, {name: value}) == (f"{problem} ({name})",)


@pytest.mark.parametrize(
    "name",
    [
        "WINDSOCK_CACHE",
        "WINDSOCK_REQUIRE_TOOLS",
        "WINDSOCK_SERVICE_HOST",
        "WINDSOCK_SERVICE_PORT",
        "WINDSOCK_SERVICE_PORT_HTTP",
        "WINDSOCK_PORT",
        "WINDSOCK_PORT_9780_TCP",
        "WINDSOCK_PORT_9780_TCP_ADDR",
        "WINDSOCK_PROD_SERVICE_HOST",
    ],
)
def test_variables_that_are_no_settings(tmp_path: Path, name: str) -> None:
    """Those of the build, and those that Kubernetes makes of a Service called windsock, are left alone."""
    assert loaded(tmp_path, environ={name: "tcp://10.0.0.1:9780"}).celery.has_broker


def test_without_a_path_the_file_is_that_of_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that happens to lie in the working directory is not read."""
    monkeypatch.chdir(tmp_path)
    loaded(tmp_path, f"{BROKER}\nairflow: {{name: file}}")
    environ = {"WINDSOCK_CELERY__BROKER_URL": "redis://redis"}
    assert load(None, environ, collectors=()).airflow.name == "airflow"
    assert load(None, {**environ, "WINDSOCK_CONFIG": "windsock.yml"}, collectors=()).airflow.name == "file"


def test_nothing_to_watch_is_one_error_that_says_where_was_looked(tmp_path: Path) -> None:
    """The keys, our variables and Airflow's are all named; an error elsewhere comes first."""
    (problem,) = problems(tmp_path, "airflow: {name: prod}")
    for place in (
        "airflow.database_url",
        "celery.broker_url",
        "WINDSOCK_AIRFLOW__DATABASE_URL",
        "WINDSOCK_CELERY__BROKER_URL",
        "destinations",
        "WINDSOCK_DESTINATIONS",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW__CELERY__BROKER_URL",
    ):
        assert place in problem
    assert len(problems(tmp_path, "airflow: {name: ''}")) == 1


@pytest.mark.parametrize(
    ("text", "loopback", "written"),
    [
        ("127.0.0.1:9780", True, "127.0.0.1:9780"),
        ("localhost:1", True, "localhost:1"),
        ("[::1]:9780", True, "[::1]:9780"),
        ("127.0.0.1.example.com:80", False, "127.0.0.1.example.com:80"),
        ("0.0.0.0:0", False, "0.0.0.0:0"),
        ("0.0.0.0:65535", False, "0.0.0.0:65535"),
        ("[::]:9780", False, "[::]:9780"),
    ],
)
def test_listen(tmp_path: Path, text: str, loopback: bool, written: str) -> None:
    """Whether others can connect decides whether credentials are wanted."""
    listen = loaded(tmp_path, f"{BROKER}\nlisten: '{text}'").listen
    assert (listen.loopback, str(listen)) == (loopback, written)


def test_a_configuration_cannot_be_changed(tmp_path: Path) -> None:
    """What was checked is what holds."""
    config = loaded(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        config.airflow.name = "other"
