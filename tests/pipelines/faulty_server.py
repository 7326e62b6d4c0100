"""An S3 server of a test, with a proxy of ours before it that counts requests and injects the faults of real services.

Run it as `python -m tests.pipelines.faulty_server PORT [ADDRESS]`. Behind the proxy is moto, with buckets in memory.
`/__proxy__/rules` takes the faults, a list of `Rule`; `/__proxy__/log` has a line per request since it was cleared.
"""

import asyncio
import itertools
import logging
import os
import re
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import ClientSession, ClientTimeout, web

BLOCK_BYTES = 64 << 10
OWN = "/__proxy__/"
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "content-encoding"}


@dataclass
class Rule:
    """A fault for the requests whose method and "path?query" match.

    kind: refuse (503, and the server never hears of it), reset (likewise, the connection breaks), unsure (the server
    does it, and 503 is answered), unheard (the server does it, and the connection breaks), cut (breaks in mid-body),
    slow (bytes_s per connection), lost_upload (404 NoSuchUpload), stale (the listing that was answered before,
    or when listings were frozen).
    every: 3 for each third matching request. after: requests that pass first. times: faults in all.
    """

    kind: str
    method: str = ".*"
    path: str = ".*"
    every: int = 1
    after: int = 0
    times: int = 1 << 30
    bytes_s: int = 1 << 20
    seen: int = 0
    done: int = 0

    def takes(self, method: str, target: str) -> bool:
        if self.done >= self.times or not re.fullmatch(self.method, method) or not re.search(self.path, target):
            return False
        self.seen += 1
        if self.seen <= self.after or self.seen % self.every:
            return False
        self.done += 1
        return True


@dataclass
class Line:
    """A request. fault: the kind that it met, or "". sent, received: bytes of bodies, by the client."""

    method: str
    target: str
    range: str = ""
    status: int = 0
    fault: str = ""
    sent: int = 0
    received: int = 0


@dataclass
class Proxy:
    """Hands requests on to `upstream`."""

    upstream: str
    rules: list[Rule] = field(default_factory=list)
    log: list[Line] = field(default_factory=list)
    listings: dict[str, bytes] = field(default_factory=dict)
    frozen: dict[str, bytes] = field(default_factory=dict)
    condition: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self, host: str, port: int) -> None:
        app = web.Application(client_max_size=1 << 32)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        self.session = ClientSession(timeout=ClientTimeout(), auto_decompress=False)
        runner = web.AppRunner(app, access_log=None, auto_decompress=False)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith(OWN):
            return await self._own(request)
        target = request.raw_path
        rule = next((rule for rule in self.rules if rule.takes(request.method, target)), None)
        line = Line(request.method, target, request.headers.get("Range", ""), fault=rule.kind if rule else "")
        self.log.append(line)
        try:
            return await self._read_and_answer(request, line, rule)
        except ConnectionError:  # the client is gone
            return broken(request)

    async def _read_and_answer(self, request: web.Request, line: Line, rule: Rule | None) -> web.StreamResponse:
        body = await request.read()
        if "If-Match" in request.headers or "If-None-Match" in request.headers:
            async with self.condition:  # moto looks and writes in two steps
                return await self._answer(request, body, line, rule)
        return await self._answer(request, body, line, rule)

    async def _answer(self, request: web.Request, body: bytes, line: Line, rule: Rule | None) -> web.StreamResponse:
        kind, target = line.fault, line.target
        line.sent = len(body)
        if kind in ("refuse", "lost_upload"):
            return error(line, *((503, "SlowDown") if kind == "refuse" else (404, "NoSuchUpload")))
        if kind == "reset":
            return broken(request)
        if kind == "stale" and (old := self.frozen.get(target, self.listings.get(target))) is not None:
            return web.Response(body=old, content_type="application/xml")
        return await self._handed_on(request, body, line, rule)

    async def _handed_on(self, request: web.Request, body: bytes, line: Line, rule: Rule | None) -> web.StreamResponse:
        headers = asked_with(request)
        async with self.session.request(
            request.method,
            self.upstream + line.target,
            data=body,
            headers=headers,
            allow_redirects=False,
            skip_auto_headers=("Content-Type", "User-Agent", "Accept-Encoding"),  # a signature may cover what is sent
        ) as got:
            line.status = got.status
            if line.fault == "unsure":
                return error(line, 503, "SlowDown")
            if line.fault == "unheard":
                return broken(request)
            answer = web.StreamResponse(status=got.status, headers=_passed_on(got.headers))
            length = got.headers.get("Content-Length")
            if length is not None:
                answer.content_length = int(length)
            await answer.prepare(request)
            kept = b""
            is_listing = "list-type" in line.target
            async for block in got.content.iter_chunked(BLOCK_BYTES):
                if line.fault == "cut" and line.received + len(block) >= int(length or 0) // 2:
                    await answer.write(block[: len(block) // 2])
                    return broken(request)
                if line.fault == "slow":
                    await asyncio.sleep(len(block) / rule.bytes_s if rule else 0)
                await answer.write(block)
                line.received += len(block)
                kept += block if is_listing else b""
            if is_listing:
                self.listings[line.target] = kept
            await answer.write_eof()
            return answer

    async def _own(self, request: web.Request) -> web.Response:
        match request.method, request.path.removeprefix(OWN):
            case "POST", "rules":
                self.rules = [Rule(**one) for one in await request.json()]
            case "POST", "freeze":
                self.frozen = dict(self.listings)
            case "DELETE", "log":
                self.log.clear()
            case "GET", "log":
                return web.json_response([asdict(line) for line in self.log])
            case _:
                return web.Response(status=404)
        return web.json_response({})


def asked_with(request: web.Request) -> dict[str, str]:
    """Headers of a request that are handed on."""
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
    if encoding := request.headers.get("Content-Encoding"):
        headers["Content-Encoding"] = encoding
    return headers


def _passed_on(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP - {"content-encoding"}}


def error(line: Line, status: int, code: str) -> web.Response:
    line.status = status
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}, said the proxy</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


def broken(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def end_with_parent(parent: int) -> None:
    for _ in itertools.count():
        time.sleep(1)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


async def serve(port: int, host: str = "127.0.0.1") -> None:
    """Serve until this process ends."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    there, inner = moto.get_host_and_port()
    await Proxy(f"http://{there}:{inner}").start(host, port)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:]))
