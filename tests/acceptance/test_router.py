"""The router as its users have it: `windsock run` between Alertmanager's webhooks and Slack, and its commands."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from exporter.daemon import FORMATS
from exporter.router import missed, store
from exporter.state import State
from tests.conftest import AirflowDatabase
from tests.proxy import PASSWORD, proxying
from windsock_demo import servers
from windsock_demo.processes import launched
from windsock_demo.slack import Order, Workspace, serve

PATIENCE = 15.0
METRICS = """
windsock_webhook_requests_total{code="200",source="alertmanager"} 4.0
windsock_webhook_requests_total{code="401",source="alertmanager"} 1.0
windsock_webhook_ack_seconds_count 4.0
windsock_alerts_received_total{source="alertmanager",status="firing"} 3.0
windsock_alerts_received_total{source="alertmanager",status="resolved"} 2.0
windsock_outbox_messages{destination="ops"} 0.0
windsock_slack_requests_total{method="chat.postMessage",result="ok"} 3.0
windsock_slack_requests_total{method="chat.update",result="ok"} 2.0
windsock_deliveries_total{destination="ops",outcome="posted"} 1.0
windsock_deliveries_total{destination="ops",outcome="updated"} 2.0
windsock_deliveries_total{destination="ops",outcome="replied"} 2.0
windsock_delivery_seconds_count 3.0
windsock_duplicates_total{kind="webhook"} 1.0
windsock_dead_letters{destination="ops"} 0.0
windsock_circuit_open{destination="ops"} 0.0
windsock_storm_active{destination="ops"} 0.0
windsock_config_last_reload_successful 1.0
"""
SECRET = "hush-hush-webhook-token"
COMMAND = [sys.executable, "-m", "exporter"]


def body(*firing: str, over: tuple[str, ...] = (), key: str = "group", severity: str = "warning") -> dict[str, Any]:
    """What Alertmanager posts of a group of DAGs that failed."""
    alerts = [
        {
            "status": status,
            "labels": {"alertname": "DagFailed", "dag_id": dag, "severity": severity},
            "annotations": {"summary": f"DAG {dag} failed"},
            "startsAt": "2026-11-20T08:00:00Z",
            "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else "2026-11-20T09:00:00Z",
            "generatorURL": "http://prometheus:9090/graph",
            "fingerprint": dag,
        }
        for status, dags in (("firing", firing), ("resolved", over))
        for dag in dags
    ]
    return {
        "version": "4",
        "groupKey": key,
        "status": "firing" if firing else "resolved",
        "receiver": "windsock",
        "groupLabels": {"alertname": "DagFailed"},
        "commonLabels": {"alertname": "DagFailed", "severity": severity},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "truncatedAlerts": 0,
        "alerts": alerts,
    }


class Daemon:
    """A daemon with a workspace, and its configuration."""

    def __init__(self, directory: Path, slack: Workspace) -> None:
        self.slack, self.directory = slack, directory
        self.url = f"http://{servers.HOST}:{servers.free_port()}"
        self.file, self.log = directory / "windsock.yml", directory / "windsock.log"
        self.settings: dict[str, Any] = {
            "listen": self.url.removeprefix("http://"),
            "airflow": {"name": "prod"},
            "state": {"dir": str(directory / "state")},
            "web": {"webhook_token_files": ["webhook-token"]},
            "slack": {"token_file": "slack-token", "api_url": slack.api_url},
            "destinations": {"ops": {"channel": slack.channel("ops").id, "pace": "10ms"}},
            "storm": {"groups": 0},
            "log": {"level": "debug"},
        }
        (directory / "webhook-token").write_text(SECRET)
        (directory / "slack-token").write_text(slack.token)
        self.configure()

    def configure(self, **settings: Any) -> None:
        """Write the file."""
        self.settings.update(settings)
        self.file.write_text(json.dumps(self.settings))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[subprocess.Popen[bytes]]:
        """The daemon, ready."""
        with launched([*COMMAND, "run", "--config", str(self.file)], self.log) as process:
            async with aiohttp.ClientSession() as self.session:
                await until(self.is_ready)
                yield process

    async def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            async with self.session.get(f"{self.url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def post(self, content: dict[str, Any], token: str = SECRET) -> int:
        """The status of the answer to a webhook."""
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.post(f"{self.url}/webhook/alertmanager", json=content, headers=headers) as response:
            return response.status

    async def reload(self) -> tuple[int, str]:
        """What `POST /-/reload` answers."""
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with self.session.post(f"{self.url}/-/reload", headers=headers) as response:
            return response.status, await response.text()

    async def get(self, path: str) -> str:
        """A page."""
        async with self.session.get(self.url + path) as response:
            return await response.text()

    async def is_recent(self, sample: str) -> bool:
        """Whether there is this sample, with a time of a moment ago for `now`."""
        pattern = f"^{re.escape(sample).replace('now', '([0-9.e+]+)')}$"
        found = re.search(pattern, await self.get("/metrics"), re.MULTILINE)
        return found is not None and abs(float(found[1]) - time.time()) < PATIENCE

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command beside it."""
        return subprocess.run(
            [*COMMAND, *arguments, "--config", str(self.file)], capture_output=True, text=True, timeout=30, check=False
        )

    def texts(self, channel: str = "ops") -> list[str]:
        """What Slack shows."""
        return [str(message.content["text"]) for message in self.slack.messages(channel)]


