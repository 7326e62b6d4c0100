"""The server of a rating study: a page, each rater's tasks, videos in ranges, answers that are kept once acknowledged.

On loopback raters choose their names. On any other address each has a link with a token of their own, and a name is
taken from the token alone. No path of a request reaches the file system: videos go by names that the study knows.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import json
import re
import threading
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from reelwright.curation.store import Store, StoreError
from reelwright.errors import UserError, first_line
from reelwright.evaluation.rating.answers import progress, read_answer, tasks_now
from reelwright.evaluation.rating.study import Study
from reelwright.pipelines.evaluate.rating.pages import answer_facts, policy, served_page, task_facts, videos_of
from reelwright.pipelines.evaluate.rating.studies import Answers

MAX_BODY = 64 << 10
MAX_CONNECTIONS = 64
SILENCE_S = 30.0  # that a connection may be silent
CHUNK = 1 << 20
COOKIE = "reelwright_rater"
RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
VIDEO = re.compile(r"/video/([0-9a-f]{24})")


def token_of(key: str, study: Study, rater: str) -> str:
    """Return the token of a rater's link."""
    return hmac.new(key.encode(), f"{study.study_id}\x1f{rater}".encode(), hashlib.sha256).hexdigest()[:40]


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class RatingServer(ThreadingHTTPServer):
    """Serves one study."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        store: Store,
        study: Study,
        address: tuple[str, int],
        *,
        key: str = "",
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Read the answers so far and bind the address.

        Args:
            store: with videos and ratings.
            study: served.
            address: host and port; port 0 takes a free one, see `server_port`.
            key: secret of the raters' tokens; needed where others than this machine reach the address.
            say: is given a line per answer.

        Raises:
            UserError: the address is not loopback, and there is no key.
        """
        if not is_loopback(address[0]) and not key:
            raise UserError(f"{address[0]} is reached by other machines, so raters need links with tokens: give a key")
        self.store, self.study, self.key, self.say = store, study, key, say
        self.answers = Answers(store, study)
        self.videos = videos_of(study)
        self.tokens = {token_of(key, study, rater): rater for rater in study.settings.raters} if key else {}
        self.open = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def links(self) -> list[tuple[str, str]]:
        """Return (rater, address of their page), or one address for all where they choose their names."""
        host = str(self.server_address[0])
        whole = f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"
        if not self.key:
            return [("", whole)]
        return [(rater, f"{whole}?token={quote(token)}") for token, rater in self.tokens.items()]

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
    server: RatingServer
    protocol_version = "HTTP/1.0"  # one request per connection
    server_version, sys_version = "reelwright", ""
    timeout = SILENCE_S

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        return None

    def _answer(self, work: Callable[[str, dict[str, str]], None]) -> None:
        try:
            self._refuse_other_sites()
            try:
                parts = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(parts.query, max_num_fields=8).items()}
            except ValueError:
                raise _RefusedError(400, "the address cannot be read") from None
            work(parts.path, query)
        except _RefusedError as error:
            self._json({"error": str(error)}, error.status)
        except UserError as error:
            self._json({"error": first_line(error)}, 400)
        except StoreError as error:
            self._json({"error": f"the store refuses: {first_line(error)}"}, 503)

    # --- who may ask ----------------------------------------------------------------------------------------------

    def _refuse_other_sites(self) -> None:
        """Refuse what another site makes a browser send, and names of hosts that were bent to this address."""
        host = self.headers.get("Host", "")
        if not self.server.key:
            named = urlsplit(f"//{host}").hostname if re.fullmatch(r"[\w.\-:\[\]]{1,255}", host) else None
            if named is None or not is_loopback(named):
                raise _RefusedError(403, "ask for this machine by localhost or 127.0.0.1")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):  # the latter behind a proxy
            raise _RefusedError(403, "answers come from this server's own page alone")
        if self.command == "POST" and self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise _RefusedError(403, "answers come from this server's own page alone")

    def _rater(self, named: Any) -> str:
        """Return who asks: by the token where there is one, else by the name."""
        if self.server.key:
            rater = self._by_token(self._token())
            if named is not None and named != rater:
                raise _RefusedError(403, "this link is another rater's")
            return rater
        if not isinstance(named, str) or named not in self.server.study.base:
            raise _RefusedError(404, "the study has no rater of this name")
        return named

    def _token(self) -> str:
        if bearer := self.headers.get("Authorization", ""):
            return bearer.removeprefix("Bearer ")
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")[:4096]).get(self._cookie())
        except CookieError:
            cookie = None
        return cookie.value if cookie else ""

    def _cookie(self) -> str:
        return f"{COOKIE}_{self.server.study.study_id}"  # cookies do not tell ports apart

    def _by_token(self, token: str) -> str:
        given = token.encode("utf-8", "replace")
        found = [rater for known, rater in self.server.tokens.items() if hmac.compare_digest(given, known.encode())]
        if not found:
            raise _RefusedError(401, "open the link that you were sent: it has a token")
        return found[0]

    # --- what is asked for ----------------------------------------------------------------------------------------

    def _get(self, path: str, query: dict[str, str]) -> None:
        server = self.server
        if path == "/":
            if server.key and "token" in query:
                return self._enter(query["token"])
            rater = self._by_token(self._token()) if server.key else None
            page = served_page(server.study, rater).encode()
            return self._send(page, "text/html; charset=utf-8", {"Content-Security-Policy": f"{policy()}; {FRAMES}"})
        if path == "/study":
            return self._study(self._rater(query.get("rater")))
        if video := VIDEO.fullmatch(path):
            if server.key:
                self._by_token(self._token())
            return self._video(video[1])
        raise _RefusedError(404, "there is nothing here; begin at /")

    def _enter(self, token: str) -> None:
        """Keep the token of a link in a cookie, so that it leaves the address line.

        Lax, not Strict: a link in somebody's web mail leads here from another site, and so does the redirection.
        """
        self._by_token(token)
        cookie = f"{self._cookie()}={token}; HttpOnly; SameSite=Lax; Path=/"
        self._send(b"", "text/plain", {"Location": "/", "Set-Cookie": cookie}, 303)

    def _study(self, rater: str) -> None:
        answers = self.server.answers.all()
        study = self.server.study
        tasks = [task_facts(study, task, "video/{}".format) for task in tasks_now(study, rater, answers)]
        self._json({"tasks": tasks, "answers": answer_facts(study, rater, answers)})

    def _post(self, path: str, query: dict[str, str]) -> None:
        if path != "/answer":
            raise _RefusedError(404, "answers go to /answer")
        if self.server.key:
            self._by_token(self._token())  # before a body is waited for
        if self.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            raise _RefusedError(415, "an answer is application/json")
        try:
            sent = json.loads(self._body())
        except (ValueError, RecursionError):
            raise _RefusedError(400, "the body is no JSON") from None
        if not isinstance(sent, dict):
            raise _RefusedError(400, "an answer is an object with rater and answer")
        server = self.server
        rater = self._rater(sent.get("rater"))
        server.answers.save([read_answer(server.study, rater, sent.get("answer"))])
        self._json({"saved": True})
        if server.say:
            done = progress(server.study, server.answers.all())[rater]
            server.say(f"{rater}: {done.answered} of {done.tasks}")

    def _body(self) -> bytes:
        stated = self.headers.get("Content-Length", "")
        if not stated.isascii() or not stated.isdigit() or len(stated) > 9:
            raise _RefusedError(411, "Content-Length must state the body's bytes")
        if int(stated) > MAX_BODY:
            raise _RefusedError(413, f"an answer has at most {MAX_BODY} bytes")
        body = self.rfile.read(int(stated))
        if len(body) < int(stated):
            raise _RefusedError(400, "the body ends early")
        return body

    # --- sending --------------------------------------------------------------------------------------------------

    def _video(self, name: str) -> None:
        generation = self.server.videos.get(name)
        if generation is None:
            raise _RefusedError(404, "the study has no such video")
        video = self.server.store.open_generated(generation)
        found = self._range(video.size)
        if found is None:
            return self._head("text/plain", 0, {"Content-Range": f"bytes */{video.size}"}, 416)
        first, last = found
        part = {"Content-Range": f"bytes {first}-{last}/{video.size}"} if "Range" in self.headers else {}
        keep = {"Accept-Ranges": "bytes", "Cache-Control": "private, max-age=86400", **part}
        self._head("video/mp4", last - first + 1, keep, 206 if part else 200)
        with contextlib.suppress(ConnectionError, TimeoutError):  # a player that has seen enough hangs up
            for start in range(first, last + 1, CHUNK):
                self.wfile.write(video.read_range(start, min(CHUNK, last + 1 - start)))

    def _range(self, size: int) -> tuple[int, int] | None:
        """Return the first and the last byte that are asked for (RFC 9110, 14); None: not there, or several ranges."""
        asked = self.headers.get("Range")
        if asked is None:
            return 0, size - 1
        found = RANGE.fullmatch(asked.strip())
        if not found or not (found[1] or found[2]):
            return None
        if found[1]:
            first, last = int(found[1]), min(int(found[2]) if found[2] else size - 1, size - 1)
        else:
            first, last = max(0, size - int(found[2])), size - 1
        return (first, last) if first <= last else None

    def _json(self, value: dict[str, Any], status: int = 200) -> None:
        self._send(json.dumps(value).encode(), "application/json", {}, status)

    def _send(self, body: bytes, kind: str, more: dict[str, str], status: int = 200) -> None:
        self._head(kind, len(body), {"Cache-Control": "no-store", **more}, status)
        self.wfile.write(body)

    def _head(self, kind: str, length: int, more: dict[str, str], status: int) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **SAFE, **more}.items():
            self.send_header(name, value)
        self.end_headers()


FRAMES = "frame-ancestors 'none'"
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Headers of every reply."""
