"""Replies of pages' servers: work in threads, and errors as sentences and never as tracebacks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reelwright.errors import ReelError, first_line

BROKEN = "that did not work; the server's terminal has the reason"
log = logging.getLogger("reelwright.pages")


def refused(sentence: str, status: int) -> Response:
    """Return a reply that says why a request was not answered."""
    return JSONResponse({"error": sentence}, status_code=status)


async def answered(pool: ThreadPoolExecutor, make: Callable[[], Response]) -> Response:
    """Make a reply in a pool's thread. An error of the user's becomes 400, another one 500."""
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, make)
    except ReelError as error:
        return refused(str(error), 400)
    except Exception as error:
        log.error("%s: %s", type(error).__name__, first_line(error))
        return refused(BROKEN, 500)


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refused(error.detail, error.status_code)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s: %s", type(error).__name__, first_line(error))
    return refused(BROKEN, 500)


HANDLERS: Mapping[Any, Any] = {HTTPException: _of_http, Exception: _unexpected}
"""Of an application's exceptions."""
