"""The endpoint over real HTTP: what it serves, in which format, and what it never does."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import AbstractAsyncContextManager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, exposition
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from exporter import web
from exporter.config.values import Address
from exporter.sources import SourceError
from exporter.web import Readiness, application, listening, registry_text
from exporter.web_config import WebConfig
from tests.integration.endpoint import LOOPBACK, Row, Rows, configured, polled, served

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROTOBUF_FIRST = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7," + PROMETHEUS_3
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def two_dags() -> Rows:
    """A collector with a label that is hard to write down."""
    return Rows(name="dag_runs", rows=[Row("etl", 3), Row('odd "one"\\\n', 0)])


def stable(body: str) -> list[str]:
    """The lines of an exposition that do not change by themselves from one moment to the next."""
    return [line for line in body.splitlines() if "process_" not in line]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, TEXT),
        ("", TEXT),
        ("*/*", TEXT),
        (BROWSER, TEXT),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        (PROTOBUF_FIRST, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ('Application/OpenMetrics-Text; Version="1.0.0"', OPENMETRICS),
        (OPENMETRICS, OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;q=0,*/*", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;version=0.0.4;q=0.3", TEXT),
        ("text/plain,application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1", TEXT),
        ("application/openmetrics-text;version=2.0.0", TEXT),
        ("application/openmetrics-text;version=latest;q=high", TEXT),
        ("text/plain;version=1.0.0;escaping=dots", TEXT),
        (",;=,;q=,", TEXT),
    ],
)
async def test_the_format_is_negotiated(accept: str | None, content_type: str) -> None:
    """OpenMetrics 1.0.0 for who names it and wants it no less than text; text 0.0.4 for all others."""
    async with served(two_dags()) as client:
        answer = await client.get("/metrics", headers={"Accept": accept} if accept is not None else {})
        body = await answer.text()
    assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
    assert body.endswith("\n# EOF\n") == (content_type == OPENMETRICS)
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize("accept", ["*/*", BROWSER, PROMETHEUS_2, PROMETHEUS_3, PROTOBUF_FIRST])
async def test_real_clients_get_what_the_official_library_would_give(accept: str) -> None:
    """The kind of format is the same; the library promises name escapings beside it that make no difference here."""
    async with served() as client:
        answer = await client.get("/metrics", headers={"Accept": accept})
    theirs = exposition.choose_encoder(accept)[1]
    assert answer.content_type == theirs.partition(";")[0]


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        (None, False),
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *;q=1", False),
        ("*", False),
        ("*;q=0", False),
        ("br;q=1.0, *;q=0.1", False),
        ("gzip;q=x", False),
    ],
)
async def test_the_encoding_is_negotiated(accepted: str | None, compressed: bool) -> None:
    """Gzip for who names it, and its content is the plain body."""
    headers = {"Accept-Encoding": accepted} if accepted is not None else {}
    async with served(two_dags()) as client:
        plain = await (await client.get("/metrics")).text()
        answer = await client.get("/metrics", headers=headers)
        body = await answer.read()
    assert (answer.headers.get("Content-Encoding") == "gzip") == compressed
    assert stable((gzip.decompress(body) if compressed else body).decode()) == stable(plain)


async def test_both_formats_say_the_same() -> None:
    """Strict parsers find the same samples in them: of collectors, of how they fare, and of the daemon itself."""
    broken = Rows(name="pools", error=SourceError("permission", "permission denied"))
    async with served(two_dags(), broken) as client:
        text = await (await client.get("/metrics")).text()
        strict = await (await client.get("/metrics", headers={"Accept": PROMETHEUS_3})).text()
    families = [
        *text_string_to_metric_families(text),
        *openmetrics_parser.text_string_to_metric_families(strict),
    ]
    samples = [(sample.name, *sample.labels.values(), sample.value) for family in families for sample in family.samples]
    for expected in (
        ("airflow_dag_runs", "prod", 'odd "one"\\\n', 0),
        ("airflow_dag_runs_started_total", "prod", "etl", 3),
        ("windsock_collector_success", "dag_runs", 1),
        ("windsock_collector_success", "pools", 0),
    ):
        assert samples.count(expected) == 2
    assert {family.name for family in families} >= {"windsock_build_info", "windsock_collector_duration_seconds"}


def test_our_own_metrics_are_written_as_the_official_library_writes_them() -> None:
    """Byte for byte, in both formats, also with hostile labels and odd values."""
    registry = CollectorRegistry()
    Counter("events_total", "Events.", ["what"], registry=registry).labels('a "b"\\\n').inc(2.5)
    Gauge("level", "Level.", registry=registry).set(float("inf"))
    Histogram("took_seconds", "Took.", ["who", "at"], registry=registry, buckets=(0.1, 1e9)).labels("x", "y").observe(3)
    assert registry_text(registry, "text") == exposition.generate_latest(registry)
    assert registry_text(registry, "openmetrics") + b"# EOF\n" == openmetrics.generate_latest(registry)


async def test_a_scrape_reads_nothing_and_waits_for_nothing() -> None:
    """While a read hangs, the other collectors' samples are there at once; and no scrape causes a read."""
    hung, well = Rows(name="tables", gate=asyncio.Event()), two_dags()
    config = configured()
    pollers = await polled(hung, well, config=config)
    app = application(pollers, config, WebConfig(), Readiness(None))
    async with listening(app, LOOPBACK, WebConfig()) as url, aiohttp.ClientSession(url) as client:
        waiting = asyncio.create_task(pollers[0].poll())
        async with asyncio.timeout(5):
            bodies = [await (await client.get("/metrics")).text() for _ in range(3)]
        waiting.cancel()
    assert all('airflow_dag_runs{airflow="prod",dag_id="etl"} 3\n' in body for body in bodies)
    assert (hung.reads, well.reads) == (1, 1)


