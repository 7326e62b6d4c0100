"""The pages and the API of `reel app` over one store."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from reelwright.curation.media.errors import MediaError
from reelwright.curation.store import Store
from reelwright.curation.store.untrusted import sql_untrusted
from reelwright.errors import ReelError, UserError
from reelwright.pipelines.app.about import about_clip, about_store, snapshots
from reelwright.pipelines.app.columns import Columns, steady
from reelwright.pipelines.app.decisions import REDO, UNDO, Change
from reelwright.pipelines.app.endpoints import endpoint
from reelwright.pipelines.app.freezing import Compare, Freeze, as_arguments, compare, freeze
from reelwright.pipelines.app.going import Between, Step, between, step
from reelwright.pipelines.app.pages import page
from reelwright.pipelines.app.pictures import Pictures
from reelwright.pipelines.app.plane import Plane, plane
from reelwright.pipelines.app.reviews import Reviews
from reelwright.pipelines.app.selection import Selection
from reelwright.pipelines.app.values import shown
from reelwright.pipelines.app.view import Page, Strict, View
from reelwright.pipelines.app.work.routes import Options, Work, work_routes
from reelwright.pipelines.runtime.serving.ranges import ranged
from reelwright.pipelines.runtime.serving.replies import HANDLERS, answered, refused

BUILT = Path(__file__).parent / "built"
FILES = {"app.js": "text/javascript", "app.css": "text/css", "icon.svg": "image/svg+xml",
         "work.js": "text/javascript", "work.css": "text/css"}  # fmt: skip
FIRST_COLUMNS = (
    "duration_s", "aesthetic_score", "aesthetic_standin_score", "motion_score", "blur_score", "text_coverage",
    "watermark_score", "camera_motion", "height",
)  # fmt: skip
"""Filters that the page begins with: FIRST_FACETS in frontend/src/app.tsx."""
SQL_ROWS, SQL_S = 1_000, 20.0
MOST_DECIDED = 100_000
FLIP = "flip_star"
ACTIONS = f"^(keep|drop|clear|tag|untag|star|unstar|{FLIP}|caption)$"
TAG_LETTERS = 60
log = logging.getLogger("reelwright.app")

ClipId = Annotated[str, Field(min_length=1, max_length=64)]
Reviewer = Annotated[str, Field(min_length=1, max_length=60)]


class Query(Strict):
    """SQL of a person."""

    query: Annotated[str, Field(max_length=50_000)]


class OneClip(Strict):
    """One clip."""

    clip_id: ClipId


class Decision(Strict):
    """An action about some clips: those that are named, or all of a view.

    Attributes:
        action: what is done; flip_star takes the star away where all have one, and gives it to all otherwise.
        text: the tag or the caption.
    """

    action: Annotated[str, Field(pattern=ACTIONS)]
    reviewer: Reviewer
    clip_ids: Annotated[list[ClipId], Field(max_length=MOST_DECIDED)] = []
    view: View | None = None
    text: Annotated[str, Field(max_length=20_000)] = ""


class Person(Strict):
    """Who asks."""

    reviewer: Reviewer


class Desk:
    """The state that requests share, and the threads that they run in.

    Args:
        store: to look at.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.columns = Columns(store)
        self.reviews = Reviews(store, self.columns)
        self.selection = Selection(store, self.columns, self.reviews)
        self.pictures = Pictures(store)
        self.work = ThreadPoolExecutor(4, "reel-app")
        self.queries = ThreadPoolExecutor(2, "reel-app-sql")
        self.drawing = ThreadPoolExecutor(2, "reel-app-pictures")

    def warm(self) -> None:
        """Read what the page asks for first, before it asks."""
        try:
            for name in (name for name in FIRST_COLUMNS if name in self.columns.schema.names):
                page(self.selection, Page(facets=[name], limit=0))
        except ReelError as error:  # whoever opens the page is told
            log.warning("%s", error)

    # --- the API: each takes a checked request and returns what JSON holds ---------------------------------------

    def start(self, asked: Strict) -> dict[str, Any]:
        """Return what a page shows first."""
        return {**about_store(self.store, self.reviews), "user": _user()}

    def page(self, asked: Page) -> dict[str, Any]:
        """Return a page of a view with histograms."""
        return page(self.selection, asked)

    def map(self, asked: Plane) -> dict[str, Any]:
        """Return a view as points of a plane, with its clusters."""
        return plane(self.selection, asked)

    def clip(self, asked: OneClip) -> dict[str, Any]:
        """Return all about one clip."""
        return about_clip(self.store, self.reviews, asked.clip_id)

    def sql(self, asked: Query) -> dict[str, Any]:
        """Run a person's SQL: one SELECT, bounded."""
        self.reviews.settle_for(asked.query)
        found = sql_untrusted(self.store, asked.query, max_rows=SQL_ROWS, timeout_s=SQL_S)
        columns = [column.to_pylist() for column in found.rows.columns]
        rows = [[shown(value, 500) for value in row] for row in zip(*columns, strict=True)]
        return {"columns": found.rows.schema.names, "rows": rows, "more": found.is_cut}

    def freeze_arguments(self, asked: Freeze) -> dict[str, Any]:
        """Return the arguments of the command that freezes a view."""
        return {"arguments": as_arguments(self.selection, asked)}

    def decide(self, asked: Decision) -> dict[str, Any]:
        """Apply an action to clips."""
        text = " ".join(asked.text.split()) if asked.action in ("tag", "untag") else asked.text.strip()
        if asked.action in ("tag", "untag") and not 0 < len(text) <= TAG_LETTERS:
            raise UserError(f"a tag has 1 to {TAG_LETTERS} characters")
        if asked.action == "caption" and (len(asked.clip_ids) != 1 or asked.view):
            raise UserError("a caption is written for one clip at a time")
        ids = asked.clip_ids
        if asked.view is not None:
            view = asked.view
            ids = steady(self.columns, lambda: self._ids(view))
        action = asked.action
        if action == FLIP:
            self.reviews.refresh()
            action = "unstar" if all(self.reviews.of(one).star for one in ids) else "star"
        return {**self.reviews.decide(list(dict.fromkeys(ids)), Change(action, text), asked.reviewer), "action": action}

    def _ids(self, view: View) -> list[str]:
        rows = self.selection.choose(view).mask.nonzero()[0]
        if len(rows) > MOST_DECIDED:
            raise UserError(f"{len(rows):,} clips are more than the {MOST_DECIDED:,} of one action; filter further")
        ids: list[str] = self.columns.ids.take(rows).to_pylist()
        return ids

    def step(self, asked: Step) -> dict[str, Any]:
        """Return the clip before or after another."""
        return step(self.selection, asked)

    def between(self, asked: Between) -> dict[str, Any]:
        """Return the ids between two places of a view."""
        return between(self.selection, asked)

    def undo(self, asked: Person) -> dict[str, Any]:
        """Take back a reviewer's last action."""
        return self.reviews.step_back(UNDO, asked.reviewer)

    def redo(self, asked: Person) -> dict[str, Any]:
        """Repeat a reviewer's last action that was taken back."""
        return self.reviews.step_back(REDO, asked.reviewer)

    def snapshots(self, asked: Strict) -> dict[str, Any]:
        """List snapshots."""
        return {"snapshots": snapshots(self.store)}

    def freeze(self, asked: Freeze) -> dict[str, Any]:
        """Save a view as a snapshot."""
        return freeze(self.store, self.selection, asked)

    def compare(self, asked: Compare) -> dict[str, Any]:
        """Set two snapshots side by side."""
        return compare(self.store, asked)


