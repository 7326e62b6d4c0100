"""A judge on loopback: an OpenAI-compatible server that scores the brightness of the frames that it is shown.

The video's prompt tells it how to answer: `prose` (the first time), `outside` (of the scale), `silent` (no
log-probabilities), `nan` (for one), `merged` (a token that holds more than the digit), `lost` (status 400), `busy` (503
the first time).
"""

from __future__ import annotations

import base64
import json
import math
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np


class JudgeServer:
    """The server, in threads of this process. asked: bodies of requests; is_refusing: whether all get status 400."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.is_refusing = False
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = judge.answer(body)
                said = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: Any) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        content = body["messages"][-1]["content"]
        text = content[-1]["text"]
        asked = text.split("-----\n")[1].split("\n-----")[0]
        with self.lock:
            self.asked.append(body)
            self.seen[asked] += 1
            times = self.seen[asked]
        if self.is_refusing or "lost" in asked:
            return 400, {"error": {"message": "no such field: logprobs"}}
        if "busy" in asked and times == 1:
            return 503, {"error": {"message": "later"}}
        if "prose" in asked and times == 1:
            return 200, completion("I would give this a 4.")
        if "outside" in asked:
            return 200, completion('{"score": 7}')
        level = brightness([part["image_url"]["url"] for part in content if part["type"] == "image_url"])
        return 200, scored(1 + 4 * level, asked, wanted=bool(body.get("logprobs")))


def brightness(urls: list[str]) -> float:
    """Mean of JPEG data URLs, 0 to 1."""
    jpegs = [base64.b64decode(url.partition("base64,")[2]) for url in urls]
    return float(np.mean([cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_GRAYSCALE) for one in jpegs])) / 255


def scored(score: float, asked: str, *, wanted: bool) -> dict[str, Any]:
    """An answer whose digits have the score for their mean, and a tenth of the probability elsewhere."""
    low = min(4, int(score))
    shares = {low: 0.9 * (low + 1 - score), low + 1: 0.9 * (score - low)}
    digit = max(shares, key=lambda one: shares[one])
    end = "}" if "merged" in asked else ""
    texts = ['{"', "score", '":', " ", f"{digit}{end}", *([] if end else ["}"])]
    answer = completion("".join(texts))
    if not wanted or "silent" in asked:
        return answer
    likeliest = [{"token": f"{one}{end}", "logprob": math.log(share)} for one, share in shares.items() if share > 0]
    likeliest.append({"token": "Well", "logprob": math.log(0.1)})
    content = [{"token": text, "logprob": 0.0, "top_logprobs": []} for text in texts]
    content[4] = {"token": texts[4], "logprob": math.log(shares[digit]), "top_logprobs": likeliest}
    if "nan" in asked:
        content[4]["logprob"] = float("nan")
    answer["choices"][0]["logprobs"] = {"content": content}
    return answer


def completion(said: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": said}
    return {
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 8},
    }
