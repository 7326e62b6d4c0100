"""A reward behind HTTP, for runs on other machines."""

from __future__ import annotations

import contextlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from reelwright.errors import first_line
from reelwright.training.rewards.calling import score
from reelwright.training.rewards.contract import Reward, Unscored
from reelwright.training.rewards.remote.protocol import BodyError, reply_of, unpacked

READ_S = 600.0  # that a body may take to arrive, and that it may wait before
LINGER_S = 30.0  # that a refused body is read and dropped: closing at once would cut off the answer
SILENCE_S = 60.0  # that a connection may be silent
CHUNK = 1 << 20
BUSY_AFTER_S = 2  # Retry-After of a service that has enough to do


@dataclass(frozen=True)
class Limits:
    """Bounds of a service.

    max_bytes: of a request's body. bodies: that are held at once, being read or scored; others wait unread.
    connections: that are open at once; others are closed.
    """

    max_bytes: int = 2 << 30
    bodies: int = 4
    connections: int = 64


class RewardServer(ThreadingHTTPServer):
    """Serves one reward by the protocol of `remote/protocol.py`; its calls follow one another."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        reward: Reward,
        address: tuple[str, int],
        *,
        key: str = "",
        limits: Limits | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Load the reward's models and bind the address.

        Args:
            reward: served.
            address: host and port; port 0 takes a free one, see `server_port`.
            key: that requests must bring; empty: none.
            limits: bounds of what is taken in.
            say: is given a line per request.
        """
        reward.prepare()
        self.reward, self.key, self.limits, self.say = reward, key, limits or Limits(), say
        self.described = reward.describe()
        self.scoring = threading.Lock()
        self.bodies = threading.BoundedSemaphore(self.limits.bodies)
        self.open = threading.BoundedSemaphore(self.limits.connections)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own, or close it where too many are open."""
        if self.open.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.open.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a connection that broke to its client."""
        return None


class _RefusedError(Exception):
    """The request is answered with this status and sentence."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: RewardServer
    protocol_version = "HTTP/1.0"  # one request per connection
    timeout = SILENCE_S

    def do_GET(self) -> None:
        self._answer(self._described)

    def do_POST(self) -> None:
        self._answer(self._scored)

    def log_message(self, format: str, *args: Any) -> None:
        return None

    def _answer(self, work: Callable[[], dict[str, Any]]) -> None:
        try:
            self._check_key()
            status, value = 200, work()
        except _RefusedError as error:
            status, value = error.status, {"error": str(error)}
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 503:
            self.send_header("Retry-After", str(BUSY_AFTER_S))
        self.end_headers()
        self.wfile.write(body)
        if status != 200:
            if self.server.say:
                self.server.say(f"{self.client_address[0]} is refused with {status}: {value['error']}")
            self._linger()

    def _linger(self) -> None:
        self.wfile.flush()
        ends = time.monotonic() + LINGER_S
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1.0)
            while time.monotonic() < ends and self.rfile.read1(CHUNK):
                pass

    def _check_key(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").encode("utf-8", "replace")
        if self.server.key and not hmac.compare_digest(given, self.server.key.encode()):
            raise _RefusedError(401, "the key is missing or wrong; send Authorization: Bearer KEY")

    def _described(self) -> dict[str, Any]:
        if self.path != "/reward":
            raise _RefusedError(404, "there are GET /reward and POST /score")
        return self.server.described

    def _scored(self) -> dict[str, Any]:
        server = self.server
        if self.path != "/score":
            raise _RefusedError(404, "there are GET /reward and POST /score")
        length = self._length()
        if not server.bodies.acquire(timeout=READ_S):
            raise _RefusedError(503, f"{server.limits.bodies} requests are under way; come back later")
        try:
            videos = unpacked(self._body(length))
            began = time.monotonic()
            with server.scoring:
                found = score(server.reward, videos)
        except BodyError as error:
            raise _RefusedError(400, first_line(error)) from None
        finally:
            server.bodies.release()
        if server.say:
            failed = sum(isinstance(one, Unscored) for one in found)
            server.say(f"{len(found)} videos, {failed} of them unscored, in {time.monotonic() - began:.1f} s")
        return reply_of(server.described["fingerprint"], found)

    def _length(self) -> int:
        stated = self.headers.get("Content-Length", "")
        if not stated.isascii() or not stated.isdigit() or len(stated) > 15:
            raise _RefusedError(411, "Content-Length must state the body's bytes")
        if int(stated) > self.server.limits.max_bytes:
            raise _RefusedError(413, f"the body has {stated} bytes; at most {self.server.limits.max_bytes} are taken")
        return int(stated)

    def _body(self, length: int) -> bytearray:
        """Read the body; memory grows with what arrives, not with what was promised."""
        body = bytearray()
        ends = time.monotonic() + READ_S
        while len(body) < length:
            try:
                chunk = self.rfile.read1(min(CHUNK, length - len(body)))
            except OSError:  # also a timeout
                chunk = b""
            if not chunk or time.monotonic() > ends:
                raise _RefusedError(400, f"the body ends after {len(body)} of {length} bytes")
            body += chunk
        return body
