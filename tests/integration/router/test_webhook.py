"""Webhooks over real HTTP into the real store: what is answered, and what is on disk then."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import aiohttp
import bcrypt
import msgspec
import pytest

from exporter import web, webhook
from exporter.config import Config
from exporter.daemon import FORMATS
from exporter.relay import Relay
from exporter.router import store, watchdogs
from exporter.router.model import KEPT, Snapshot, parse
from exporter.state import FILE, State
from exporter.telemetry import REGISTRY, WEBHOOK_REQUESTS
from exporter.web import Readiness, application, listening
from exporter.web_config import Users, WebConfig
from exporter.webhook import PATH
from tests.integration.endpoint import LOOPBACK

PAYLOADS = Path(__file__).parent / "payloads"
JSON = {"Content-Type": "application/json"}
GOOD = (PAYLOADS / "alertmanager-0.34-firing.json").read_bytes()


def configured(**settings: object) -> Config:
    """Two destinations, of which `ops` gets what no route takes."""
    router = {
        "slack": {"token": "xoxb-1"},
        "destinations": {"data": {"channel": "C1"}, "ops": {"channel": "C2"}},
        "routes": [{"match": ['team="data"'], "to": ["data"]}, {"to": ["ops"]}],
    }
    return Config.model_validate({**router, **settings})


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[State]:
    """A state file with the router's tables."""
    state = State(tmp_path / "state")
    assert await state.open(FORMATS) is None
    yield state
    await state.close()


