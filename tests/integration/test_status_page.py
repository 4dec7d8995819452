"""The status page: what it tells, what it never tells, and who may see it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from exporter.config import Config
from exporter.sources import SourceError
from exporter.status_page import span
from exporter.web import Readiness
from exporter.web_config import Users, WebConfig
from tests.integration.endpoint import Row, Rows, configured, served

REFUSED = "This page is not shown to everyone."


def words(page: str) -> str:
    """What a reader of the page sees."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.partition("</head>")[2]).split())


async def test_the_page_tells_how_each_collector_fares() -> None:
    """What is watched, and per collector its state, the age of its data, what it cost, and how much it is."""
    config = configured(
        celery={"broker_url": "redis://:hunter4@redis:6379/2"}, collectors={"pools": {"interval": "2m"}}
    )
    async with served(
        Rows(name="dag_runs", rows=[Row("etl", 3), Row("ml", 1)]),
        Rows(name="pools", error=SourceError("permission", "permission denied for table slot_pool")),
        Rows(name="queues", source="broker", rows=[Row("default", 7)]),
        config=config,
    ) as client:
        answer = await client.get("/")
        page = words(await answer.text())
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Airflow “prod”" in page
    assert "1 of 3 collectors cannot be read: pools." in page
    assert re.search(
        r"Metadata database PostgreSQL db:5432, database airflow dag_runs ok \d+ ms ago \d+ ms 4 15 s "
        r"pools failing never \d+ ms - 2 min permission: permission denied for table slot_pool "
        r"Celery broker Redis redis:6379, database 2 queues ok \d+ ms ago \d+ ms 2 15 s$",
        page,
    )


async def test_the_page_has_no_credentials_in_it() -> None:
    """Neither passwords nor user names of the connection URLs, wherever they are written."""
    config = configured(
        celery={"broker_url": "sentinel://:hunter4@one:26379/0;sentinel://two", "master_name": "mymaster"}
    )
    async with served(config=config) as client:
        page = await (await client.get("/")).text()
    assert "mymaster by Sentinel one:26379, two:26379, database 0" in page
    assert not re.search(r"hunter|windsock@", page)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://u:hunter@a:1,b:2/air%20flow", "PostgreSQL a:1,b:2, database air flow"),
        (
            "postgresql:///airflow?host=/run/postgresql&user=u&password=hunter",
            "PostgreSQL /run/postgresql, database airflow",
        ),
        ("postgresql://u:hunter@[::1]:5432/airflow", "PostgreSQL [::1]:5432, database airflow"),
    ],
)
async def test_the_database_is_named_without_its_credentials(url: str, place: str) -> None:
    """Several hosts, sockets and IPv6 addresses, too."""
    async with served(config=Config.model_validate({"airflow": {"database_url": url}})) as client:
        page = words(await (await client.get("/")).text())
    assert place in page and "hunter" not in page


@pytest.mark.parametrize(
    ("section", "setting", "url"),
    [
        ("airflow", "database_url_file", "postgresql://u:hunter@db/airflow"),
        ("celery", "broker_url_file", "redis://:hunter@redis/0"),
    ],
)
async def test_the_page_answers_when_a_url_file_is_gone(tmp_path: Path, section: str, setting: str, url: str) -> None:
    """It says so, instead of failing."""
    file = tmp_path / "url"
    file.write_text(url)
    config = Config.model_validate({section: {setting: file}})
    file.unlink()
    async with served(config=config) as client:
        answer = await client.get("/")
        page = words(await answer.text())
    assert answer.status == 200 and "not known: cannot read" in page and "hunter" not in page


