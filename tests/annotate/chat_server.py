"""A chat server on loopback that answers what it is asked from what it is shown, in a process of its own.

A question with pictures is about the number that is drawn into them (`faulty_server.numbered_frames`); one without,
about the number in the text between the lines. `script` gives a number's first answers by hand; "status 500" and the
like are faults. Answers come after delays that shuffle their order.
"""

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

from reelwright.annotate.captions.writing.vocabulary import VOCABULARIES
from reelwright.annotate.overlay.watermark_vlm import WATERMARKS
from tests.annotate.chat.faulty_server import _completion, _content, number_of, numbered_frames
from tests.annotate.synth import encode

ROOT = Path(__file__).parents[2]
SIDE = 64  # pixels: the shorter side at which a number's picture is neither scaled nor cropped


def numbered_clip(number: int, frames: int = 12) -> bytes:
    """An mp4 of 256 x 64 pixels at 12 frames per second that shows the number."""
    return encode(numbered_frames([number] * frames, SIDE), fps=12)


def answer_about(number: int, text: str, wants_json: bool, pictures: int) -> str:
    """What the server says, so that a test can expect it."""
    if wants_json and '"watermark"' in text:
        kind = list(WATERMARKS)[number % len(WATERMARKS)]
        return json.dumps({"watermark": kind != "none", "kind": kind})
    if wants_json:
        return json.dumps({name: list(terms)[number % len(terms)] for name, terms in VOCABULARIES.items()})
    if pictures:
        return caption_of(number)
    if "Shorten" in text:
        return f"第{number}号图案。" if "in Chinese" in text else f"Number {number}, in short."
    return chinese_of(number) if "to Chinese" in text else f"Clip number {number} in English, with a bright pattern."


def caption_of(number: int) -> str:
    return f"Clip number {number} holds a row of black and white cells, and nothing in it moves. " + (
        "The pattern fills the frame from the left edge to the right, sharp and evenly lit, with no color at all."
    )


def chinese_of(number: int) -> str:
    return f"第{number}号片段里有一排黑白方格，画面静止不动。图案从左到右铺满画面，清晰而均匀，没有任何色彩。"


class ChatServer:
    """The server's process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.annotate.chat_server"], stdout=subprocess.PIPE, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def script(self, answers: dict[int, list[str]]) -> None:
        """Forget what was asked; give these numbers these answers first."""
        self._post("script", answers)

    def asked(self, number: int) -> list[dict[str, Any]]:
        """The questions about this number: {text, system, pictures, schema}."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/asked/{number}") as response:
            return json.load(response)

    def hold(self, questions: int) -> None:
        """Answer nobody until so many are in flight."""
        self._post("hold", questions)

    def most_at_once(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/most") as response:
            return json.load(response)

    def _post(self, path: str, value: Any) -> None:
        urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", data=json.dumps(value).encode()).close()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


class _Answers:
    def __init__(self) -> None:
        self.scripted: dict[int, list[str]] = {}
        self.asked: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self.draw = random.Random(7)
        self.hold = self.at_once = self.most_at_once = 0
        self.enough = asyncio.Event()

    async def chat(self, request: web.Request) -> web.Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.at_once >= self.hold:
            self.enough.set()
        await self.enough.wait()
        try:
            return await self._answer(request)
        finally:
            self.at_once -= 1

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        text, pictures = _content(body["messages"][-1]["content"])
        system = body["messages"][0]["content"] if len(body["messages"]) > 1 else ""
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        if schema and set(schema["properties"]) == {"name"}:  # of a cluster
            return web.json_response(_completion(json.dumps({"name": "numbered patterns"})))
        number = number_of(pictures[0]) if pictures else int(re.findall(r"\d+", text.split("-----")[1])[0])
        self.asked[number].append({"text": text, "system": system, "pictures": len(pictures), "schema": schema,
                                   "size": _size(pictures)})  # fmt: skip
        said = self.scripted.get(number) or [answer_about(number, text, schema is not None, len(pictures))]
        answer = said.pop(0)
        await asyncio.sleep(self.draw.uniform(0, 0.05))
        if answer.startswith("status "):
            return web.json_response({"error": {"message": "no"}}, status=int(answer.split()[1]))
        completion = _completion(answer.removesuffix("<cut>"))
        if answer.endswith("<cut>"):
            completion["choices"][0]["finish_reason"] = "length"
        return web.json_response(completion)

    async def holding(self, request: web.Request) -> web.Response:
        """Answer nobody until so many have asked, or a minute has passed."""
        self.hold, self.most_at_once, self.enough = int(await request.json()), 0, asyncio.Event()
        asyncio.get_running_loop().call_later(60, self.enough.set)
        return web.Response()

    async def most(self, _: web.Request) -> web.Response:
        return web.json_response(self.most_at_once)

    async def script(self, request: web.Request) -> web.Response:
        self.asked.clear()
        self.scripted = {int(k): v for k, v in (await request.json()).items()}
        return web.Response()

    async def about(self, request: web.Request) -> web.Response:
        return web.json_response(self.asked[int(request.match_info["number"])])


def _size(pictures: list[bytes]) -> list[int]:
    import cv2

    if not pictures:
        return []
    height, width = cv2.imdecode(np.frombuffer(pictures[0], np.uint8), cv2.IMREAD_GRAYSCALE).shape
    return [width, height]


async def _serve() -> None:
    answers = _Answers()
    app = web.Application(client_max_size=1 << 28)
    app.add_routes([web.post("/v1/chat/completions", answers.chat), web.post("/script", answers.script)])
    app.add_routes([web.get("/asked/{number}", answers.about), web.post("/hold", answers.holding)])
    app.add_routes([web.get("/most", answers.most)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
