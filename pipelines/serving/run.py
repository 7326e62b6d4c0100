"""Start a server of pages, say where it is, and stop it on a signal."""

from __future__ import annotations

import socket
from collections.abc import Callable

from starlette.types import ASGIApp

from reelwright.errors import UserError
from reelwright.pipelines.serving.guard import LOOPBACK, OPEN_TOKEN, TOKEN, Guard, new_token

QUIT_S = 3


def serve(app: ASGIApp, *, host: str, port: int, token: str, say: Callable[[str], None]) -> None:
    """Serve pages until the process is interrupted.

    Args:
        app: the pages.
        host: address to listen at; any but loopback lets other machines ask.
        port: 0 takes a free one.
        token: of the address; empty makes one.
        say: prints a line.

    Raises:
        UserError: the address cannot be taken, or the token is too weak.
    """
    import uvicorn

    if token and not OPEN_TOKEN.fullmatch(token):
        raise UserError("a token is 8 to 200 letters, digits, '-' and '_'; leave --token out and one is made")
    token = token or new_token()
    listening = _listen(host, port)
    number = listening.getsockname()[1]
    is_open = host not in LOOPBACK
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104 - a comparison
    guarded = Guard(app, token=token, port=number, hosts=None if is_open else frozenset(LOOPBACK))
    config = uvicorn.Config(
        guarded, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=QUIT_S,
        lifespan="on",
    )  # fmt: skip
    if is_open:
        say(f"other machines can reach this: whoever has the token may look and decide ({host}, without encryption)")
    name = f"[{shown}]" if ":" in shown else shown
    say(f"open:  http://{name}:{number}/?{TOKEN}={token}")
    say("stop:  Ctrl-C")
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # before the address is printed: whoever opens it at once waits and is not refused
    except (OSError, OverflowError) as error:
        listening.close()
        raise UserError(f"cannot listen at {host}:{port}: {error}; choose another --port, 0 for a free one") from None
    return listening