async def test_what_was_read_is_served_while_reads_fail() -> None:
    """A short outage of a source takes no series away; that it is one is told beside them."""
    collector, config = two_dags(), configured()
    (poller,) = pollers = await polled(collector, config=config)
    collector.error = SourceError("connect", "connection refused")
    await poller.poll()
    app = application(pollers, config, WebConfig(), Readiness(None))
    async with listening(app, LOOPBACK, WebConfig()) as url, aiohttp.ClientSession(url) as client:
        body = await (await client.get("/metrics")).text()
    assert 'airflow_dag_runs{airflow="prod",dag_id="etl"} 3\n' in body
    assert 'windsock_collector_success{collector="dag_runs"} 0\n' in body


async def test_readiness_and_health() -> None:
    """Alive in any case; ready only between the start and the stop, and else with a reason."""
    readiness = Readiness()
    async with served(readiness=readiness) as client:

        async def ask(path: str) -> tuple[int, str]:
            answer = await client.get(path)
            return answer.status, await answer.text()

        assert await ask("/-/ready") == (503, "Windsock is not ready: it is starting.\n")
        readiness.ready()
        assert await ask("/-/ready") == (200, "Windsock is ready.\n")
        readiness.stopping()
        assert await ask("/-/ready") == (503, "Windsock is not ready: it is shutting down.\n")
        assert await ask("/-/healthy") == (200, "Windsock is alive.\n")


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready"])
async def test_head_is_get_without_a_body(path: str) -> None:
    """The same status and type, and the length of what GET would send."""
    async with served(two_dags()) as client:
        full = await client.get(path)
        head = await client.head(path)
        assert (head.status, head.headers["Content-Type"]) == (full.status, full.headers["Content-Type"])
        assert int(head.headers["Content-Length"]) > 0
        assert await head.read() == b""


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        (
            "GET",
            "/metric",
            404,
            "There is nothing here: look at /, /metrics, /-/healthy or /-/ready; alerts go to /webhook/alertmanager.",
        ),
        ("POST", "/metrics", 405, "POST is not possible here: use GET or HEAD."),
        ("DELETE", "/", 405, "DELETE is not possible here: use GET or HEAD."),
    ],
)
async def test_what_is_not_there_is_said_in_a_sentence(method: str, path: str, status: int, sentence: str) -> None:
    """As plain text, without markup and without what was asked for."""
    async with served() as client:
        answer = await client.request(method, path)
        assert (answer.status, await answer.text()) == (status, f"{sentence}\n")
        assert answer.content_type == "text/plain"


async def test_no_answer_tells_versions() -> None:
    """Neither of Python nor of aiohttp, not even where the request is malformed."""
    async with served() as client:
        assert (await client.get("/-/healthy")).headers["Server"] == "windsock"
        url = client._base_url
        assert url and url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", url.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert b"aiohttp" not in answer and b"Python" not in answer


async def test_an_address_that_cannot_be_had_is_named() -> None:
    """Taken, or not of this machine: a sentence with the address."""
    app = application([], configured(), WebConfig(), Readiness())
    async with listening(app, LOOPBACK, WebConfig()) as url:
        port = int(url.rpartition(":")[2])
        for address, reason in (
            (Address("127.0.0.1", port), f"cannot listen on 127.0.0.1:{port}: Address already in use"),
            (Address("192.0.2.1", 9780), "cannot listen on 192.0.2.1:9780: Cannot assign requested address"),
        ):
            with pytest.raises(OSError, match=reason):
                await _open(listening(application([], configured(), WebConfig(), Readiness()), address, WebConfig()))


async def _open(context: AbstractAsyncContextManager[str]) -> None:
    async with context:
        pass


async def test_an_idle_client_does_not_hold_up_the_end() -> None:
    """The listener closes at once though connections are kept alive."""
    app = application([], configured(), WebConfig(), Readiness(None))
    async with aiohttp.ClientSession() as client:
        async with asyncio.timeout(2):
            async with listening(app, LOOPBACK, WebConfig()) as url:
                assert (await client.get(f"{url}/-/healthy")).status == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get(f"{url}/-/healthy")


async def test_a_stalled_client_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for much and does not read it is cut off after a while."""
    monkeypatch.setattr(web, "SHUTDOWN_TIMEOUT", 0.1)
    many = Rows(name="dag_runs", rows=[Row(f"{'dag' * 20}_{number}", number) for number in range(100_000)])
    config = configured()
    app = application(await polled(many, config=config), config, WebConfig(), Readiness(None))
    async with asyncio.timeout(10), listening(app, LOOPBACK, WebConfig()) as url:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]), limit=1)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.5)
    writer.close()
