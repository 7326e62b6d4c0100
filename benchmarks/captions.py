"""Throughput of the server backend against a bare asyncio client, asking one loopback server in one run.

    python -m benchmarks.captions [--requests 512] [--concurrency 64] [--rounds 3]

The server is a process of its own that answers each request after a drawn 50 to 400 ms (the same draws for both
clients: by the number in the question). Both clients send the same bodies and read the same answers; both encode the
JPEGs of the same pre-sampled frames in as many threads. The bare client has no retries, limits or checks. Rounds are
interleaved, the order turned about each time. Asked: ratio of requests a second >= 0.9.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from reelwright.annotate.chat.base import Answer, Question
from reelwright.annotate.chat.model import ChatModel
from reelwright.annotate.chat.payload import body_of
from reelwright.annotate.chat.registry import close_chats, open_chat
from reelwright.annotate.chat.server import ENCODERS

FRAMES, HEIGHT, WIDTH = 8, 360, 640
BATCH = 8  # clips a call, in the rounds that ask as an annotator does
CAPTION = "A dog runs along the beach while the camera pans to the left. " * 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve())
        return
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.captions", "--serve"], stdout=subprocess.PIPE)
    try:
        assert server.stdout
        port = int(server.stdout.readline())
        _measure(ChatModel("m", url=f"http://127.0.0.1:{port}/v1", concurrency=options.concurrency), options)
    finally:
        close_chats()
        server.kill()


def _measure(chat: ChatModel, options: argparse.Namespace) -> None:
    for what in ("frames", "text"):
        questions = _questions(options.requests, what == "frames")
        for client in CLIENTS.values():
            client(chat, questions[: chat.concurrency])  # connections, imports, caches
        taken = {name: [0.0, 0.0] for name in CLIENTS}  # wall and CPU seconds
        for k in range(options.rounds):
            for name in list(CLIENTS)[:: 1 if k % 2 == 0 else -1]:
                started = time.perf_counter(), time.process_time()
                answers = CLIENTS[name](chat, questions)
                taken[name][0] += time.perf_counter() - started[0]
                taken[name][1] += time.process_time() - started[1]
                assert answers == [f"{i} {CAPTION}" for i in range(len(questions))], f"{name}: wrong answers"
        size = len(body_of(chat, questions[0])) / 1e3
        count = options.rounds * len(questions)
        print(f"\n{count} requests of {FRAMES if what == 'frames' else 0} frames ({size:.0f} kB) by each client")
        for name, (wall, cpu) in taken.items():
            ratio = taken["bare"][0] / wall
            each = f"{1e3 * cpu / count:6.2f} CPU ms a request"
            print(f"  {name:10} {count / wall:7.1f} requests/s  ratio {ratio:.3f}  {each}")


def _questions(count: int, seeing: bool) -> list[Question]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (FRAMES, HEIGHT // 24, WIDTH // 24, 3), np.uint8)
    frames = np.stack([cv2.resize(f, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for f in noise])
    return [Question(f"Describe clip {i} .", frames=frames if seeing else None, fps=2.0) for i in range(count)]


def _ours(chat: ChatModel, questions: list[Question]) -> list[str]:
    return [a.text if isinstance(a, Answer) else repr(a) for a in open_chat(chat).ask(questions)]


def _as_an_annotator(chat: ChatModel, questions: list[Question]) -> list[str]:
    """In batches from as many threads as `ChatModel.resources` declares."""
    found: list[str] = [""] * len(questions)
    starts = iter(range(0, len(questions), BATCH))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                start = next(starts, None)
            if start is None:
                return
            found[start : start + BATCH] = _ours(chat, questions[start : start + BATCH])

    threads = [threading.Thread(target=work) for _ in range(chat.resources(batch=BATCH).calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _bare(chat: ChatModel, questions: list[Question]) -> list[str]:
    return asyncio.run(_gather(chat, questions))


async def _gather(chat: ChatModel, questions: list[Question]) -> list[str]:
    import aiohttp

    window = asyncio.Semaphore(chat.concurrency)
    encoders = ThreadPoolExecutor(ENCODERS)

    async def one(session: aiohttp.ClientSession, question: Question) -> str:
        async with window:
            body = await asyncio.get_running_loop().run_in_executor(encoders, body_of, chat, question)
            headers = {"Content-Type": "application/json"}
            async with session.post(f"{chat.url}/chat/completions", data=body, headers=headers) as response:
                return (await response.json())["choices"][0]["message"]["content"]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=chat.concurrency)) as session:
        return await asyncio.gather(*(one(session, question) for question in questions))


CLIENTS = {"bare": _bare, "backend": _ours, "annotator": _as_an_annotator}


async def _serve() -> None:
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        number = int(body[body.rindex(b"Describe clip ") :].split()[2])
        await asyncio.sleep(random.Random(number).uniform(0.05, 0.4))
        message = {"role": "assistant", "content": f"{number} {CAPTION}"}
        usage = {"prompt_tokens": 1000, "completion_tokens": 100}
        completion = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        return web.Response(text=json.dumps(completion), content_type="application/json")

    app = web.Application(client_max_size=1 << 28)
    app.add_routes([web.post("/v1/chat/completions", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
