"""Addresses of a rating study: its page, each rater's tasks, videos by range, answers.

`reel evaluate --rate` serves one study at "/". Another server may mount the same routes below an address of its own,
which must end in "/": all that the page asks for is relative to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reelwright.curation.store import StoreError
from reelwright.errors import UserError, first_line
from reelwright.evaluation.rating.study import Study
from reelwright.pipelines.evaluate.rating.desk import RatingDesk
from reelwright.pipelines.evaluate.rating.pages import policy, served_page
from reelwright.pipelines.runtime.serving.ranges import ranged
from reelwright.pipelines.runtime.serving.replies import HANDLERS, answered, refused

LATER = "the server cannot do that at the moment; wait a little and try again"
log = logging.getLogger("reelwright.pages")
FRAMES = "frame-ancestors 'none'"
Find = Callable[[Request], RatingDesk]
"""Returns the study that a request is about. Raises UserError where there is none."""


def make_rating_app(desk: RatingDesk) -> Starlette:
    """Return the ASGI application of one study."""
    pool = ThreadPoolExecutor(8, "reel-rate")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        pool.shutdown()

    app = Starlette(routes=rating_routes(lambda _: desk, pool), lifespan=lifespan, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    return app


def rating_routes(find: Find, pool: ThreadPoolExecutor) -> list[Route]:
    """Return the routes of studies.

    Args:
        find: tells which study a request is about.
        pool: threads that read the store.
    """
    served = _Served(find, pool)
    return [
        Route("/", served.page, methods=["GET"]),
        Route("/favicon.ico", lambda _: Response(status_code=204), methods=["GET"]),  # browsers ask for it
        Route("/study", served.tasks, methods=["GET"]),
        Route("/answer", served.answer, methods=["POST"]),
        Route("/video/{name}", served.video, methods=["GET"]),
        Route("/picture/{name}", served.picture, methods=["GET"]),
    ]


def links(key: str, study: Study) -> dict[str, str]:
    """Return each rater by the token of their link, which a secret decides."""
    return {link_token(key, study.study_id, rater): rater for rater in study.settings.raters}


def link_token(key: str, study_id: str, rater: str) -> str:
    """Return the token of a rater's link to a study, which nobody makes without the secret."""
    return hmac.new(key.encode(), f"{study_id}\x1f{rater}".encode(), hashlib.sha256).hexdigest()[:40]


class _RefusedError(Exception):
    """The request is answered with this status and sentence."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Served:
    def __init__(self, find: Find, pool: ThreadPoolExecutor) -> None:
        self._find, self._pool = find, pool

    async def page(self, request: Request) -> Response:
        def make() -> Response:
            page = served_page(self._find(request).study, _holder(request) or None).encode()
            headers = {"content-security-policy": f"{policy()}; {FRAMES}"}
            return Response(page, media_type="text/html; charset=utf-8", headers=headers)

        return await self._answered(make, request)

    async def tasks(self, request: Request) -> Response:
        def make() -> Response:
            desk = self._find(request)
            return JSONResponse(desk.tasks(_rater(request, desk.study, request.query_params.get("rater"))))

        return await self._answered(make, request)

    async def answer(self, request: Request) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response(status_code=413)

        def make() -> Response:
            desk, sent = self._find(request), _parsed(body)
            desk.save(_rater(request, desk.study, sent.get("rater")), sent.get("answer"))
            return JSONResponse({"saved": True})

        return await self._answered(make, request)

    async def video(self, request: Request) -> Response:
        name, asked = request.path_params["name"], request.headers.get("range")

        def make() -> Response:
            try:
                video = self._find(request).video(name)
            except UserError as error:
                raise _RefusedError(404, str(error)) from None
            return ranged(video, asked, media_type="video/mp4", etag=name, is_head=request.method == "HEAD")

        return await self._answered(make, request)

    async def picture(self, request: Request) -> Response:
        name = request.path_params["name"]

        def make() -> Response:
            try:
                jpeg = self._find(request).picture(name)
            except UserError as error:
                raise _RefusedError(404, str(error)) from None
            return Response(jpeg, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

        return await self._answered(make, request)

    async def _answered(self, make: Callable[[], Response], request: Request) -> Response:
        def work() -> Response:
            try:
                return make()
            except _RefusedError as error:
                return refused(str(error), error.status)
            except StoreError as error:
                if _holder(request):  # a rater is told nothing of the store, not even its name
                    log.warning("%s", first_line(error))
                    return refused(LATER, 503)
                return refused(f"the store refuses: {first_line(error)}", 503)

        return await answered(self._pool, work)


def _holder(request: Request) -> str:
    return str(getattr(request.state, "holder", None) or "")


def _rater(request: Request, study: Study, named: Any) -> str:
    """Return who asks: whose link it is, where links have owners, else who they say they are."""
    if holder := _holder(request):
        if holder not in study.base or named not in (None, holder):
            raise _RefusedError(403, "this link is another rater's")
        return holder
    if not isinstance(named, str) or named not in study.base:
        raise _RefusedError(404, "the study has no rater of this name")
    return named


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        raise _RefusedError(400, "the body is no JSON") from None
    if not isinstance(sent, dict):
        raise _RefusedError(400, "an answer is an object with rater and answer")
    return sent
