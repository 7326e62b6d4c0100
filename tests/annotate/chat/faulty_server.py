"""A chat server that does to each question what the question's text tells it, and counts what reaches it.

Run as a process of its own: prints its port. A question reads `token=T faults=429,cut delay=0.1 answer=…`: its first
request meets the first fault, the next the second, and those after the last one an answer after `delay` seconds: the
`answer`, else the token and the numbers that are drawn into its pictures (see `numbered_frames`). With `together=N`
nothing is said to it before N requests have once been here at the same time.
"""

import asyncio
import base64
import json
import re
import sys
from collections import Counter
from typing import Any

import cv2
import numpy as np
from aiohttp import web

BITS, CELL = 16, 16  # a number is a row of black and white cells


def numbered_frames(numbers: list[int], height: int = 32) -> np.ndarray:
    """uint8 [T, H, 256, 3]: a frame for each number below 65536, which survives JPEG."""
    bits = np.array([[number >> b & 1 for b in range(BITS)] for number in numbers], np.uint8)
    rows = bits.repeat(CELL, axis=1)[:, None, :, None] * np.uint8(255)
    return np.ascontiguousarray(np.broadcast_to(rows, (len(numbers), height, BITS * CELL, 3)))


def number_of(jpeg: bytes) -> int:
    gray = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    cells = gray[:, : BITS * CELL].reshape(gray.shape[0], BITS, CELL).mean(axis=(0, 2)) > 128
    return int(sum(1 << b for b in range(BITS) if cells[b]))


class Faulty:
    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.keys: set[str] = set()
        self.peers: set[str] = set()
        self.at_once = self.most_at_once = 0
        self.changed = asyncio.Condition()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        async with self.changed:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.changed.notify_all()
        self.peers.add(str(request.transport.get_extra_info("peername")))
        self.keys.add(request.headers.get("Authorization", ""))
        try:
            return await self._answer(request, await request.json())
        finally:
            self.at_once -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        text, pictures = _content(body["messages"][-1]["content"])
        asked = dict(re.findall(r"(\w+)=(\S+)", text))
        token = asked["token"]
        self.bodies[token] = {k: v for k, v in body.items() if k != "messages"} | {"pictures": len(pictures)}
        async with self.changed:
            await self.changed.wait_for(lambda: self.most_at_once >= int(asked.get("together", 0)))
        faults = asked["faults"].split(",") if "faults" in asked else []
        fault = faults[self.seen[token]] if self.seen[token] < len(faults) else ""
        self.seen[token] += 1
        if fault:
            return await _fail(request, fault)
        await asyncio.sleep(float(asked.get("delay", 0)))
        answers = re.findall(r"answer=(\S+)", text)
        said = answers[0] if answers else json.dumps({"token": token, "numbers": [number_of(p) for p in pictures]})
        return web.json_response(_completion(said))

    async def stats(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "seen": self.seen, "bodies": self.bodies, "most_at_once": self.most_at_once,
                "connections": len(self.peers), "keys": sorted(self.keys),
            }
        )  # fmt: skip

    async def forget(self, _: web.Request) -> web.Response:
        self.__init__()
        return web.Response()


async def _fail(request: web.Request, fault: str) -> web.StreamResponse:
    if fault.isdigit():
        headers = {"Retry-After": "0.3"} if fault == "429" else {"Location": "/v1/elsewhere"} if fault == "302" else {}
        return web.json_response({"error": {"message": "no " * 500}}, status=int(fault), headers=headers)
    if fault == "hang":
        await asyncio.sleep(30)
    if fault in ("reset", "hang"):
        request.transport.abort()
    body = {
        "notjson": "<html>busy</html>",
        "notchat": '{"choices": []}',
        "deep": "[" * 100_000,
        "empty": json.dumps(_completion("  \n")),
        "null": json.dumps(_completion(None)),
        "wrong": json.dumps(_completion('{"token": "wrong"}')),
    }.get(fault, "")
    if fault == "huge":
        body = json.dumps(_completion("x" * (6 << 20)))
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    if fault == "cut":
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b'{"choices": [{"mess')
        request.transport.abort()
        return response
    if fault == "endless":
        await response.prepare(request)
        while True:
            await response.write(b" " * (1 << 16))
    return web.Response(text=body, content_type="application/json")


def _completion(said: str | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": said}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
    }


def _content(content: Any) -> tuple[str, list[bytes]]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    urls = [p[p["type"]]["url"] for p in parts if p["type"] in ("image_url", "video_url")]
    pictures = [one for url in urls for one in url.partition("base64,")[2].split(",")]
    return " ".join(p["text"] for p in parts if p["type"] == "text"), [base64.b64decode(p) for p in pictures]


async def _serve(port: int) -> None:
    faulty = Faulty()
    app = web.Application(client_max_size=1 << 28)
    app.add_routes([web.post("/v1/chat/completions", faulty.chat), web.get("/stats", faulty.stats)])
    app.add_routes([web.post("/forget", faulty.forget)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