API: dict[str, type[Any]] = {
    "start": Strict, "page": Page, "clip": OneClip, "sql": Query, "decide": Decision, "undo": Person, "redo": Person,
    "snapshots": Strict, "freeze": Freeze, "freeze_arguments": Freeze, "compare": Compare, "map": Plane, "step": Step,
    "between": Between,
}  # fmt: skip
QUERIES = ("sql", "freeze", "compare", "freeze_arguments")
"""They may take seconds, and must not stand in the way of the grid."""


def make_app(store: Store, options: Options | None = None) -> Starlette:
    """Return the ASGI application over a store. options: of the pages of runs and models."""
    desk, work = Desk(store), Work(store, options or Options())

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        warming = asyncio.create_task(asyncio.to_thread(desk.warm))
        yield
        await warming
        await asyncio.to_thread(desk.reviews.close)
        await asyncio.to_thread(work.close)

    routes = [
        Route("/", _index),
        Route("/static/{name}", _static),
        Route("/media/{clip_id}.mp4", _media, methods=["GET"]),
        Route("/thumb/{clip_id}.jpg", _picture),
        *(Route(f"/api/{name}", _endpoint(desk, name, model), methods=["POST"]) for name, model in API.items()),
        *work_routes(work),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=HANDLERS)
    app.state.desk = desk
    return app


def _endpoint(desk: Desk, name: str, model: type[Any]) -> Any:
    return endpoint(model, desk.queries if name in QUERIES else desk.work, getattr(desk, name))


async def _index(request: Request) -> Response:
    return FileResponse(BUILT / "index.html", media_type="text/html", headers={"cache-control": "no-cache"})


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in FILES:
        return refused("there is no such file", 404)
    return FileResponse(BUILT / name, media_type=FILES[name], headers={"cache-control": "no-cache"})


async def _media(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    clip_id = request.path_params["clip_id"]

    def make() -> Response:
        clip = desk.store.open_media(clip_id)
        asked, is_head = request.headers.get("range"), request.method == "HEAD"
        return ranged(clip, asked, media_type="video/mp4", etag=f"{clip.clip_id}-{clip.size}", is_head=is_head)

    found = await answered(desk.work, make)
    return refused("there is no such clip", 404) if found.status_code == 400 else found


async def _picture(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    clip_id = request.path_params["clip_id"]

    def make() -> Response:
        try:
            jpeg = desk.pictures.get(clip_id)
        except MediaError as error:
            raise UserError(error.message) from None
        return Response(jpeg, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    found = await answered(desk.drawing, make)
    if found.status_code == 400:  # the card says why it is empty
        found.status_code = 404
    return found


def _user() -> str:
    try:
        return getpass.getuser()[:60]
    except (OSError, KeyError):  # a container without users
        return ""