@asynccontextmanager
async def served(
    state: State, config: Config | None = None, access: WebConfig | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the endpoint, which sends no more than it is told."""
    config = config or configured()
    access = access or WebConfig()
    app = application([], config, access, Readiness(None), Relay(config, access, state, lambda: config))
    async with listening(app, LOOPBACK, WebConfig()) as url, aiohttp.ClientSession(url) as client:
        yield client


async def post(client: aiohttp.ClientSession, body: bytes = GOOD, headers: Mapping[str, str] = JSON) -> tuple[int, str]:
    """The status and the sentence of the answer, without its newline."""
    async with client.post(PATH, data=BytesIO(body), headers=headers) as response:
        text = await response.text()
        assert text.endswith("\n")
        assert response.status in webhook.CODES["alertmanager"]
        return response.status, text[:-1]


async def stored(state: State) -> dict[str, Snapshot]:
    """The newest snapshot of each group, by its key."""
    rows = await state.run(lambda connection: connection.execute("SELECT snapshot FROM router_group").fetchall())
    snapshots = [msgspec.json.decode(row[0], type=Snapshot) for row in rows]
    return {snapshot.key: snapshot for snapshot in snapshots}


async def reached(state: State) -> list[str]:
    """The destinations for which there is a message, sorted."""
    rows = await state.run(lambda connection: connection.execute("SELECT destination FROM router_message").fetchall())
    return sorted(row[0] for row in rows)


def counted(name: str, **labels: str) -> float:
    """The value of one of the daemon's own series."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_every_answer_is_counted_from_zero(state: State) -> None:
    """Prometheus sees no increase in a series that begins at 1: the first refusal would raise nothing."""
    WEBHOOK_REQUESTS.clear()
    async with served(state) as client:
        async with client.get("/metrics") as response:
            shown = (await response.text()).splitlines()
        for source, codes in webhook.CODES.items():
            for code in codes:
                assert f'windsock_webhook_requests_total{{code="{code}",source="{source}"}} 0.0' in shown


async def test_what_is_answered_200_is_on_disk(state: State, tmp_path: Path) -> None:
    """Another process sees it as soon as the answer is there; it goes where its labels lead."""
    async with served(state) as client:
        assert await post(client) == (200, "stored")
        with sqlite3.connect(f"file:{tmp_path}/state/{FILE}?mode=ro", uri=True) as beside:
            (text,) = beside.execute("SELECT snapshot FROM router_group").fetchone()
        beside.close()
    snapshot = msgspec.json.decode(text, type=Snapshot)
    assert (snapshot.firing, snapshot.receiver) == (2, "slack.dag+team(1) x")
    assert abs(snapshot.received - time.time()) < 30
    assert await reached(state) == ["data"]


async def test_a_retry_and_the_other_of_a_pair_are_duplicates(state: State) -> None:
    """They are answered 200, counted, and store nothing."""
    before = counted("windsock_duplicates_total", kind="webhook")
    alerts = counted("windsock_alerts_received_total", source="alertmanager", status="firing")
    async with served(state) as client:
        assert await post(client) == (200, "stored")
        assert await post(client) == (200, "duplicate")
        assert await post(client, GOOD.replace(b"alertmanager.example", b"am-1.example")) == (200, "duplicate")
    assert counted("windsock_duplicates_total", kind="webhook") == before + 2
    assert counted("windsock_alerts_received_total", source="alertmanager", status="firing") == alerts + 2
    (snapshot,) = (await stored(state)).values()
    assert snapshot.external_url == "http://alertmanager.example.com:9093"


async def test_a_watchdog_goes_no_further(state: State) -> None:
    """It is on disk when it was heard, and is neither stored, counted nor told; what comes with it is."""
    watchdogs = [{"match": ['alertname="Watchdog"'], "every": "5m"}]
    told = json.loads(GOOD)
    dog = {**told["alerts"][0], "labels": {"alertname": "Watchdog"}, "fingerprint": "0" * 16}
    alerts = counted("windsock_alerts_received_total", source="alertmanager", status="firing")
    async with served(state, configured(watchdogs=watchdogs)) as client:
        assert await post(client, json.dumps(told | {"alerts": [dog]}).encode()) == (200, "There is no alert in it.")
        assert await stored(state) == {}
        heard = await state.run(partial(store.heard, kind=store.WATCHDOG))
        assert abs(heard['alertname="Watchdog"'] - time.time()) < 30
        assert await post(client, json.dumps(told | {"alerts": [dog, *told["alerts"]]}).encode()) == (200, "stored")
    (snapshot,) = (await stored(state)).values()
    assert [alert.fingerprint for alert in snapshot.alerts] == [alert["fingerprint"] for alert in told["alerts"]]
    assert counted("windsock_alerts_received_total", source="alertmanager", status="firing") == alerts + 2


@pytest.mark.parametrize("name", sorted(path.stem for path in PAYLOADS.glob("*.json")))
async def test_a25_every_recorded_body(state: State, name: str) -> None:
    """Those of real Alertmanagers and of what imitates them are stored; what no Alertmanager sends is 400."""
    body = (PAYLOADS / f"{name}.json").read_bytes()
    async with served(state) as client:
        status, sentence = await post(client, body)
        if name in ("made-payload-template", "made-vmalert-api"):
            assert (status, await stored(state)) == (400, {})
            assert "its receiver must not set `payload`" in sentence
            return
        assert (status, sentence) == (200, "stored")
    told = json.loads(body)
    (snapshot,) = (await stored(state)).values()
    assert snapshot.key == told["groupKey"]
    assert snapshot.firing + snapshot.resolved == len(told["alerts"])
    assert snapshot.status == ("firing" if told["truncatedAlerts"] else told["status"])


@pytest.mark.parametrize("version", ["0.25", "0.33", "0.34"])
async def test_a20_a_truncated_resolved_leaves_a_group_firing(state: State, version: str) -> None:
    """After the alerts fired, Alertmanager says `resolved` while the one that it cut still fires."""
    cut = json.loads((PAYLOADS / f"alertmanager-{version}-truncated.json").read_bytes())
    assert (cut["status"], cut["truncatedAlerts"]) == ("resolved", 1)
    firing = {"status": "firing", "endsAt": "0001-01-01T00:00:00Z"}
    before = cut | {"status": "firing", "alerts": [alert | firing for alert in cut["alerts"]]}
    async with served(state) as client:
        assert await post(client, json.dumps(before).encode()) == (200, "stored")
        assert await post(client, json.dumps(cut).encode()) == (200, "stored")
    (snapshot,) = (await stored(state)).values()
    assert (snapshot.resolved, snapshot.status) == (3, "firing")


async def test_a_body_without_alerts_is_not_stored(state: State) -> None:
    """There is nothing to tell."""
    async with served(state) as client:
        assert await post(client, b'{"alerts": []}') == (200, "There is no alert in it.")
    assert await stored(state) == {}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        *(({**JSON, "Content-Encoding": coding}, 415) for coding in ("gzip", "deflate", "br", "identity", "x")),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({}, 415),
    ],
)
async def test_what_is_no_plain_json_is_415(state: State, headers: dict[str, str], status: int) -> None:
    """Whatever the body is; a page in a browser cannot send JSON to another site without asking first."""
    async with served(state) as client:
        async with client.post(PATH, data=GOOD, headers=headers, skip_auto_headers=["Content-Type"]) as response:
            assert response.status == status
        assert await post(client) == (200, "duplicate" if status == 200 else "stored")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_405(state: State, method: str) -> None:
    """Else a redirect on the way, which makes a POST a GET, would look like success to Alertmanager."""
    async with served(state) as client, client.request(method, PATH) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_nothing_is_redirected(state: State) -> None:
    """A wrong path is 404, with or without a slash."""
    async with served(state) as client:
        for path in (f"{PATH}/", PATH.upper(), "/webhook"):
            async with client.post(path, data=GOOD, headers=JSON, allow_redirects=False) as response:
                assert response.status == 404


