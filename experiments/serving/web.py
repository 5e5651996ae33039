"""The web application: texts as server-sent events, a page for the browser, metrics and health."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import json
import logging
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web
from data.text import decode
from prometheus_client import CONTENT_TYPE_LATEST

from serving.engine import BadStateError, ClientLimitError, Engine, EngineError, Generation, RefusedError
from serving.requests import BAD_STATE, BadRequestError, Rules

PAGE = Path(__file__).with_name("page.html")
PATIENCE = 10.0  # seconds for a client to send a request, to send the next one, and to read the end of a text
CLIENT_GONE = 499  # status in the metrics if the client disconnects before the end of the response, as in nginx

CONNECTIONS = 512  # of all clients, at most
TOO_MANY_CONNECTIONS = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b'Content-Length: 33\r\n\r\n{"error": "too many connections"}'
)

# The page contains its script and its style, and connects to this server only.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
EVENT_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """The routes of the server and their handlers.

    Args:
      engine: The engine that generates the texts.
      rules: The limits and the format of requests.
      name: A name of the model to show.
      patience: Seconds for a client to send a request, to send the next one, and to read the end of a text.
    """

    def __init__(self, engine: Engine, rules: Rules, name: str, patience: float = PATIENCE):
        self.engine, self.rules, self.name, self.patience = engine, rules, name, patience
        self._page = PAGE.read_bytes()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._report_errors], client_max_size=self.rules.max_bytes)
        app.router.add_get("/", self.page)
        app.router.add_get("/health", self.health)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_post("/generate", self.generate)
        return app

    async def page(self, request: web.Request) -> web.Response:
        return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=PAGE_HEADERS)

    async def health(self, request: web.Request) -> web.Response:
        """Describes the server and its limits. The status is 503 while the server stops."""
        engine, rules = self.engine, self.rules
        described = {
            "status": "stopping" if engine.stopping else "ok",
            "model": self.name,
            "slots": engine.slots,
            "slots_taken": engine.taken,
            "waiting": engine.waiting,
            "limits": {
                "prompt": rules.longest_prompt,
                "length": rules.longest_text,
                "temperature": rules.highest_temperature,
                "seconds": engine.seconds,
                "texts_per_client": engine.per_client,
            },
        }
        return web.json_response(described, status=503 if engine.stopping else 200)

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.engine.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Streams a text: events `{"text": ...}`, then `{"end": reason, "next": request that continues it}`."""
        wanted = self.rules.parse(await self._body(request))
        with self.engine.submit(wanted, client_of(request.remote)) as text:
            await text.started()
            response = web.StreamResponse(headers=EVENT_HEADERS)
            try:
                async with asyncio.timeout(self.engine.seconds + self.patience):
                    await response.prepare(request)
                    async for event in self._events(text):
                        await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
                    await response.write_eof()
            except TimeoutError:  # the client does not read
                if request.transport is not None:
                    request.transport.abort()
            return response

    async def _events(self, text: Generation) -> AsyncIterator[dict[str, Any]]:
        try:
            async for symbols in text.pieces():
                yield {"text": decode(np.array(symbols), self.rules.alphabet)}
            after = text.continuation
            yield {"end": text.end} | ({} if after is None else {"next": self.rules.describe(after)})
        except (BadStateError, EngineError) as error:
            yield {"error": BAD_STATE if isinstance(error, BadStateError) else str(error)}

    async def _body(self, request: web.Request) -> bytes:
        if request.content_type != "application/json":  # which also prevents requests from pages of other sites
            raise web.HTTPUnsupportedMediaType(text="the request must have the header Content-Type: application/json")
        if (request.content_length or 0) > self.rules.max_bytes:
            raise web.HTTPRequestEntityTooLarge(self.rules.max_bytes)
        try:
            async with asyncio.timeout(self.patience):
                return await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout(text=f"the body must arrive within {self.patience:g} seconds") from None
        except (web.RequestPayloadError, ValueError):
            raise BadRequestError("the body is incomplete or does not match its headers") from None

    @web.middleware
    async def _report_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turns exceptions into error responses, one line of JSON each, and counts the statuses of all responses."""
        status = CLIENT_GONE
        try:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = failure(error.status, self._explain(request, error))
                if "Allow" in error.headers:
                    response.headers["Allow"] = error.headers["Allow"]
            except BadRequestError as error:
                response = failure(400, str(error))
            except BadStateError:
                response = failure(400, BAD_STATE)
            except RefusedError as error:
                response = failure(429 if isinstance(error, ClientLimitError) else 503, str(error))
                response.headers["Retry-After"] = "1"
            except EngineError as error:
                response = failure(500, str(error))
            except ConnectionError:  # the client has disconnected
                raise
            except Exception:  # the log has the traceback, and the client one line
                traceback.print_exc()
                response = failure(500, "an error in the server")
            status = response.status
            return response
        finally:
            self.engine.metrics.requests.labels(str(status)).inc()

    def _explain(self, request: web.Request, error: web.HTTPException) -> str:
        match error:
            case web.HTTPNotFound():
                return "there is no such page; try /, /generate, /health or /metrics"
            case web.HTTPMethodNotAllowed():
                return f"{request.path} accepts {error.headers['Allow']}, not {request.method}"
            case web.HTTPRequestEntityTooLarge():
                return f"the request must have at most {self.rules.max_bytes} bytes"
            case web.HTTPUnsupportedMediaType() | web.HTTPRequestTimeout():
                return error.text or error.reason
        return HTTPStatus(error.status).phrase


def failure(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


@functools.lru_cache(maxsize=4096)
def client_of(address: str | None) -> str:
    """Returns the name of the client at an address: the address, or in IPv6 its 64-bit network."""
    try:
        ip = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(getattr(ip, "ipv4_mapped", None) or ip)


class ConnectionLimit(asyncio.Protocol):
    """Passes a new connection to a server, or refuses it if its client, or all clients, have too many.

    Without a limit, one client could use up all file descriptors of the process.

    Args:
      server: The server of aiohttp.
      most: Largest number of connections of all clients.
      most_per_client: Largest number of connections of one client.
    """

    def __init__(self, server: web.Server, most: int, most_per_client: int):
        self._server, self._most, self._most_per_client = server, most, most_per_client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        clients = [client_at(connection.peername) for connection in self._server.connections]
        of_client = clients.count(client_at(transport.get_extra_info("peername")))
        if len(clients) < self._most and of_client < self._most_per_client:
            protocol = self._server()
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
        else:
            transport.write(TOO_MANY_CONNECTIONS)
            transport.close()


def client_at(peername: Any) -> str:
    return client_of(peername[0] if peername else None)


@contextlib.asynccontextmanager
async def listening(site: Site, sock: socket.socket) -> AsyncIterator[None]:
    """Serves a site at a socket while the context is open. Its exit waits for the responses in progress."""
    quiet = logging.getLogger("serving.http")  # logs malformed requests; `Site` prints errors of the server
    quiet.setLevel(logging.CRITICAL)
    runner = web.AppRunner(
        site.application(),
        handler_cancellation=True,  # a client that disconnects frees its slot
        keepalive_timeout=site.patience,
        lingering_time=1.0,
        shutdown_timeout=site.patience / 2,  # which passes twice if a client does not read
        auto_decompress=False,
        access_log=None,
        logger=quiet,
    )
    await runner.setup()
    server = runner.server
    assert server is not None
    most_per_client = CONNECTIONS if site.engine.per_client is None else 16 + 2 * site.engine.per_client
    listener = await asyncio.get_running_loop().create_server(
        lambda: ConnectionLimit(server, CONNECTIONS, most_per_client), sock=sock, backlog=1024
    )
    try:
        yield
    finally:
        listener.close()
        await runner.cleanup()
