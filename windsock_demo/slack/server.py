"""The look-alike over HTTP: Slack's methods and webhooks, orders of trouble, and the page that draws the messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import hdrs, web

from . import methods, page
from .errors import HOOK_STATUS, SlackError
from .orders import Control, Order
from .workspace import Workspace

MAX_BODY = 1 << 20

_WORKSPACE = web.AppKey("workspace", Workspace)
_Outcome = dict[str, Any] | SlackError


@dataclass(frozen=True)
class _Call:
    """What a request asks for, and the way in which its kind of request is answered."""

    method: str
    channel: str
    work: Callable[[], dict[str, Any]]
    say: Callable[[_Outcome], web.Response]


@asynccontextmanager
async def serve(
    workspace: Workspace | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Workspace]:
    """Serves a workspace, a new one by default, and yields it; OSError if the port cannot be had."""
    workspace = workspace or Workspace()
    app = web.Application(client_max_size=MAX_BODY)
    app[_WORKSPACE] = workspace
    app.router.add_get("/", _page)
    app.router.add_post("/_control", _control)
    app.router.add_get("/api/{method}", _api)
    app.router.add_post("/api/{method}", _api)
    app.router.add_post("/services/{team}/{hook}/{secret}", _hook)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        workspace.url = f"http://{host}:{runner.addresses[0][1]}"
        yield workspace
    finally:
        await runner.cleanup()


async def _page(request: web.Request) -> web.Response:
    html = page.render(request.app[_WORKSPACE], request.query.get("channel", ""))
    return web.Response(text=html, content_type="text/html", headers=page.HEADERS)


async def _control(request: web.Request) -> web.Response:
    try:
        control = msgspec.json.decode(await request.read(), type=Control)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None
    orders = request.app[_WORKSPACE].orders
    if control.clear:
        orders.clear()
    for order in control.orders:
        orders.add(order)
    return web.Response(status=204)


async def _api(request: web.Request) -> web.Response:
    workspace, method = request.app[_WORKSPACE], request.match_info["method"]
    arguments = await _arguments(request)
    token = request.headers.get(hdrs.AUTHORIZATION, "").partition("Bearer ")[2]

    def work() -> dict[str, Any]:
        if not isinstance(arguments, dict):
            raise SlackError("invalid_json")
        return methods.call(workspace, method, token, arguments) | _warning(request)

    channel = str(arguments.get("channel", "")) if isinstance(arguments, dict) else ""
    response = await _answer(request, _Call(method, _name(workspace, channel), work, _as_json))
    if credential := workspace.tokens.get(token):
        response.headers["X-OAuth-Scopes"] = ",".join(sorted(credential.scopes))
    return response


async def _hook(request: web.Request) -> web.Response:
    workspace, where = request.app[_WORKSPACE], request.match_info
    arguments = await _arguments(request)
    payload = arguments.get("payload", arguments) if isinstance(arguments, dict) else arguments
    hook = where["hook"]

    def work() -> dict[str, Any]:
        methods.hook(workspace, where["team"], hook, where["secret"], payload)
        return {}

    names = [channel.name for channel in workspace.channels.values() if channel.hook == hook]
    return await _answer(request, _Call("webhook", "".join(names), work, _as_text))


async def _arguments(request: web.Request) -> object:
    """What a request says, in any of the forms that Slack reads; None if that is no JSON."""
    if request.content_type == "application/json":
        return _decoded(await request.read())
    form = {**request.query, **await request.post()}
    structured = ("attachments", "blocks", "metadata", "payload")
    return {name: _decoded(str(value)) if name in structured else value for name, value in form.items()}


def _decoded(text: bytes | str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _warning(request: web.Request) -> dict[str, Any]:
    """Slack's complaint about JSON that does not say how it is encoded."""
    if request.content_type != "application/json" or request.charset:
        return {}
    return {"warning": "missing_charset", "response_metadata": {"warnings": ["missing_charset"]}}


def _name(workspace: Workspace, channel: str) -> str:
    """A channel's name for its name or id, or what was given."""
    try:
        return workspace.channel(channel).name
    except SlackError:
        return channel


async def _answer(request: web.Request, call: _Call) -> web.Response:
    workspace = request.app[_WORKSPACE]
    if wait := workspace.gate.wait(call.method, call.channel):
        response, result = _too_fast(call, wait), "ratelimited"
    elif order := workspace.orders.take(call.method, call.channel):
        response, result = await _ordered(workspace, call, order)
    else:
        response, result = _straight(call)
    workspace.remember(call.method, call.channel, result)
    if result == "cut" and request.transport:
        request.transport.abort()
    return response


async def _ordered(workspace: Workspace, call: _Call, order: Order) -> tuple[web.Response, str]:
    straight = _straight(call) if order.spares or order.stored else None
    await asyncio.sleep(order.delay)
    if straight and order.spares:
        return straight
    if order.cut:
        return web.Response(), "cut"
    if order.retry_after:
        return _too_fast(call, workspace.gate.shut(call.method, call.channel, order.retry_after)), "ratelimited"
    response = call.say(SlackError(order.error)) if order.error else web.Response(content_type="text/html")
    if order.body:
        response = web.Response(status=response.status, text=order.body, content_type="text/html")
    if order.status:
        response.set_status(order.status)
    if order.location:
        response.headers[hdrs.LOCATION] = order.location
    return response, order.error or str(response.status)


def _straight(call: _Call) -> tuple[web.Response, str]:
    try:
        return call.say(call.work()), "ok"
    except SlackError as error:
        return call.say(error), error.code


def _too_fast(call: _Call, wait: int) -> web.Response:
    response = call.say(SlackError("ratelimited"))
    response.set_status(429)
    response.headers[hdrs.RETRY_AFTER] = str(wait)
    return response


def _as_json(outcome: _Outcome) -> web.Response:
    if isinstance(outcome, SlackError):
        return web.json_response({"ok": False, "error": outcome.code, **outcome.details})
    return web.json_response({"ok": True, **outcome})


def _as_text(outcome: _Outcome) -> web.Response:
    if isinstance(outcome, SlackError):
        code = outcome.code.replace("ratelimited", "rate_limited")
        return web.Response(status=HOOK_STATUS.get(code, 400), text=code)
    return web.Response(text="ok")
