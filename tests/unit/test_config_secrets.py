"""Secrets come from files as well, are read anew at each use, and are shown nowhere."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.config import Config, ConfigError, load

MARKER = "S3cr3t-marker"
KEYS = ("airflow.database_url", "celery.broker_url", "celery.sentinel_password")
SECRETS = {
    "airflow.database_url": f"postgresql://u:{MARKER}@db/airflow",
    "celery.broker_url": f"redis://:{MARKER}@redis/0",
    "celery.sentinel_password": MARKER,
}


def loaded(tmp_path: Path, text: str, environ: Mapping[str, str] = {}) -> Config:
    """The configuration of a file with this text."""
    file = tmp_path / "windsock.yml"
    file.write_text(text)
    return load(file, {"PATH": os.environ["PATH"], **environ}, collectors=("dag_runs",))


def problems(tmp_path: Path, text: str, environ: Mapping[str, str] = {}) -> tuple[str, ...]:
    """What is wrong with it; the file's name without its folder."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, environ)
    return tuple(problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems)


def variable(key: str) -> str:
    """The environment's name for a key."""
    return f"WINDSOCK_{key.replace('.', '__').upper()}"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A file for each secret, as an editor leaves it: with a newline at its end."""
    paths = {}
    for key, secret in SECRETS.items():
        (tmp_path / key).write_text(f"{secret}\n")
        paths[variable(f"{key}_file")] = str(tmp_path / key)
    return paths


def test_secrets_from_files(tmp_path: Path, files: dict[str, str]) -> None:
    """Without the newline at the end, wherever the path is written; in the file it may be relative to the file."""
    text = "airflow: {database_url_file: airflow.database_url}\ncelery: {broker_url_file: celery.broker_url}"
    for config in (loaded(tmp_path, "", files), loaded(tmp_path, text)):
        assert config.airflow.database_dsn() == f"postgresql://u:{MARKER}@db/airflow"
        assert config.celery.broker().password == MARKER
    assert loaded(tmp_path, "", files).celery.broker().sentinel_password == MARKER


def test_a_rotated_secret_is_seen_at_the_next_use(tmp_path: Path, files: dict[str, str]) -> None:
    """No restart is needed; a file that is gone, empty or broken is an OSError that keeps its content to itself."""
    config = loaded(tmp_path, "", files)
    database, broker = tmp_path / "airflow.database_url", tmp_path / "celery.broker_url"
    database.write_text("postgresql+psycopg2://u:new@db/airflow")
    assert config.airflow.database_dsn() == "postgresql://u:new@db/airflow"
    broker.write_text("redis://:new@redis/0")
    assert config.celery.broker().password == "new"
    (tmp_path / "celery.sentinel_password").write_text("newer\r\n")
    assert config.celery.broker().sentinel_password == "newer"
    for content in (None, "", "\n", f"mysql://u:{MARKER}@db/airflow", f"redis://{MARKER}:{MARKER}"):
        for path, use in ((database, config.airflow.database_dsn), (broker, config.celery.broker)):
            path.unlink() if content is None else path.write_text(content)
            with pytest.raises(OSError, match=r".") as caught:
                use()
            assert MARKER not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot read secret: No such file or directory"),
        (b"", "secret is empty"),
        (b"\r\n", "secret is empty"),
        (b"\xff", "must be the path of a file of UTF-8 text"),
    ],
)
def test_a_bad_secret_file_is_an_error(tmp_path: Path, key: str, content: bytes | None, reason: str) -> None:
    """With the path of the key, the path of the file and the reason."""
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    found = problems(tmp_path, "", {variable(f"{key}_file"): str(tmp_path / "secret")})
    assert found == (f"{key}_file: {reason} ({variable(f'{key}_file')})",)


def test_a_folder_is_no_secret_file(tmp_path: Path) -> None:
    """The reason is the system's."""
    (problem,) = problems(tmp_path, "airflow: {database_url_file: .}")
    assert problem.endswith("Is a directory (windsock.yml)")


@pytest.mark.parametrize("key", KEYS)
def test_a_secret_is_given_once(tmp_path: Path, key: str, files: dict[str, str]) -> None:
    """Itself and its file in one place are an error; in different places the stronger one counts."""
    section, name = key.split(".")
    both = f"{section}: {{{name}: '{SECRETS[key]}', {name}_file: {key}}}"
    assert problems(tmp_path, both) == (f"{key}: is given beside its _file (windsock.yml)",)
    environ = {variable(key): SECRETS[key], variable(f"{key}_file"): files[variable(f"{key}_file")]}
    assert [problem.partition(" (")[0] for problem in problems(tmp_path, "", environ)] == [
        f"{key}: is given beside its _file"
    ]


