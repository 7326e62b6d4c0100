"""Endpoints of the page's API: JSON in, checked before anything is computed, and JSON out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from reelwright.curation.store.results import json_line
from reelwright.errors import UserError
from reelwright.pipelines.app.view import parse
from reelwright.pipelines.runtime.serving.replies import answered, refused


def endpoint(
    model: type[Any], pool: ThreadPoolExecutor, work: Callable[[Any], Any]
) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of an address.

    Args:
        model: of the JSON that is asked.
        pool: threads that work.
        work: takes what was asked, and returns what is answered.
    """

    async def answer(request: Request) -> Response:
        try:
            asked = parse(model, await request.body())
        except UserError as error:
            return refused(str(error), 400)
        except ClientDisconnect:
            return Response(status_code=413)
        return await answered(pool, lambda: Response(json_line(work(asked)), media_type="application/json"))

    return answer