TOKENS = {"first": "t0ken-one", "second": "t0ken-two"}


def basic(user: str, password: str) -> str:
    """The header's value."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.fixture
def tokens(tmp_path: Path) -> list[Path]:
    """Files with a token each."""
    for name, token in TOKENS.items():
        (tmp_path / name).write_text(f"{token}\n")
    return [tmp_path / name for name in TOKENS]


ANYBODY = (None, "Bearer x", basic("x", "y"))


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer t0ken-one", 200),
        ("bearer t0ken-two", 200),
        (basic("x", "t0ken-one"), 200),
        (basic("", "t0ken-two"), 200),
        (basic("ann", "right"), 200),
        (basic("ann", "wrong"), 401),
        (basic("t0ken-one", ""), 401),
        (basic("t0ken-one", "x"), 401),
        ("Bearer t0ken-on", 401),
        ("Bearer t0ken-one2", 401),
        ("Bearer ann:right", 401),
        ("Bearer ", 401),
        ("Bearer", 401),
        ("t0ken-one", 401),
        ("Token t0ken-one", 401),
        ("Basic t0ken-one", 401),
        ("Basic", 401),
        ("Bearer \udcff", 401),
        (None, 401),
    ],
)
async def test_credentials(state: State, tokens: list[Path], authorization: str | None, status: int) -> None:
    """A token is a Bearer's or any user's password; users of the web configuration may post, too; others may not."""
    users = Users({"ann": bcrypt.hashpw(b"right", bcrypt.gensalt(4))})
    config = configured(web={"webhook_token_files": tokens, "insecure": True})
    header = {"Authorization": authorization} if authorization is not None else {}
    async with (
        served(state, config, WebConfig(users=users)) as client,
        client.post(PATH, data=GOOD, headers={**JSON, **header}) as response,
    ):
        assert response.status == status
        assert ("WWW-Authenticate" in response.headers) == (status == 401)
        assert "t0ken" not in await response.text()
    assert len(await stored(state)) == (status == 200)


@pytest.mark.parametrize(
    ("listen", "web", "access", "status"),
    [
        ("127.0.0.1:9780", {}, WebConfig(), 200),
        ("[::1]:9780", {}, WebConfig(), 200),
        ("0.0.0.0:9780", {}, WebConfig(), 403),
        ("10.0.0.1:9780", {}, WebConfig(), 403),
        ("0.0.0.0:9780", {"insecure": True}, WebConfig(), 200),
        ("0.0.0.0:9780", {}, WebConfig(certificates=True), 200),
        ("0.0.0.0:9780", {}, WebConfig(users=Users({"ann": b""})), 401),
    ],
)
async def test_without_tokens(
    state: State, listen: str, web: dict[str, object], access: WebConfig, status: int
) -> None:
    """Anybody may post where only this machine can, or where that is said; elsewhere a sentence says what to do."""
    async with served(state, configured(listen=listen, web=web), access) as client:
        found, sentence = await post(client)
        assert found == status
        assert ("web.webhook_token_files" in sentence) == (status in (401, 403))


async def test_client_certificates_do_not_replace_a_token(state: State, tokens: list[Path]) -> None:
    """Where both are configured both are wanted."""
    config = configured(listen="0.0.0.0:9780", web={"webhook_token_files": tokens})
    async with served(state, config, WebConfig(certificates=True)) as client:
        assert (await post(client))[0] == 401


async def test_tokens_are_read_again_when_they_change(
    state: State, tokens: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    """By the next request; while a file cannot be read, the token that it held stays, and one line says so."""
    first, _ = tokens
    async with served(state, configured(web={"webhook_token_files": tokens})) as client:

        async def status(token: str) -> int:
            return (await post(client, GOOD, {**JSON, "Authorization": f"Bearer {token}"}))[0]

        assert await status("t0ken-one") == 200
        fresh = first.with_name("fresh")
        fresh.write_text("t0ken-new")
        fresh.replace(first)
        assert (await status("t0ken-one"), await status("t0ken-new"), await status("t0ken-two")) == (401, 200, 200)
        for content in (None, "", "two words"):
            first.unlink(missing_ok=True)
            if content is not None:
                first.write_text(content)
            caplog.clear()
            assert (await status("t0ken-new"), await status("t0ken-new"), await status("")) == (200, 200, 401)
            assert [it.message for it in caplog.records] == [
                "webhook token cannot be read, the old one stays",
                "webhook refused",
            ]
            assert not any(secret in str(vars(it)) for it in caplog.records for secret in ("t0ken", "two words"))


async def test_what_cannot_be_stored_is_503(tmp_path: Path) -> None:
    """Alertmanager tries again then; the sentence says why."""
    closed = State(tmp_path / "closed")
    before = counted("windsock_webhook_requests_total", source="alertmanager", code="503")
    async with served(closed) as client:
        assert await post(client) == (503, "It cannot be stored now: the state file is not open. Try again.")
    await closed.close()
    assert counted("windsock_webhook_requests_total", source="alertmanager", code="503") == before + 1
    small = State(tmp_path / "small", max_size=200_000)
    assert await small.open(FORMATS) is None
    async with served(small) as client:
        told, number = json.loads(GOOD), 0
        while (answer := await post(client, json.dumps(told | {"groupKey": f"{number}"}).encode())) == (200, "stored"):
            number += 1
        assert answer[0] == 503 and answer[1].startswith("It cannot be stored now: ")
        assert len(await stored(small)) == number > 10
    await small.close()


async def test_a_body_that_is_too_large_is_413_and_a_message(state: State) -> None:
    """With or without its length said before; one message, to where everything goes that matches nothing.

    It is over once no body was refused for an hour.
    """

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b" " * 65536

    async with served(state, configured(web={"max_body": "1MiB"})) as client:
        assert await post(client, b" " * 1_048_577) == (
            413,
            "The body is refused: it may have 1 MB (web.max_body), and has 1 MB. Group by more, or allow more.",
        )
        (first,) = (await stored(state)).values()
        async with client.post(PATH, data=pieces(), headers=JSON) as response:
            assert response.status == 413
        (second,) = (await stored(state)).values()
        assert await post(client, GOOD + b" " * (1_048_576 - len(GOOD))) == (200, "stored")
    assert (first.source, first.key, first.status) == ("windsock", second.key, "firing")
    assert second.alerts[0].annotations["summary"] == (
        "There are alerts that are not shown. "
        "The body is refused: it may have 1 MB (web.max_body), and has more. Group by more, or allow more."
    )
    assert await reached(state) == ["data", "ops"]
    for seconds, status in ((3599.0, "firing"), (3600.0, "resolved")):
        await state.run(partial(watchdogs.look, config=configured(), now=second.received + seconds))
        assert (await stored(state))[second.key].status == status


async def connection(client: aiohttp.ClientSession) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection for what no client would send."""
    assert client._base_url and client._base_url.host
    return await asyncio.open_connection(client._base_url.host, client._base_url.port)


HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


async def test_a_body_that_does_not_come_is_503(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """What trickles in is given up after a while; what ends too early, or is no chunk, is 400."""
    monkeypatch.setattr(webhook, "READ_TIMEOUT", 0.3)
    before = counted("windsock_webhook_requests_total", source="alertmanager", code="400")
    async with served(state) as client:
        reader, writer = await connection(client)
        writer.write(f"{HEAD}Content-Length: 1000\r\n\r\n".encode())
        started = time.monotonic()
        answer = asyncio.create_task(reader.readuntil(b"\r\n"))
        while not answer.done():
            writer.write(b" ")
            await asyncio.sleep(0.05)
        assert b" 503 " in answer.result()
        assert 0.25 < time.monotonic() - started < 3
        writer.close()
        reader, writer = await connection(client)
        writer.write(f"{HEAD}Transfer-Encoding: chunked\r\n\r\nnonsense\r\n".encode())
        assert b" 400 " in await reader.readuntil(b"\r\n")
        writer.close()
        reader, writer = await connection(client)
        writer.write(f"{HEAD}Content-Length: 1000\r\n\r\n {{".encode())
        await writer.drain()
        writer.close()
        async with asyncio.timeout(5):
            while counted("windsock_webhook_requests_total", source="alertmanager", code="400") == before:
                await asyncio.sleep(0.02)
        assert await post(client) == (200, "stored")


async def test_a19_a_head_that_does_not_come(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is closed after a while, though a sign of it still comes now and then."""
    monkeypatch.setattr(web, "IDLE", 0.3)
    async with served(state) as client, asyncio.timeout(10):
        reader, writer = await connection(client)
        writer.write(f"{HEAD}X-Slow: ".encode())
        answer = asyncio.create_task(reader.read())
        while not answer.done():
            writer.write(b"x")
            await asyncio.sleep(0.05)
        with suppress(ConnectionError):
            assert await answer == b""
        writer.close()


async def test_four_large_bodies_at_once(state: State) -> None:
    """A fifth waits for its turn, small ones do not."""
    large = GOOD + b" " * 1_500_000
    async with served(state) as client:
        slow = [await connection(client) for _ in range(4)]
        for _, writer in slow:
            writer.write(f"{HEAD}Content-Length: {len(large)}\r\n\r\n".encode())
            await writer.drain()
        await asyncio.sleep(0.1)
        fifth = asyncio.create_task(post(client, large))
        assert await post(client) == (200, "stored")
        await asyncio.sleep(0.3)
        assert not fifth.done()
        reader, writer = slow[0]
        writer.write(large)
        assert b" 200 " in await reader.readuntil(b"\r\n")
        assert await fifth == (200, "duplicate")
        for _, writer in slow:
            writer.close()


async def test_a10_a_large_body_holds_nobody_up(state: State) -> None:
    """20,000 alerts: all are counted, 500 kept; the loop turns while they are read, which takes long."""
    alert = json.loads(GOOD)["alerts"][0]
    alerts = [{**alert, "fingerprint": f"{number:016x}"} for number in range(20_000)]
    body = json.dumps(json.loads(GOOD) | {"alerts": alerts}).encode()
    parsing = asyncio.create_task(asyncio.to_thread(parse, body, 0.0))
    turns = 0
    while not parsing.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 5
    async with served(state) as client:
        assert await post(client, body) == (200, "stored")
    (snapshot,) = (await stored(state)).values()
    assert (snapshot.firing, len(snapshot.alerts), len(snapshot.fingerprints)) == (20_000, KEPT, 20_000 - KEPT)


async def test_a_watchdog_is_heard_whatever_else_is_told(state: State) -> None:
    """Also in a group of which only so many alerts are kept, all of them worse."""
    alert, dog = json.loads(GOOD)["alerts"][0], {"alertname": "Watchdog", "severity": "none"}
    alerts = [{**alert, "fingerprint": f"{number:016x}"} for number in range(KEPT + 1)]
    body = json.loads(GOOD) | {"alerts": [*alerts, {**alert, "fingerprint": "dog", "labels": dog}]}
    async with served(state, configured(watchdogs=[{"match": ["alertname=Watchdog"]}])) as client:
        assert await post(client, json.dumps(body).encode()) == (200, "stored")
    assert len(await state.run(partial(store.heard, kind=store.WATCHDOG))) == 1
    (snapshot,) = (await stored(state)).values()
    assert (snapshot.firing, len(snapshot.fires), "dog" in snapshot.fires) == (KEPT + 1, KEPT + 1, False)


SERVER = """
import asyncio, sys
from exporter import webhook
from tests.integration.router.test_webhook import *

async def main(directory):
    webhook.READ_TIMEOUT = 1.0
    state = State(directory)
    assert await state.open(FORMATS) is None
    async with served(state, configured(web={"max_body": "16MiB"})) as client:
        print(client._base_url.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


@dataclass
class Attacked:
    """An endpoint in a process of its own, with a limit of 16 MiB and a second for a body."""

    process: asyncio.subprocess.Process
    port: int

    def most(self) -> float:
        """The most memory that it ever had, in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) / 1000

    async def answer(self, head: str, pieces: Iterable[bytes], pause: float = 0.0) -> int:
        """The status of what it answers, as soon as it does."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"{HEAD}{head}\r\n\r\n".encode())
        answer = asyncio.create_task(reader.readuntil(b"\r\n"))
        for piece in pieces:
            if answer.done():
                break
            writer.write(piece)
            with suppress(ConnectionError):
                await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(10):
            status = int((await answer).split()[1])
        writer.close()
        return status


@pytest.fixture
async def attacked(tmp_path: Path) -> AsyncIterator[Attacked]:
    """It, as it has just started."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, tmp_path, stdout=subprocess.PIPE)
    assert process.stdout
    yield Attacked(process, int(await process.stdout.readline()))
    assert process.returncode is None
    process.terminate()
    await process.wait()


def bomb() -> list[bytes]:
    """A megabyte of gzip that becomes a gigabyte."""
    deflate = zlib.compressobj(wbits=-15)
    piece = deflate.compress(b"\0" * 1_048_576) + deflate.flush(zlib.Z_FULL_FLUSH)
    return [b"\x1f\x8b\x08\0\0\0\0\0\0\xff", *[piece] * 1024]


async def test_a19_hostile_bodies(attacked: Attacked) -> None:
    """Each gets the right answer; memory stays within the limits, and the process lives."""
    whole = {
        "depth": b'{"alerts": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "NaN": GOOD.replace(b'"truncatedAlerts":0', b'"truncatedAlerts":NaN'),
        "UTF-8": GOOD.replace(b"etl", b"\xe4"),
        "wide": b'{"alerts": [], "groupLabels": {' + b'"a":1,' * 2_500_000 + b'"b":1}}',
        "many": b'{"alerts": [' + b"{}," * 5_000_000 + b"{}]}",
        "numbers": b'{"alerts": [], "x": [' + b"1," * 7_000_000 + b"1]}",
    }
    squeezed = bomb()
    before = attacked.most()
    for name, body in whole.items():
        expected = 200 if name in ("wide", "numbers") else 400
        assert (name, await attacked.answer(f"Content-Length: {len(body)}", [body])) == (name, expected)
    length = sum(map(len, squeezed))
    assert await attacked.answer(f"Content-Encoding: gzip\r\nContent-Length: {length}", squeezed) == 415
    assert await attacked.answer("Content-Length: 1000000000", (b" " * 65536 for _ in range(16000))) == 413
    chunks = (b"10000\r\n" + b" " * 65536 + b"\r\n" for _ in range(16000))
    assert await attacked.answer("Transfer-Encoding: chunked", chunks) == 413
    slow = [attacked.answer("Content-Length: 1000000", [b" "] * 60, 0.1) for _ in range(50)]
    assert set(await asyncio.gather(*slow)) == {503}
    assert await attacked.answer(f"Content-Length: {len(GOOD)}", [GOOD]) == 200
    assert attacked.most() - before < 64
