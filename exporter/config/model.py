"""What may be configured: frozen, durations in seconds, secrets hidden in repr and read anew from their files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, PrivateAttr, SecretStr, model_validator

from .events import AirflowEvents
from .router import Address as SecretAddress
from .router import AddressFile, Destination, Matchers, Route, Slack, Storm, TokenFile, Watchdog, address
from .urls import BrokerAddress, Tls, parse_broker_url, postgres_dsn
from .values import (
    Address,
    Duration,
    Interval,
    Listen,
    Pattern,
    Positive,
    ReadableFile,
    Section,
    Size,
    TaskLabels,
    Text,
    TimeOfDay,
    Timeout,
    WebAddress,
    Zone,
    current,
    holding,
    secret_text,
)

DatabaseUrl = Annotated[SecretStr, holding(postgres_dsn)]
DatabaseUrlFile = Annotated[Path, holding(postgres_dsn)]
BrokerUrl = Annotated[SecretStr, holding(parse_broker_url)]
BrokerUrlFile = Annotated[Path, holding(parse_broker_url)]
PasswordFile = Annotated[Path, holding(str)]


class Dags(Section):
    """Which DAGs get series of their own, and the keys of tags that are shown; patterns match whole names."""

    allow: Pattern = re.compile(".*")
    deny: Pattern = re.compile("")
    max: int = Field(default=2000, ge=0)
    tags: tuple[Text, ...] = ()


class Limits(Section):
    """Ages beyond which something counts as stale, stuck or overdue; Airflow's own defaults."""

    component_heartbeat: Positive = 30.0
    task_heartbeat: Positive = 300.0
    queued: Positive = 600.0
    overdue_grace: Duration = 60.0


class Expectation(Section):
    """By when a DAG should succeed again: so long after the last success, or at this time of the next day."""

    every: Positive | None = None
    at: TimeOfDay | None = None
    tz: Zone = ZoneInfo("UTC")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.every is None) == (self.at is None):
            raise ValueError('needs either every: 26h or at: "07:30"')
        return self


class Airflow(Section):
    """The Airflow that is watched, and its metadata database; parallelism 0 is without limit.

    `task_labels` are those that airflow_task_instances_finished_total has beside its own.
    """

    name: Text = "airflow"
    database_url: DatabaseUrl | None = None
    database_url_file: DatabaseUrlFile | None = None
    database_schema: Text | None = None
    base_url: WebAddress | None = None
    dags: Dags = Dags()
    parallelism: int = Field(default=32, ge=0)
    task_labels: TaskLabels = ()
    limits: Limits = Limits()
    expected_by: dict[Pattern, Expectation] = Field(default={})

    @property
    def has_database(self) -> bool:
        """Whether a database is configured."""
        return bool(self.database_url or self.database_url_file)

    def database_dsn(self) -> str:
        """The libpq URI as it is now; OSError, without a secret in it, if its file no longer holds one."""
        return current(self.database_url or self.database_url_file, postgres_dsn)


class Celery(Section):
    """The Redis that is Celery's broker."""

    broker_url: BrokerUrl | None = None
    broker_url_file: BrokerUrlFile | None = None
    queues: tuple[Text, ...] = ()
    visibility_timeout: Positive = 86400.0
    master_name: Text | None = None
    global_keyprefix: str = ""
    sentinel_username: Text | None = None
    sentinel_password: SecretStr | None = None
    sentinel_password_file: PasswordFile | None = None
    sentinel_tls: bool = False
    tls: Tls | None = None

    @property
    def has_broker(self) -> bool:
        """Whether a broker is configured."""
        return bool(self.broker_url or self.broker_url_file)

    def broker(self) -> BrokerAddress:
        """Where the broker is now; OSError, without a secret in it, if a file no longer holds what it must."""
        address = current(self.broker_url or self.broker_url_file, parse_broker_url)
        password = self.sentinel_password or self.sentinel_password_file
        tls = self.tls or address.tls
        return replace(
            address,
            tls=tls,
            master_name=self.master_name if address.sentinel else None,
            sentinel_username=self.sentinel_username,
            sentinel_password=current(password, str) if password else None,
            sentinel_tls=(tls or Tls()) if self.sentinel_tls else None,
        )

    @model_validator(mode="after")
    def _sentinels_know_their_master(self) -> Self:
        url = self.broker_url or self.broker_url_file
        if url and not self.master_name and parse_broker_url(secret_text(url)).sentinel:
            raise ValueError("master_name is required with sentinel://")
        return self


