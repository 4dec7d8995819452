"""Rows in, exposition text out: one collector at a time, on a real server, as the least-privilege role."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from exporter.collector import Context
from exporter.collectors import ALL
from exporter.config import Config
from exporter.discovery import Dags, Queues
from exporter.exposition import Renderer
from exporter.poller import Poller
from exporter.sources import Database, Sources
from tests.airflow import Airflow
from tests.conftest import ROLE, VERSIONS, AirflowDatabase
from windsock_demo import servers

COLLECTORS = {collector.name: collector for collector in ALL}
ONLY = re.compile(r"(?P<since>\d\.\d+)(?P<range>[+-]?) +(?P<line>.*)")
NOW = re.compile(r" now([+-]\d+)?$")


@pytest.fixture(scope="session", params=VERSIONS)
def database(
    request: pytest.FixtureRequest, postgres: servers.Postgres, airflow_template: Callable[[str], str]
) -> AirflowDatabase:
    """A database right after that Airflow's `db migrate`, shared: each test removes what it wrote."""
    template = airflow_template(request.param)
    name = f"{template}_collected"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*map(sql.Identifier, (name, template))))
    password = airflow_template.password  # type: ignore[attr-defined]
    return AirflowDatabase(request.param, postgres.url(name), postgres.url(name, ROLE, password))


@pytest.fixture
def airflow(database: AirflowDatabase) -> Iterator[Airflow]:
    """Writes into this database as that Airflow would."""
    with psycopg.connect(database.url) as connection:
        airflow = Airflow(connection, database.version)
        yield airflow
        airflow.clear()


class Expect:
    """Compares what a collector exports with a text of sample lines, in any order.

    A line that starts with `3.1+`, `2.11-` or `3.1` is for those versions only. A value is a number, an instant such as
    `now-30` (in seconds from the Airflow's), or `any`.
    """

    def __init__(self, source: Database, airflow: Airflow) -> None:
        self._source, self._airflow = source, airflow
        self.configure()

    def configure(self, **settings: object) -> None:
        """Start anew with these settings of the configuration's airflow section."""
        config = Config.model_validate({"airflow": {"name": "a", **settings}})
        dags = config.airflow.dags
        self.context = Context(config, Dags(dags.allow, dags.deny, dags.max), Queues(config.celery.queues))

    async def samples(self, collector: str) -> list[str]:
        """The sample lines of one successful poll."""
        poller = Poller(COLLECTORS[collector], Sources(self._source, None), self.context, Renderer("a"))
        await poller.poll()
        assert poller.status.success, f"{poller.status.reason}: {poller.status.error}"
        assert poller.part
        return [line for line in poller.part.text.plain.decode().splitlines() if not line.startswith("#")]

    async def __call__(self, collector: str, text: str, *, families: str = "") -> None:
        """Polls once and compares every family, or only those that are named, with spaces between them."""
        expected = [line for each in text.strip().splitlines() if (line := self._line(each.strip()))]
        unknown = {line.removesuffix(" any") for line in expected if line.endswith(" any")}
        samples = await self.samples(collector)
        if families:
            samples = [line for line in samples if line.partition("{")[0] in families.split()]
        found = [f"{series} any" if (series := line.rpartition(" ")[0]) in unknown else line for line in samples]
        assert sorted(found) == sorted(expected)

    def _line(self, line: str) -> str:
        if only := ONLY.fullmatch(line):
            version = tuple(map(int, only["since"].split(".")))
            here = self._airflow.version
            if not {"+": here >= version, "-": here <= version, "": here == version}[only["range"]]:
                return ""
            line = only["line"]
        epoch = int(self._airflow.now.timestamp())
        return NOW.sub(lambda match: f" {epoch + int(match[1] or 0)}", line)


@pytest.fixture
async def expect(database: AirflowDatabase, airflow: Airflow) -> AsyncIterator[Expect]:
    """Polls collectors of this database."""
    async with Database(lambda: database.reader_url) as source:
        yield Expect(source, airflow)
