"""The endpoint: `/metrics` from bytes that are ready, the status page, whether the daemon lives and is ready, webhooks.

Nothing here reads a source or waits for one. Without credentials configured the status page answers only on loopback or
where `web.insecure` is true; the other paths always do.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from aiohttp import hdrs, web, web_response
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler
from prometheus_client import CollectorRegistry
from prometheus_client.utils import floatToGoString

from . import status_page
from .config import Config
from .config.values import Address
from .exposition import Format, Renderer, encode, join, join_gzip
from .poller import Poller, status_families
from .relay import Relay
from .telemetry import REGISTRY
from .web_config import WebConfig
from .webhook import PATH as WEBHOOK
from .webhook import SLACK, user_of

# Else each answer tells the versions of Python and aiohttp; a response signal would miss those to malformed requests.
web_response.SERVER_SOFTWARE = "windsock"  # type: ignore[attr-defined]


def _without_request(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        vars(record).update(exc_info=None, because=type(error).__name__)
    return True


# aiohttp writes requests that are no HTTP into the log, and what may be a secret in them.
logging.getLogger("aiohttp.server").addFilter(_without_request)

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OPEN_PATHS = frozenset({"/-/healthy", "/-/ready"})
RELOAD = "/-/reload"
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

IDLE = 75.0
"""Seconds for which a connection may ask nothing, or not finish the head of a request; aiohttp's own are an hour."""
SHUTDOWN_TIMEOUT = 3.0
"""Seconds that answers on their way get once the listener is closed."""


@dataclass(slots=True)
class Readiness:
    """What `/-/ready` says; the reason ends a sentence, and None is yes."""

    not_ready_because: str | None = "it is starting"

    def ready(self) -> None:
        """From now on it is."""
        self.not_ready_because = None

    def stopping(self) -> None:
        """From now on it is not."""
        self.not_ready_because = "it is shutting down"


@dataclass(frozen=True, slots=True)
class _Endpoint:
    pollers: Sequence[Poller]
    config: Config
    access: WebConfig
    readiness: Readiness
    renderer: Renderer
    relay: Relay


_ENDPOINT = web.AppKey("endpoint", _Endpoint)


def application(
    pollers: Sequence[Poller], config: Config, access: WebConfig, readiness: Readiness, relay: Relay | None = None
) -> web.Application:
    """What answers; to be served by `listening`."""
    app = web.Application(middlewares=[_sentences, _guard], client_max_size=1024)
    relay = relay or Relay(config, access, None, lambda: config)
    app[_ENDPOINT] = _Endpoint(pollers, config, access, readiness, Renderer(config.airflow.name), relay)
    app.on_response_prepare.append(_headers)
    app.router.add_get("/", _status)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/-/healthy", _healthy)
    app.router.add_get("/-/ready", _ready)
    app.router.add_post(RELOAD, _reload)
    if relay.intake:
        app.router.add_post(WEBHOOK, relay.intake.alertmanager)
        app.router.add_post(SLACK, relay.intake.slack)
        app.router.add_post(f"{SLACK}/{{token:.+}}", relay.intake.slack)
    return app


@asynccontextmanager
async def listening(app: web.Application, address: Address, access: WebConfig) -> AsyncIterator[str]:
    """Serve the application at this address; yields its URL, raises OSError if it cannot be had."""
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT, keepalive_timeout=IDLE, auto_decompress=False
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, address.host, address.port, ssl_context=access.ssl_context).start()
        except OSError as error:
            raise OSError(f"cannot listen on {address}: {_reason(error)}") from None
        port = runner.addresses[0][1]
        yield f"{'https' if access.ssl_context else 'http'}://{replace(address, port=port)}"
    finally:
        await runner.cleanup()


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    # asyncio's own text is longer, and repeats the address; of one that is not ours, newer Pythons give no number.
    return os.strerror(error.errno or errno.EADDRNOTAVAIL)


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="Windsock is alive.\n")


async def _ready(request: web.Request) -> web.Response:
    because = request.app[_ENDPOINT].readiness.not_ready_because
    if because:
        return web.Response(status=503, text=f"Windsock is not ready: {because}.\n")
    return web.Response(text="Windsock is ready.\n")


async def _reload(request: web.Request) -> web.Response:
    relay = request.app[_ENDPOINT].relay
    if refusal := await relay.access.refusal(request.headers.get(hdrs.AUTHORIZATION, "")):
        return web.Response(status=refusal[0], text=f"{refusal[1]}\n")
    if problems := relay.reload():
        lines = "\n".join(problems)
        return web.Response(
            status=500, text=f"The configuration stays as it was, for the new one is not valid:\n{lines}\n"
        )
    return web.Response(text="The configuration was read.\n")