class Schedule(Section):
    """How one collector runs; None means what the collector itself declares."""

    enabled: bool = True
    interval: Interval | None = None
    timeout: Timeout | None = None


class Web(Section):
    """How the endpoint is protected, and how large a webhook may be, in bytes."""

    config_file: ReadableFile | None = None
    insecure: bool = False
    webhook_token_files: tuple[TokenFile, ...] = ()
    max_body: Size = 64 << 20


class State(Section):
    """Where the daemon keeps what must survive a restart, and how large that may get, in bytes."""

    dir: Path = Path("/var/lib/windsock")
    max_size: Size = 1 << 30


class Log(Section):
    """How events are written to stderr."""

    format: Literal["logfmt", "json"] = "logfmt"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """Everything that is configured, valid as a whole; a warning is a sentence about what was left out."""

    listen: Listen = Address("127.0.0.1", 9780)
    airflow: Airflow = Airflow()
    celery: Celery = Celery()
    collectors: dict[str, Schedule] = Field(default={})
    airflow_events: AirflowEvents = AirflowEvents()
    state: State = State()
    web: Web = Web()
    slack: Slack = Slack()
    destinations: dict[str, Destination] = Field(default={})
    routes: tuple[Route, ...] = ()
    storm: Storm = Storm()
    templates: dict[str, Text] = Field(default={})
    alertmanagers: tuple[WebAddress, ...] = ()
    alertmanager_token_file: TokenFile | None = None
    prometheus_url: WebAddress | None = None
    prometheus_token_file: TokenFile | None = None
    prometheus_match: Matchers = ()
    watchdogs: tuple[Watchdog, ...] = ()
    heartbeat_url: SecretAddress | None = None
    heartbeat_url_file: AddressFile | None = None
    log: Log = Log()
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What Airflow's variables say that Windsock cannot follow, one line each."""
        return self._warnings

    @property
    def has_heartbeat(self) -> bool:
        """Whether somebody waits to hear from us."""
        return bool(self.heartbeat_url or self.heartbeat_url_file)

    def heartbeat(self) -> str:
        """The address as it is now; OSError, without it, if its file no longer holds one."""
        return current(self.heartbeat_url or self.heartbeat_url_file, address)

    def half(self, name: Literal["exporter", "router"]) -> Self:
        """What concerns only the metrics, or only the messages; ValueError if that is nothing."""
        events = {"airflow_events": AirflowEvents()}  # they take both
        if name == "exporter":
            half = self.model_copy(update={"destinations": {}, "routes": (), **events})
            left: object = self.airflow.has_database or self.celery.has_broker
        else:
            without = {"database_url": None, "database_url_file": None}
            airflow = self.airflow.model_copy(update=without)
            half = self.model_copy(update={"airflow": airflow, "celery": Celery(), **events})
            left = self.destinations
        if not left:
            what = "destinations" if name == "router" else "airflow.database_url and celery.broker_url"
            raise ValueError(f"--only {name}: there is nothing to do without {what}")
        return half

    def schedule(self, collector: str) -> Schedule:
        """How this collector runs."""
        return self.collectors.get(collector, Schedule())

    def model_post_init(self, context: object) -> None:
        """Takes over the warnings, which the loader passes as the context of the validation."""
        self._warnings = context if isinstance(context, tuple) else ()