def test_a_stronger_place_hides_the_other_spelling(tmp_path: Path, files: dict[str, str]) -> None:
    """A URL in the environment over a file's _file, a _file over Airflow's variables."""
    name = "airflow.database_url_file"
    config = loaded(
        tmp_path,
        f"airflow: {{database_url_file: {files[variable(name)]}}}",
        {"WINDSOCK_AIRFLOW__DATABASE_URL": "postgresql://other/airflow"},
    )
    assert config.airflow.database_dsn() == "postgresql://other/airflow"
    config = loaded(tmp_path, "", {**files, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://other/airflow"})
    assert MARKER in config.airflow.database_dsn()


def test_repr_shows_no_secret(tmp_path: Path) -> None:
    """Nor str, nor the broker's address."""
    text = f"""
        airflow: {{database_url: '{SECRETS["airflow.database_url"]}'}}
        celery: {{broker_url: '{SECRETS["celery.broker_url"]}', sentinel_password: {MARKER}}}
    """
    config = loaded(tmp_path, text)
    assert MARKER in config.airflow.database_dsn()
    assert config.celery.broker().password == config.celery.broker().sentinel_password == MARKER
    for shown in (config, config.airflow, config.celery, config.celery.broker()):
        assert MARKER not in f"{shown!r} {shown}"


INVALID = [
    f"airflow: {{database_url: 'mysql://u:{MARKER}@h/d'}}",
    f"airflow: {{database_url: 'postgresql://u:{MARKER}@h:{MARKER}/d'}}",
    f"airflow: {{database_url: 'postgresql://u:p@{MARKER}@h/d'}}",
    f"airflow: {{database_url: 'postgresql://h/d?{MARKER}=1'}}",
    f"airflow: {{database_url: {{{MARKER}: 1}}}}",
    f"airflow: {{database_url: [{MARKER}]}}",
    f"airflow: {{database_url_file: 'postgresql://u:{MARKER}@h/d'}}",
    f"airflow: 'postgresql://u:{MARKER}@h/d'",
    f"airflow: {{base_url: 'https://u:{MARKER}@h'}}",
    f"airflow: {{parallelism: {MARKER}, limits: {{queued: {MARKER}}}, dags: {{allow: '({MARKER}'}}}}",
    f"celery: {{broker_url: 'amqp://u:{MARKER}@h'}}",
    f"celery: {{broker_url: 'redis://u:{MARKER}@h:{MARKER}'}}",
    f"celery: {{broker_url: 'redis://u:p#{MARKER}@h'}}",
    f"celery: {{broker_url: 'redis://u:{MARKER}@[h'}}",
    f"celery: {{broker_url: 'redis://u:{MARKER}@ho\u2100st'}}",
    f"celery: {{broker_url: 'redis://h/{MARKER}?{MARKER}={MARKER}'}}",
    f"celery: {{broker_url: 'sentinel://:{MARKER}@h'}}",
    f"celery: {{sentinel_password: [{MARKER}], visibility_timeout: {MARKER}, tls: {MARKER}}}",
    f"celery: redis://:{MARKER}@h",
    f"celery: {{sentinel_password: *{MARKER}}}",
    f"celery: {{sentinel_password: !{MARKER} x}}",
    f"celery: {{sentinel_password: '{MARKER}}}",
    f'celery: {{sentinel_password: "\\q{MARKER}"}}',
    f"celery: {{sentinel_password: %{MARKER}}}",
    f"celery: {{sentinel_password: {MARKER}: x}}",
    f"redis://:{MARKER}@h",
    f"'redis://:{MARKER}@h': 1",
    f"'redis://:{MARKER}@h': 1\n'redis://:{MARKER}@h': 2",
    f"collectors: {{'redis://:{MARKER}@h': {{interval: {MARKER}}}}}",
    f"listen: {MARKER}\nweb: {{insecure: {MARKER}}}\nlog: {{level: {MARKER}}}",
]


@pytest.mark.parametrize("text", INVALID, ids=range(len(INVALID)))
def test_no_error_repeats_a_secret(tmp_path: Path, text: str) -> None:
    """Wherever it was written by mistake: not in the problems, not in the traceback, not in what caused it."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    error = caught.value
    assert error.__context__ is None or MARKER not in repr(error.__context__)
    assert MARKER not in "".join((*error.problems, repr(error), *traceback.format_exception(error)))


VARIABLES = {
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"mysql://u:{MARKER}@h/d",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": f"sh -c 'echo {MARKER}; echo {MARKER} >&2; exit 1'",
    "AIRFLOW__CELERY__BROKER_URL": f"redis://u:{MARKER}@h:{MARKER}",
    "AIRFLOW__CELERY__BROKER_URL_CMD": f"echo amqp://u:{MARKER}@h",
    "AIRFLOW__CELERY__BROKER_URL_SECRET": MARKER,
    "AIRFLOW__CORE__PARALLELISM": MARKER,
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": MARKER,
    "WINDSOCK_AIRFLOW__DATABASE_URL": f"sqlite://{MARKER}",
    "WINDSOCK_CELERY__BROKER_URL": f"redis://h:{MARKER}",
    "WINDSOCK_CELERY__BROKER_URL_FILE": f"redis://:{MARKER}@h",
    "WINDSOCK_CELERY": f"{{broker_url: *{MARKER}}}",
    "WINDSOCK_CELERY__QUEUES": f"redis://:{MARKER}@h",
}


@pytest.mark.parametrize("name", VARIABLES)
def test_no_error_repeats_a_secret_of_a_variable(tmp_path: Path, name: str) -> None:
    """Neither Airflow's nor ours, nor what a command printed."""
    found = problems(tmp_path, "", {name: VARIABLES[name]})
    assert name in found[-1]
    assert MARKER not in "".join(found)


def test_no_error_repeats_sentinel_options(tmp_path: Path) -> None:
    """Airflow's JSON holds a password."""
    options = "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__SENTINEL_KWARGS"
    for text in (f'{{"password": "{MARKER}"', f'{{"password": ["{MARKER}"]}}', f'"{MARKER}"'):
        (problem,) = problems(tmp_path, "", {"AIRFLOW__CELERY__BROKER_URL": "redis://redis", options: text})
        assert problem.startswith("celery.sentinel_password: must be a ")
        assert MARKER not in problem