async def test_hostile_text_stays_text() -> None:
    """An error message or a name that holds markup is shown as it is, and the page may not run or load anything."""
    hostile = """<script>alert("1")</script><img src=x onerror='alert(2)'>"""
    config = Config.model_validate({"airflow": {"name": hostile, "database_url": "postgresql://db/airflow"}})
    async with served(Rows(name="dag_runs", error=SourceError("query", hostile)), config=config) as client:
        answer = await client.get("/")
        page = await answer.text()
    assert not re.search(r"<(script|img)", page)
    assert (
        page.count("&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&lt;img src=x onerror=&#39;alert(2)&#39;&gt;") == 3
    )
    assert "default-src 'none'; style-src 'unsafe-inline'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_the_page_is_whole_by_itself() -> None:
    """It links to what is here, and needs no script, picture, font or other file."""
    async with served(Rows(name="dag_runs")) as client:
        page = await (await client.get("/")).text()
        targets = re.findall(r'href="([^"]*)"', page)
        assert {"/metrics", "/-/ready"} <= set(targets)
        assert [(await client.get(target)).status for target in targets] == [200] * len(targets)
    assert not re.search(r"<(script|link|img|iframe)|\b(src|on\w+)=|url\(|@import|http", page)


async def test_before_the_first_reads_the_page_waits() -> None:
    """It says that it is not ready and why, how many collectors are to come, and invents no numbers."""
    async with served(Rows(name="dag_runs", gate=asyncio.Event()), readiness=Readiness()) as client:
        page = words(await (await client.get("/")).text())
    assert "Not ready: it is starting." in page
    assert "1 of 1 collectors have not been read yet." in page
    assert "dag_runs waiting never - - 15 s" in page


@pytest.mark.parametrize(
    ("listen", "insecure", "access", "seen"),
    [
        ("127.0.0.1:9780", False, WebConfig(), True),
        ("[::1]:9780", False, WebConfig(), True),
        ("localhost:9780", False, WebConfig(), True),
        ("0.0.0.0:9780", False, WebConfig(), False),
        ("windsock.example.com:9780", False, WebConfig(), False),
        ("0.0.0.0:9780", True, WebConfig(), True),
        ("0.0.0.0:9780", False, WebConfig(certificates=True), True),
    ],
)
async def test_without_credentials_the_page_is_for_one_machine(
    listen: str, insecure: bool, access: WebConfig, seen: bool
) -> None:
    """Elsewhere it is refused with a sentence that says what to configure; the other paths are open to all."""
    config = configured(listen=listen, web={"insecure": insecure})
    async with served(Rows(name="dag_runs"), config=config, access=access) as client:
        answer = await client.get("/")
        text = await answer.text()
        assert (answer.status, REFUSED in text) == ((200, False) if seen else (403, True))
        assert seen or re.search(r"web\.config_file.*127\.0\.0\.1.*web\.insecure: true", text)
        for path in ("/metrics", "/-/healthy", "/-/ready"):
            assert (await client.get(path)).status == 200


async def test_with_users_configured_the_page_is_for_them() -> None:
    """On any address, and not without a password."""
    access = WebConfig(users=Users({"ann": b"$2b$04$M6pn5ZvZRgkx1nT8BGYgV.6LT9P2UPPJ2IePNcqJFaSgVGKmQFpSa"}))
    async with served(config=configured(listen="0.0.0.0:9780"), access=access) as client:
        assert (await client.get("/")).status == 401


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 ms"), (0.0123, "12 ms"), (1, "1 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (432000, "5 days")],
)
def test_spans_are_written_for_people(seconds: float, text: str) -> None:
    """In the unit that leaves a number to be read at a glance; a clock that was set back gives no negative age."""
    assert span(seconds) == text


async def test_the_page_links_to_airflow() -> None:
    """Where base_url says where that is."""
    config = Config.model_validate(
        {"airflow": {"database_url": "postgresql://db/a", "base_url": "https://af.example.com"}}
    )
    async with served(config=config) as client:
        assert '<a href="https://af.example.com">Airflow</a>' in await (await client.get("/")).text()
    async with served(config=Config.model_validate({"airflow": {"database_url": "postgresql://db/a"}})) as client:
        assert ">Airflow</a>" not in await (await client.get("/")).text()