async def until(holds: Callable[[], Any]) -> None:
    """Returns once it holds; fails when it does not in time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = holds()
        if await found if asyncio.iscoroutine(found) else found:
            return
        await asyncio.sleep(0.05)
    pytest.fail("it did not come to hold")


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """Not yet running."""
    async with serve(Workspace("ops", "data", pace=None)) as slack:
        yield Daemon(tmp_path, slack)


async def test_a12_one_message_from_red_to_green(daemon: Daemon) -> None:
    """An alert arrives, is joined by another, and both are over: one message, edited twice, with the duration."""
    async with daemon.running():
        assert await daemon.post(body("etl"), token="another") == 401
        assert await daemon.post(body("etl")) == 200
        await until(lambda: len(daemon.texts()) == 1)
        assert re.search("prod.*DAG etl failed", daemon.texts()[0])
        assert await daemon.post(body("etl", "report")) == 200
        assert await daemon.post(body("etl", "report")) == 200
        await until(lambda: "2 firing" in daemon.texts()[0])
        (message,) = daemon.slack.messages("ops")
        await until(lambda: len(daemon.slack.replies("ops", message.ts)) == 1)
        assert await daemon.post(body(over=("etl", "report"))) == 200
        await until(lambda: "RESOLVED" in daemon.texts()[0])
        assert len(daemon.texts()) == 1
        assert "after 60 min" in daemon.texts()[0] or "after 1 h" in daemon.texts()[0]
        assert daemon.slack.messages("ops")[0].edited

        assert await daemon.is_recent("windsock_config_last_reload_success_timestamp_seconds now")

        async def all_is_counted() -> bool:
            found = await daemon.get("/metrics")
            return all(line in found.splitlines() for line in METRICS.split("\n") if line)

        await until(all_is_counted)


@pytest.mark.parametrize(("version", "page"), [("2.11", "/dags/etl/grid"), ("3.3", "/dags/etl")])
async def test_links_lead_to_the_airflow_that_is_watched(
    daemon: Daemon, airflow_database: Callable[..., AirflowDatabase], version: str, page: str
) -> None:
    """Its grid is elsewhere in Airflow 2 than in Airflow 3; which one it is, the database tells."""
    base_url = "https://airflow.example.com"
    airflow = {"name": "prod", "base_url": base_url, "database_url": airflow_database(version).reader_url}
    daemon.configure(airflow=airflow)
    async with daemon.running():

        async def is_known() -> bool:
            return "airflow_db_schema_info{" in await daemon.get("/metrics")

        await until(is_known)
        assert await daemon.post(body("etl")) == 200
        await until(daemon.texts)
    assert f"<{base_url}{page}|Airflow>" in json.dumps(daemon.slack.messages("ops")[0].content)


async def test_slack_behind_a_proxy(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages go through its tunnel, within TLS: it learns no token, and its password stays out of logs and pages."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("slack.test").configure_cert(context)
    authority.cert_pem.write_to_path(daemon.directory / "ca.pem")
    daemon.configure(slack={"token_file": "slack-token", "api_url": "https://slack.test/api"})
    for name in ("https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with proxying(daemon.slack.url, context) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url(f"{PASSWORD}-old"))
        monkeypatch.setenv("SSL_CERT_FILE", str(daemon.directory / "ca.pem"))
        async with daemon.running():
            for group in range(5):
                assert await daemon.post(body("etl", key=str(group))) == 200

            async def it_is_said() -> bool:
                return "cannot connect: the proxy says 407" in await daemon.get("/")

            await until(it_is_said)
            told = await daemon.get("/") + await daemon.get("/metrics")
        assert daemon.texts() == []
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        async with daemon.running():
            await until(lambda: len(daemon.texts()) == 5)
    assert all(head.startswith("CONNECT slack.test:443 ") and daemon.slack.token not in head for head in proxy.heads)
    assert PASSWORD not in told + daemon.log.read_text()


@pytest.mark.system
async def test_what_was_acknowledged_survives_kill_9(daemon: Daemon) -> None:
    """With Slack away, 200 is a promise: after a kill and a new start the newest state is shown, once."""
    daemon.slack.order(Order(status=503, times=0))
    async with daemon.running() as process:
        assert await daemon.post(body("etl")) == 200
        assert await daemon.post(body("etl", "report")) == 200

        async def it_is_told() -> bool:
            return await daemon.is_recent('windsock_outbox_oldest_timestamp_seconds{destination="ops"} now')

        await until(it_is_told)
        process.kill()
        process.wait()
    daemon.slack.orders.clear()
    async with daemon.running():
        await until(lambda: len(daemon.texts()) == 1)
    assert "2 firing" in daemon.texts()[0]


@pytest.mark.system
async def test_a17_reloads_under_load(daemon: Daemon) -> None:
    """A hundred, by signal and by request: no webhook fails, a bad file changes nothing, a good one routes anew."""
    answers: list[int] = []
    async with daemon.running() as process:
        over = asyncio.Event()

        async def load() -> None:
            for number in range(10_000):
                if over.is_set():
                    return
                answers.append(await daemon.post(body("etl", key=f"load {number}")))

        posting = asyncio.create_task(load())
        daemon.file.write_text("routes: [{to: [nowhere]}]")
        for _ in range(50):
            process.send_signal(signal.SIGHUP)
            status, text = await daemon.reload()
            assert (status, "routes.0.to.0: there is no such destination" in text) == (500, True), text
        await until(lambda: len(answers) > 50)
        assert "windsock_config_last_reload_successful 0" in await daemon.get("/metrics")
        channels = {name: {"channel": daemon.slack.channel(name).id, "pace": "10ms"} for name in ("ops", "data")}
        daemon.configure(
            destinations=channels, routes=[{"match": ["severity=critical"], "to": ["data"]}, {"to": ["ops"]}]
        )
        for _ in range(50):
            assert await daemon.reload() == (200, "The configuration was read.\n")
        over.set()
        await posting
        assert set(answers) == {200}
        assert await daemon.post(body("etl", severity="critical")) == 200
        await until(lambda: daemon.texts("data"))
        assert "windsock_config_last_reload_successful 1" in await daemon.get("/metrics")


@pytest.mark.system
async def test_a22_a_stop_under_load_loses_nothing(daemon: Daemon) -> None:
    """SIGTERM while webhooks come and Slack is slow: it ends in time, and what was acknowledged is shown after all."""
    daemon.slack.order(Order(delay=0.5, times=3))
    acknowledged: set[str] = set()
    async with daemon.running() as process:

        async def load() -> None:
            for number in range(200):
                try:
                    if await daemon.post(body(f"dag_{number}", key=str(number))) == 200:
                        acknowledged.add(f"dag_{number}")
                except aiohttp.ClientError:
                    return

        posting = asyncio.create_task(load())
        await until(lambda: len(acknowledged) > 20)
        started = time.monotonic()
        process.terminate()
        assert await asyncio.to_thread(process.wait, 15) == 0
        assert time.monotonic() - started < 15
        await posting
    async with daemon.running():
        await until(lambda: all(any(dag + " failed" in text for text in daemon.texts()) for dag in acknowledged))
    assert len(daemon.texts()) == len(set(daemon.texts()))


@pytest.mark.system
async def test_a16_a_failing_template(daemon: Daemon) -> None:
    """The built-in text stands in for it, and that is counted."""
    daemon.configure(templates={"headline": "{{ 1 // (firing - 1) if labels.get('severity') == 'odd' else 'fine' }}"})
    async with daemon.running():
        assert await daemon.post(body("etl", severity="odd")) == 200
        await until(lambda: len(daemon.texts()) == 1)
        assert "DAG etl failed" in daemon.texts()[0]
        assert 'windsock_template_failures_total{slot="headline"} 1.0' in await daemon.get("/metrics")


@pytest.mark.system
async def test_dead_letters_are_listed_retried_and_dropped(daemon: Daemon) -> None:
    """By command, with the daemon running or not: what Slack refuses at every level of its looks is kept."""
    daemon.slack.order(Order(error="invalid_blocks", times=0))
    async with daemon.running():
        assert await daemon.post(body("etl")) == 200

        async def is_given_up() -> bool:
            return 'windsock_dead_letters{destination="ops"} 1' in await daemon.get("/metrics")

        await until(is_given_up)
        assert "Not all messages arrive at ops." in await daemon.get("/")
        listed = daemon.command("dead-letters", "list").stdout
        assert re.search(r"ops +invalid_blocks, DagFailed", listed)
        daemon.slack.orders.clear()
        assert daemon.command("dead-letters", "retry").stdout == "1 messages wait again\n"
        await until(lambda: len(daemon.texts()) == 1)
    assert daemon.command("dead-letters", "list").stdout.count("\n") == 1
    assert daemon.command("dead-letters", "drop").stdout == "0 messages dropped\n"


@pytest.mark.system
async def test_a18_no_secret_is_told(daemon: Daemon) -> None:
    """Neither token appears in a log at debug, in metrics, on the page, in dead letters, or in the state file."""
    daemon.slack.order(Order(error="invalid_auth", times=1))
    daemon.slack.order(Order(error="invalid_blocks", times=0))
    async with daemon.running():
        assert await daemon.post(body("etl")) == 200
        assert await daemon.post(body("etl"), token="xoxb-wrong-token-of-somebody") == 401
        (daemon.directory / "slack-token").unlink()
        await asyncio.sleep(2)
        pages = [await daemon.get("/metrics"), await daemon.get("/")]
    pages += [daemon.command("dead-letters", "list").stdout, daemon.log.read_text()]
    pages += [path.read_bytes().decode("latin-1") for path in (daemon.directory / "state").iterdir()]
    for secret in (SECRET, daemon.slack.token, "xoxb-wrong-token-of-somebody"):
        assert not [page for page in pages if secret in page]


@pytest.mark.system
async def test_a18_no_secret_of_an_upstream_is_told(daemon: Daemon) -> None:
    """Nor is an incoming webhook's or the heartbeat's address, or another's token, while all who get them fail.

    What they answer has them in it, too.
    """
    secrets = {name: f"hush-{name}" for name in ("alertmanager", "prometheus", "heartbeat", "wrong")}
    secrets["webhook"] = daemon.slack.hook_secret(daemon.slack.channel("ops"))
    heads: list[str] = []

    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(head := (await reader.readuntil(b"\r\n\r\n")).decode())
        reason = "no" if len(heads) % 2 else "x\r\nX y z"  # what is no HTTP at all makes another error
        writer.write(f"HTTP/1.1 500 {reason}\r\nContent-Length: {len(head)}\r\n\r\n{head}".encode())
        writer.close()

    for name in ("alertmanager", "prometheus"):
        (daemon.directory / f"{name}-token").write_text(secrets[name])
    daemon.slack.order(Order(method="webhook", status=500, body="oops"))
    daemon.slack.order(Order(method="webhook", error="invalid_blocks", times=0))
    server = await asyncio.start_server(fail, servers.HOST, 0)
    url = f"http://{servers.HOST}:{server.sockets[0].getsockname()[1]}"
    daemon.configure(
        destinations={
            "bot": {"channel": daemon.slack.channel("data").id},
            "ops": {"webhook_url": daemon.slack.webhook_url("ops"), "pace": "10ms"},
            "away": {"webhook_url": f"http://{servers.HOST}:{servers.free_port()}/{secrets['webhook']}"},
        },
        routes=[{"to": ["ops", "away"]}],
        heartbeat_url=f"{url}/{secrets['heartbeat']}",
        alertmanagers=[url],
        alertmanager_token_file="alertmanager-token",
        prometheus_url=url,
        prometheus_token_file="prometheus-token",
    )
    state = State(daemon.directory / "state")
    assert await state.open(FORMATS) is None
    await state.run(partial(store.live, now=time.time() - 3600))  # Prometheus is asked after it was down
    await state.close()
    async with server, daemon.running():
        assert await daemon.post(body("etl")) == 200
        await asyncio.sleep(missed.SETTLE)

        async def all_fail() -> bool:
            page = await daemon.get("/metrics")
            failed = 'windsock_upstream_requests_total{result="failed",upstream="%s"} '
            given_up = 'windsock_dead_letters{destination="ops"} 1' in page
            return given_up and all(failed % name in page for name in ("alertmanager", "prometheus", "heartbeat"))

        await until(all_fail)
        pages = [await daemon.get("/metrics"), await daemon.get("/"), daemon.command("dead-letters", "list").stdout]
        daemon.configure(heartbeat_url=f"ftp://{secrets['wrong']}")
        status, problems = await daemon.reload()
        assert (status, "heartbeat_url: must be" in problems) == (500, True)
    given = "".join(heads)
    assert all(secrets[name] in given for name in ("alertmanager", "prometheus", "heartbeat"))
    assert "invalid_blocks" in pages[2] and "cannot connect" in pages[1]
    pages += [problems, daemon.command("check").stderr, daemon.log.read_text()]
    pages += [path.read_bytes().decode("latin-1") for path in (daemon.directory / "state").iterdir()]
    assert [name for name, secret in secrets.items() for page in pages if secret in page] == []


@pytest.mark.system
async def test_the_probe_asks_slack(daemon: Daemon) -> None:
    """Nothing is posted; a token that is no longer good is told by its error, and 1."""
    good = await asyncio.to_thread(daemon.command, "check", "--probe")
    assert (good.returncode, good.stdout.splitlines()[-1]) == (0, "destination ops: Slack accepts its credential")
    del daemon.slack.tokens[daemon.slack.token]
    bad = await asyncio.to_thread(daemon.command, "check", "--probe")
    assert (bad.returncode, bad.stdout.splitlines()[-1]) == (1, "destination ops: invalid_auth")
    assert not daemon.texts()


@pytest.mark.system
def test_route_and_render(tmp_path: Path) -> None:
    """They say where an alert would go, and what Slack would be asked, without asking anybody."""
    file, payload = tmp_path / "windsock.yml", tmp_path / "payload.json"
    file.write_text(
        "slack: {token: xoxb-1}\ndestinations: {ops: {channel: C1}, data: {channel: C2}}\n"
        "routes: [{match: ['team=~\"data|ml\"'], to: [data], mention: '<!here>', continue: true}, {to: [ops]}]\n"
    )
    payload.write_text(json.dumps(body("etl")))

    def windsock(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, *arguments, "--config", str(file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env={**os.environ})

    assert windsock("route", "expr=a=b", "team=ml", "empty=").stdout == "data  <!here>\nops\n"
    assert windsock("route").stdout == "ops\n"
    assert windsock("route", "--receiver", "data").stdout == "data\n"
    for word in ("team", "=critical"):
        assert (bad := windsock("route", word)).returncode == 2
        assert f" {word}: must be a label, such as severity=critical\n" in bad.stderr
    rendered = windsock("render", str(payload))
    (shown,) = json.loads(rendered.stdout)
    assert (rendered.returncode, shown["destination"], shown["violations"]) == (0, "ops", [])
    assert "DAG etl failed" in shown["request"]["text"]
    payload.write_text("{")
    assert (bad := windsock("render", str(payload))).returncode == 2
    assert bad.stderr.startswith(f"windsock: {payload}: This is no Alertmanager's webhook")


def test_only_one_half(tmp_path: Path) -> None:
    """What is left must be something: a router without destinations is an error with a sentence."""
    environ = {**os.environ, "WINDSOCK_AIRFLOW__DATABASE_URL": "postgresql://windsock@127.0.0.1:1/airflow"}
    command = [*COMMAND, "run", "--only", "router"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environ)
    assert found.returncode == 2
    assert "--only router: there is nothing to do without destinations" in found.stderr
