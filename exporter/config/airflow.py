"""What Airflow's own environment variables say, as settings of ours."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from functools import cache

from .urls import UnsupportedBrokerError, parse_broker_url

DATABASE = ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__SQL_ALCHEMY_CONN")
BROKER = "AIRFLOW__CELERY__BROKER_URL"
_EXECUTOR = "AIRFLOW__CORE__EXECUTOR"
_SCHEDULER = "AIRFLOW__SCHEDULER__"
_SSL = "AIRFLOW__CELERY__SSL_"
_TRANSPORT = "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__"
_COMMAND_TIMEOUT = 10.0  # seconds


class Variables:
    """Settings as (dotted path, value, variable), and sentences about what is wrong or cannot be followed."""

    def __init__(self, environ: Mapping[str, str], given: Callable[[str], bool]) -> None:
        self._environ = environ
        self.settings: list[tuple[str, object, str]] = []
        self.problems: list[str] = []
        self.warnings: list[str] = []
        if not given("airflow.database_url"):  # else its command would run for nothing
            self._secret("airflow.database_url", *DATABASE)
        self._options()
        if given("celery.broker_url") or self._broker():
            self._broker_options()
            self._sentinel_options(f"{_TRANSPORT}SENTINEL_KWARGS")

    def _options(self) -> None:
        for_airflow_2 = f"{_SCHEDULER}SCHEDULER_ZOMBIE_TASK_THRESHOLD"
        heartbeat = (f"{_SCHEDULER}TASK_INSTANCE_HEARTBEAT_TIMEOUT", for_airflow_2)
        component = f"{_SCHEDULER}SCHEDULER_HEALTH_CHECK_THRESHOLD"
        self._take("airflow.database_schema", *(name.replace("_CONN", "_SCHEMA") for name in DATABASE))
        self._take("airflow.base_url", "AIRFLOW__API__BASE_URL", "AIRFLOW__WEBSERVER__BASE_URL", read=_web_address)
        self._take("airflow.parallelism", "AIRFLOW__CORE__PARALLELISM")
        self._take("airflow.limits.component_heartbeat", component, read=_duration)
        self._take("airflow.limits.task_heartbeat", *heartbeat, read=_duration)
        self._take("airflow.limits.queued", f"{_SCHEDULER}TASK_QUEUED_TIMEOUT", read=_duration)

    def _broker(self) -> bool:
        """Whether a broker is named that Windsock can read; one that it cannot read is a warning."""
        url, name = self._secret("celery.broker_url", BROKER)
        if not name and "Celery" in self._text(_EXECUTOR):
            self.warnings.append(f"no broker metrics: {_EXECUTOR} names Celery, but {BROKER} is not set")
        try:
            parse_broker_url(url)
        except UnsupportedBrokerError as error:
            self.settings.pop()
            self.warnings.append(f"no broker metrics: {error} ({name})")
            return False
        except ValueError:
            return False  # reported with all other errors
        return True

    def _broker_options(self) -> None:
        self._take("celery.visibility_timeout", f"{_TRANSPORT}VISIBILITY_TIMEOUT", read=_duration)
        self._take("celery.master_name", f"{_TRANSPORT}MASTER_NAME")
        self._take("celery.global_keyprefix", f"{_TRANSPORT}GLOBAL_KEYPREFIX")
        if self._text(f"{_SSL}ACTIVE").lower() in ("t", "true", "1"):
            self.settings.append(("celery.tls", {}, f"{_SSL}ACTIVE"))
            self._take("celery.tls.ca_file", f"{_SSL}CACERT")
            if self._text(f"{_SSL}MUTUAL_TLS").lower() not in ("f", "false", "0"):
                self._take("celery.tls.cert_file", f"{_SSL}CERT")
                self._take("celery.tls.key_file", f"{_SSL}KEY")

    def _sentinel_options(self, name: str) -> None:
        try:
            options = dict(json.loads(self._text(name) or "{}"))
        except (TypeError, ValueError):
            self.problems.append(f"celery.sentinel_password: must be a JSON object ({name})")
            return
        for option, key in (("username", "username"), ("password", "password"), ("ssl", "tls")):
            if option in options:
                self.settings.append((f"celery.sentinel_{key}", options[option], name))

    def _take(self, path: str, *names: str, read: Callable[[str], str] = str) -> None:
        """The first of the variables that says something."""
        for name in names:
            if value := read(self._text(name)):
                self.settings.append((path, value, name))
                return

    def _secret(self, path: str, *names: str) -> tuple[str, str]:
        """The first that is set, itself or as a command that prints it, and its name; Airflow has the same order."""
        for name in names:
            for variable, read in ((name, self._text), (f"{name}_CMD", self._output), (f"{name}_SECRET", _refuse)):
                if not self._environ.get(variable):
                    continue
                try:
                    value = read(variable)
                    self.settings.append((path, value, variable))
                except ValueError as error:
                    self.problems.append(f"{path}: {error} ({variable})")
                    value = ""
                return value, variable
        return "", ""

    def _text(self, name: str) -> str:
        """The variable, in which Airflow, too, replaces $NAME and ${NAME}; empty if it is not set."""
        text, known = self._environ.get(name, ""), self._environ
        return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda found: known.get(found[1] or found[2], found[0]), text)

    def _output(self, name: str) -> str:
        try:
            return _printed(self._environ[name], frozenset(self._environ.items()))
        except subprocess.TimeoutExpired:
            problem = f"the command took longer than {_COMMAND_TIMEOUT:.0f}s"
        except subprocess.CalledProcessError as error:
            problem = f"the command ended with exit status {error.returncode}"
        except (OSError, ValueError, IndexError):
            problem = "the command cannot be run"
        raise ValueError(problem)


@cache
def _printed(command: str, environ: frozenset[tuple[str, str]]) -> str:
    """Run once in a process: at a reload, everything else would wait for it."""
    null = subprocess.DEVNULL
    output = subprocess.check_output(
        shlex.split(command), env=dict(environ), stdin=null, stderr=null, timeout=_COMMAND_TIMEOUT
    )
    return output.decode("utf-8", "ignore").strip()


def _refuse(_name: str) -> str:
    raise ValueError("Windsock cannot ask Airflow's secrets backend: give the URL itself, or a file that holds it")


def _web_address(text: str) -> str:
    return text if text.startswith("http") else ""  # Airflow takes a bare path, too: no link can be made of it


def _duration(seconds: str) -> str:
    try:
        return f"{float(seconds) * 1000:.0f}ms"
    except ValueError:
        return seconds  # the validation says what is wrong with it
