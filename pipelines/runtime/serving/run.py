"""Start a server of pages, say where it is, and stop it on a signal."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

import uvicorn
from starlette.types import ASGIApp

from reelwright.errors import UserError
from reelwright.pipelines.runtime.serving.guard import LOOPBACK, OPEN_TOKEN, TOKEN, Guard, Guests, new_token

QUIT_S = 3


class PageServer:
    """A server that listens already, so that whoever opens its address at once waits and is not refused.

    Args:
        app: the pages, an ASGI application.
        host: address to listen at; any but loopback lets other machines ask.
        port: 0 takes a free one.
        holders: token -> whose it is; an empty name: anybody's who has the address.
        guests: tells of links that open a part of the pages; None: there are none.

    Raises:
        UserError: the address cannot be taken.
    """

    def __init__(
        self, app: ASGIApp, *, host: str, port: int, holders: Mapping[str, str], guests: Guests | None = None
    ) -> None:
        self.host, self.holders, self.is_open = host, dict(holders), host not in LOOPBACK
        self._listening = _listen(host, port)
        self.port: int = self._listening.getsockname()[1]
        is_proxied = self.is_open or any(holders.values())  # holders' links may lead here through a proxy's name
        hosts = None if is_proxied else frozenset(LOOPBACK)
        config = uvicorn.Config(
            Guard(app, holders=holders, port=self.port, hosts=hosts, guests=guests), log_level="warning",
            access_log=False, server_header=False, timeout_graceful_shutdown=QUIT_S, lifespan="on",
        )  # fmt: skip
        self._server = uvicorn.Server(config)

    def addresses(self) -> list[tuple[str, str]]:
        """Return (whose, address) by token."""
        shown = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - a comparison
        name = f"[{shown}]" if ":" in shown else shown
        return [(who, f"http://{name}:{self.port}/?{TOKEN}={token}") for token, who in self.holders.items()]

    def run(self) -> None:
        """Serve until the process is interrupted, or `stop` is called."""
        self._server.run(sockets=[self._listening])

    def stop(self) -> None:
        """Let `run` return, once requests under way are answered."""
        self._server.should_exit = True


def serve(
    app: ASGIApp, *, host: str, port: int, holders: Mapping[str, str], say: Callable[[str], None],
    guests: Guests | None = None,
) -> None:  # fmt: skip
    """Serve pages until the process is interrupted; say first where they are.

    Args:
        app: the pages, an ASGI application.
        host: address to listen at.
        port: 0 takes a free one.
        holders: token -> whose it is; an empty name: anybody's who has the address.
        say: prints a line.
        guests: as of `PageServer`.

    Raises:
        UserError: as `PageServer` does.
    """
    server = PageServer(app, host=host, port=port, holders=holders, guests=guests)
    if server.is_open:
        say(
            f"other machines can reach this ({host}), without encryption: whoever has an address may use it; put a "
            "proxy with TLS before it where others listen in"
        )
    for who, address in server.addresses():
        say(f"{who}:  {address}" if who else f"open:  {address}")
    say("stop:  Ctrl-C")
    server.run()


def for_anybody(token: str) -> dict[str, str]:
    """Return the holders of a server with one address for all. token: empty makes one.

    Raises:
        UserError: the token is too weak.
    """
    if token and not OPEN_TOKEN.fullmatch(token):
        raise UserError("a token is 8 to 200 letters, digits, '-' and '_'; leave --token out and one is made")
    return {token or new_token(): ""}


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        raise UserError(f"cannot listen at {host}:{port}: {error}; choose another --port, 0 for a free one") from None
    return listening