async def _status(request: web.Request) -> web.Response:
    endpoint = request.app[_ENDPOINT]
    config = endpoint.config
    if not (endpoint.access.authenticates or config.web.insecure or config.listen.loopback):
        raise web.HTTPForbidden(
            text="This page is not shown to everyone. To see it, configure users or client certificates in the file of "
            "web.config_file, or listen on 127.0.0.1, or set web.insecure: true. /metrics is shown in any case.\n"
        )
    dispatcher = endpoint.relay.dispatcher
    destinations = dispatcher.status() if dispatcher else []
    page = status_page.render(config, endpoint.pollers, destinations, endpoint.readiness.not_ready_because)
    return web.Response(text=page, content_type="text/html", headers=status_page.HEADERS)


async def _metrics(request: web.Request) -> web.Response:
    endpoint = request.app[_ENDPOINT]
    status = await endpoint.renderer.render(status_families(endpoint.pollers))
    parts = [part for poller in endpoint.pollers if (part := poller.part)]
    if _wants_openmetrics(request):
        chosen = [part.openmetrics for part in (*parts, status)]
        chosen.append(encode(registry_text(REGISTRY, "openmetrics") + b"# EOF\n"))
        content_type = OPENMETRICS
    else:
        chosen = [part.text for part in (*parts, status)]
        chosen.append(encode(registry_text(REGISTRY, "text")))
        content_type = TEXT
    headers = {hdrs.CONTENT_TYPE: content_type, hdrs.VARY: "Accept, Accept-Encoding"}
    if _weight(request, hdrs.ACCEPT_ENCODING, "gzip") > 0:
        return web.Response(body=join_gzip(chosen), headers={**headers, hdrs.CONTENT_ENCODING: "gzip"})
    return web.Response(body=join(chosen), headers=headers)


def registry_text(registry: CollectorRegistry, form: Format) -> bytes:
    """What prometheus_client's encoders give for counters, gauges and histograms, in a fraction of their time."""
    lines = []
    for metric in registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" and form == "text" else metric.name
        lines.append(f"# HELP {name} {metric.documentation}\n# TYPE {name} {metric.type}\n")
        for sample in metric.samples:
            labels = ",".join([f'{key}="{value.translate(_ESCAPES)}"' for key, value in sorted(sample.labels.items())])
            lines.append(f"{sample.name}{f'{{{labels}}}' if labels else ''} {floatToGoString(sample.value)}\n")
    return "".join(lines).encode()


def _wants_openmetrics(request: web.Request) -> bool:
    # prometheus_client's own choice disregards weights, and promises name escapings that the ready parts do not have.
    wanted = _weight(request, hdrs.ACCEPT, r"application/openmetrics-text(;version=1\.0\.0)?(;(charset|escaping)=.*)?")
    return wanted > 0 and wanted >= _weight(request, hdrs.ACCEPT, r"text/plain(;.*)?")


def _weight(request: web.Request, header: str, pattern: str) -> float:
    """How much a client wants what the pattern matches, 0 if not at all or if its weight cannot be read."""
    wanted = [0.0]
    for choice in re.sub(r'[\s"]', "", ",".join(request.headers.getall(header, ())).lower()).split(","):
        name, given, weight = choice.partition(";q=")
        if re.fullmatch(pattern, name) and (not given or re.fullmatch(r"\d+\.?\d*|\.\d+", weight)):
            wanted.append(float(weight or 1))
    return max(wanted)


@web.middleware
async def _sentences(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPNotFound as error:
        error.text = (
            "There is nothing here: look at /, /metrics, /-/healthy or /-/ready; alerts go to /webhook/alertmanager.\n"
        )
        raise
    except web.HTTPMethodNotAllowed as error:
        error.text = f"{request.method} is not possible here: use {' or '.join(sorted(error.allowed_methods))}.\n"
        raise


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    access = request.app[_ENDPOINT].access
    own = request.path == RELOAD or request.path.startswith("/webhook/")  # they look for tokens, too
    if access.users and not own and request.path not in OPEN_PATHS:
        user = user_of(request.headers.get(hdrs.AUTHORIZATION, ""))
        if not user or not await access.users.admit(user.login, user.password):
            raise web.HTTPUnauthorized(
                text="A user name and its password are needed here.\n",
                headers={hdrs.WWW_AUTHENTICATE: 'Basic realm="Windsock", charset="UTF-8"'},
            )
    return await handler(request)


async def _headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Content-Type-Options"] = "nosniff"
