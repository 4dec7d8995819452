"""A proxy as companies have them: it wants a password, tunnels, and knows names that nobody else does."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

USER, PASSWORD = "windsock", "hush-hush-proxy-password"
_CREDENTIALS = f"Proxy-Authorization: Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}\r\n"


@dataclass
class Proxy:
    """Where it listens, and the head of each request that it got."""

    address: str = ""
    heads: list[str] = field(default_factory=list)

    def url(self, password: str = PASSWORD) -> str:
        """What the environment has to say."""
        return f"http://{USER}:{password}@{self.address}"


@asynccontextmanager
async def proxying(to: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """Whatever host is asked for, this server answers; the end of a tunnel speaks TLS."""
    proxy, target = Proxy(), urlsplit(to)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        proxy.heads.append(head)
        if _CREDENTIALS not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        there, back = await asyncio.open_connection(target.hostname, target.port)
        if head.startswith("CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            assert tls
            await writer.start_tls(tls)
        else:
            back.write(head.encode())
        async with asyncio.TaskGroup() as pipes:
            pipes.create_task(_pipe(reader, back))
            pipes.create_task(_pipe(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        proxy.address = "{}:{}".format(*server.sockets[0].getsockname())
        yield proxy


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()
