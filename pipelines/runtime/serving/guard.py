"""Who may talk to a server of pages: the holder of a token, from the server's own pages.

Anyone on a machine may connect to its loopback address, and any web page may make a browser do so. So every request
needs the token, which the printed address carries once and a cookie afterwards. A request that another site caused is
refused by what browsers say of it (`Sec-Fetch-Site`, `Origin`), and a name that was pointed at this machine (DNS
rebinding) by `Host`.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN = "token"  # noqa: S105 - the parameter's name
MAX_BODY = 2 << 20
"""Bytes of a request, of which the largest is a list of clip ids."""
READ_AWAY = 64 << 20
"""Bytes of a request that is too long, which are read before it is refused."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN_TOKEN = re.compile(r"[A-Za-z0-9_-]{8,200}")
READS = ("GET", "HEAD")
OUTSIDE = "this link opens its own page and nothing else of this server; open the link again as it was sent"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self'; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
SAFE_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(24)


def refusal(method: str, headers: Mapping[str, str], hosts: frozenset[str] | None) -> str:
    """Say why a request comes from elsewhere than a page of this server; empty where it does not.

    Args:
        method: of HTTP.
        headers: of the request, names in lower case.
        hosts: names of this server, without port; None where any name may lead here.
    """
    host = headers.get("host", "")
    if hosts is not None and _without_port(host) not in hosts:
        return "this server does not go by that name; open the address that it printed"
    site = headers.get("sec-fetch-site", "none")
    if site not in ("same-origin", "none") and not _is_followed_link(method, headers):
        return "another site's page asked for this"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return "another site's page asked for this"
    if method not in READS and headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return "a request that changes or asks something is JSON"
    return ""


@dataclass(frozen=True)
class Guest:
    """Who holds a link that opens one part of a server.

    Attributes:
        holder: whose link it is.
        under: the beginning of the addresses that it opens, with "/" at the end.
    """

    holder: str
    under: str


Guests = Callable[[str], Guest | None]
"""Tells whose link carries a token; None: nobody's."""


class Guard:
    """ASGI middleware that lets through only requests of this server's own pages that hold a token.

    Pages find whose token it is in `request.state.holder`.

    Args:
        app: the pages.
        holders: token, which an address carries -> whose it is; empty: anybody's who has the address.
        port: of the server; cookies do not tell ports apart, so the cookie's name does.
        hosts: names of this server; None where any may lead here, as behind a proxy.
        guests: tells of links that open a part of the server; None: there are none.
    """

    def __init__(
        self, app: ASGIApp, *, holders: Mapping[str, str], port: int, hosts: frozenset[str] | None,
        guests: Guests | None = None,
    ) -> None:  # fmt: skip
        self.app, self.holders, self.hosts, self.guests = app, dict(holders), hosts, guests
        self.cookie, self.guest_cookie = f"reel_{port}", f"reel_{port}_guest"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        why = refusal(scope["method"], headers, self.hosts)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        holder, is_outside = self._who(scope["path"], cookie_parser(headers.get("cookie", "")))
        answer: ASGIApp = self.app
        if why:
            answer = _error(403, why)
        elif TOKEN in query and scope["method"] in READS:
            answer = self._enter(scope["path"], query)
        elif is_outside:
            answer = _error(403, OUTSIDE)
        elif holder is None:
            answer = _error(401, "open the address that the server printed when it began: it carries the token")
        elif not _is_short(headers):
            await _read_away(receive)
            answer = _error(413, f"a request has at most {MAX_BODY:,} bytes")
        scope.setdefault("state", {})["holder"] = holder
        await answer(scope, _bounded(receive), _with_headers(send))

    def _enter(self, path: str, query: dict[str, str]) -> Response:
        """Keep the token in a cookie, and show the page without it in the address."""
        token = query.pop(TOKEN)
        guest = self._guest(token)
        if guest is not None and not path.startswith(guest.under):
            return _error(403, OUTSIDE)
        if guest is None and self._holder(token) is None:
            return _error(401, "that is not the token of this server; open the address that it printed")
        response = RedirectResponse("/" + path.lstrip("/") + (f"?{urlencode(query)}" if query else ""), status_code=303)
        name, under = (self.guest_cookie, guest.under) if guest else (self.cookie, "/")
        response.set_cookie(name, token, httponly=True, samesite="lax", path=under)
        return response

    def _who(self, path: str, cookies: Mapping[str, str]) -> tuple[str | None, bool]:
        """Return who asks, None: nobody known; and whether it is a guest outside of what the link opens.

        Whoever has a guest's link and the server's own address is the guest where the link leads.
        """
        tokens = cookies.get(self.guest_cookie, ""), cookies.get(self.cookie, "")
        guests = [guest for guest in map(self._guest, tokens) if guest is not None]
        for guest in guests:
            if path.startswith(guest.under):
                return guest.holder, False
        holder = self._holder(tokens[1])
        return holder, holder is None and bool(guests)

    def _guest(self, token: str) -> Guest | None:
        return self.guests(token) if self.guests and token else None

    def _holder(self, token: str) -> str | None:
        """Return whose a token is; None: nobody's. All are compared, in a time that says nothing of them."""
        given = token.encode("utf-8", "replace")
        found = [who for known, who in self.holders.items() if hmac.compare_digest(given, known.encode())]
        return found[0] if found else None


def _is_followed_link(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a person followed a link to a page: a document of its own, which the other site cannot read."""
    asked = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return method in READS and asked == ("navigate", "document")


def _is_short(headers: Mapping[str, str]) -> bool:
    length = headers.get("content-length") or "0"
    return length.isascii() and length.isdigit() and int(length[:20]) <= MAX_BODY


def _without_port(host: str) -> str:
    name = host.rpartition(":")[0] if re.search(r":\d*$", host) and not host.endswith("]") else host
    return name.strip("[]").lower()


async def _read_away(receive: Receive) -> None:
    """Read what a request sends too much, up to a bound: one that is closed before never sees its answer."""
    seen = 0
    while seen < READ_AWAY:
        message = await receive()
        seen += len(message.get("body", b""))
        if not message.get("more_body"):
            return


def _error(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status_code=status)


def _bounded(receive: Receive) -> Receive:
    """Return `receive`, which ends a body that is longer than it said."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_BODY:
            return {"type": "http.disconnect"}
        return message

    return bounded


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SAFE_HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sending
