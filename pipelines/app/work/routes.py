"""Addresses of what became of the footage: runs, trained models, generations, commands, the report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from reelwright.curation.media.errors import MediaError
from reelwright.curation.store import Store
from reelwright.errors import UserError
from reelwright.pipelines.app.endpoints import endpoint
from reelwright.pipelines.app.pictures import Pictures
from reelwright.pipelines.app.view import Name, Strict
from reelwright.pipelines.app.work.commands import Where, command_words, for_cluster, forms, line
from reelwright.pipelines.app.work.generations import (
    OfEvaluation,
    OneGeneration,
    about_evaluation,
    about_generation,
    evaluations,
)
from reelwright.pipelines.app.work.processes import Processes
from reelwright.pipelines.app.work.rater_links import RaterLinks
from reelwright.pipelines.app.work.ratings import Ratings
from reelwright.pipelines.app.work.reported import Reported
from reelwright.pipelines.app.work.trainings import Trainings
from reelwright.pipelines.app.work.watching import Watching, about_run
from reelwright.pipelines.evaluate.rating.routes import rating_routes
from reelwright.pipelines.runtime.serving.ranges import ranged
from reelwright.pipelines.runtime.serving.replies import answered, refused

BUILT = Path(__file__).parent.parent / "built"
PAGES = ("/runs", "/runs/{run}", "/models", "/models/{key}", "/evaluations", "/evaluations/{id}", "/generations/{id}",
         "/rate", "/commands")  # fmt: skip
"""All are one page, which reads its address."""
Arguments = dict[Annotated[str, Field(max_length=60)], Any]


@dataclass(frozen=True)
class Options:
    """What the command line says of these pages.

    Attributes:
        runs: folders of training runs, or folders of such folders.
        allow_commands: whether a page may start commands.
        work: folder in which commands run, and their paths lie.
        job_server: address of a Ray cluster's job server; empty: none.
        links: make the links of raters.
    """

    runs: Sequence[Path] = ()
    allow_commands: bool = False
    work: Path = Path()
    job_server: str = ""
    links: RaterLinks = field(default_factory=RaterLinks)


class OneRun(Strict):
    """A run by its id."""

    run: Name


class OneTraining(Strict):
    """A run of training by its key."""

    key: Name


class Asked(Strict):
    """A command with its arguments. on_cluster: as a Ray job."""

    command: Name
    arguments: Arguments = {}
    on_cluster: bool = False


class Work:
    """The state of these pages, and the threads that they run in.

    Args:
        store: to look at.
        options: of the command line.
    """

    def __init__(self, store: Store, options: Options) -> None:
        self.store = store
        self.watching = Watching(store)
        self.training = Trainings(store, options.runs)
        where = Where(store.uri, options.work.absolute())
        self.processes = Processes(where, is_allowed=options.allow_commands, server=options.job_server)
        self.reported = Reported(store)
        self.ratings = Ratings(store, options.links)
        self.pictures = Pictures(store, _whole_video(store))
        self.pool = ThreadPoolExecutor(3, "reel-app-work")
        self.slow = ThreadPoolExecutor(1, "reel-app-trace")
        self.rating = ThreadPoolExecutor(4, "reel-app-rate")

    # --- the API: each takes a checked request and returns what JSON holds ---------------------------------------

    def runs(self, asked: Strict) -> dict[str, Any]:
        """Return the funnel, failures and runs of the store as they are now."""
        return self.watching.now()

    def run(self, asked: OneRun) -> dict[str, Any]:
        """Return all about a run that ended."""
        return about_run(self.store, asked.run)

    def trainings(self, asked: Strict) -> dict[str, Any]:
        """List the runs of training."""
        return {"trainings": self.training.all()}

    def train(self, asked: OneTraining) -> dict[str, Any]:
        """Return the curves, samples and origin of a run of training."""
        return self.training.about(asked.key)

    def evaluations(self, asked: Strict) -> dict[str, Any]:
        """List the evaluations."""
        return {"evaluations": evaluations(self.store)}

    def evaluation(self, asked: OfEvaluation) -> dict[str, Any]:
        """Return a page of an evaluation's prompts with their videos."""
        return about_evaluation(self.store, asked)

    def generation(self, asked: OneGeneration) -> dict[str, Any]:
        """Return a generation beside the clips nearest to it."""
        return about_generation(self.store, asked)

    def studies(self, asked: Strict) -> dict[str, Any]:
        """List the studies of people's scores."""
        return self.ratings.all()

    def commands(self, asked: Strict) -> dict[str, Any]:
        """List what may be started, and what was."""
        here = self.processes
        return {"allowed": here.is_allowed, "work": str(here.where.work), "cluster": here.server,
                "forms": forms(), "started": here.all()}  # fmt: skip

    def command(self, asked: Asked) -> dict[str, Any]:
        """Return a command's line, to copy."""
        return {"line": line(self._words(asked))}

    def start_command(self, asked: Asked) -> dict[str, Any]:
        """Start a command."""
        words = self._words(asked)
        return {"key": self.processes.start(words), "line": line(words)}

    def stop_command(self, asked: OneTraining) -> dict[str, Any]:
        """Interrupt a command."""
        self.processes.stop(asked.key)
        return {"stopped": asked.key}

    def _words(self, asked: Asked) -> list[str]:
        words = command_words(asked.command, json.dumps(asked.arguments).encode(), self.processes.where)
        if not asked.on_cluster:
            return words
        if not self.processes.server:
            raise UserError("no cluster is named; begin reel app with --job-server http://HEAD:8265")
        return for_cluster(words, self.processes.server)

    def close(self) -> None:
        """End what was started."""
        self.processes.close()


WORK_API: dict[str, type[Any]] = {
    "runs": Strict, "run": OneRun, "trainings": Strict, "train": OneTraining, "evaluations": Strict,
    "evaluation": OfEvaluation, "generation": OneGeneration, "studies": Strict, "commands": Strict, "command": Asked,
    "start_command": Asked, "stop_command": OneTraining,
}  # fmt: skip
SLOW = ("generation",)
"""They may take many seconds: a model of captions is loaded."""


def work_routes(work: Work) -> list[BaseRoute]:
    """Return the routes of these pages."""
    served = _Served(work)
    return [
        *(Route(page, served.page, methods=["GET"]) for page in PAGES),
        Mount("/rate/{study}", routes=rating_routes(work.ratings.find, work.rating)),
        Route("/report", served.report, methods=["GET"]),
        Route("/samples/{key}/{step}/{name}", served.sample, methods=["GET"]),
        Route("/generated/{id}.mp4", served.video, methods=["GET"]),
        Route("/generated/{id}.jpg", served.picture, methods=["GET"]),
        *(Route(f"/api/{name}", served.api(name, model), methods=["POST"]) for name, model in WORK_API.items()),
    ]


class _Served:
    def __init__(self, work: Work) -> None:
        self.work = work

    def api(self, name: str, model: type[Any]) -> Any:
        return endpoint(model, self.work.slow if name in SLOW else self.work.pool, getattr(self.work, name))

    async def page(self, request: Request) -> Response:
        return FileResponse(BUILT / "work.html", media_type="text/html", headers={"cache-control": "no-cache"})

    async def report(self, request: Request) -> Response:
        return await answered(self.work.slow, lambda: Response(self.work.reported.page(), media_type="text/html"))

    async def sample(self, request: Request) -> Response:
        parts = request.path_params
        asked, is_head = request.headers.get("range"), request.method == "HEAD"

        def make() -> Response:
            file = _File(self.work.training.sample(parts["key"], parts["step"], parts["name"]))
            kind = "video/mp4" if file.path.suffix == ".mp4" else "image/png"
            return ranged(file, asked, media_type=kind, etag=file.mark, is_head=is_head)

        return await self._or_404(make, "there is no such sample")

    async def video(self, request: Request) -> Response:
        name, asked, is_head = request.path_params["id"], request.headers.get("range"), request.method == "HEAD"

        def make() -> Response:
            video = _Generated(self.work.store, name)
            mark = hashlib.sha256(name.encode()).hexdigest()[:24]
            return ranged(video, asked, media_type="video/mp4", etag=mark, is_head=is_head)

        return await self._or_404(make, "there is no such video")

    async def picture(self, request: Request) -> Response:
        def make() -> Response:
            try:
                jpeg = self.work.pictures.get(request.path_params["id"])
            except MediaError as error:
                raise UserError(error.message) from None
            return Response(jpeg, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

        return await self._or_404(make, "there is no picture of this video")

    async def _or_404(self, make: Callable[[], Response], why: str) -> Response:
        found = await answered(self.work.pool, make)
        return refused(why, 404) if found.status_code == 400 else found


def _whole_video(store: Store) -> Callable[[str], bytes]:
    def read(generation: str) -> bytes:
        video = store.open_generated(generation)
        return video.read_range(0, video.size)

    return read


class _File:
    """A file on the disk, of which parts are read. mark: names its content."""

    def __init__(self, path: Path) -> None:
        about = path.stat()
        self.path, self.size, self.mark = path, about.st_size, f"{about.st_mtime_ns:x}-{about.st_size:x}"

    def read(self, start: int, count: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(count)


class _Generated:
    """A generation's video, of which parts are read."""

    def __init__(self, store: Store, generation: str) -> None:
        self._video = store.open_generated(generation)
        self.size = self._video.size

    def read(self, start: int, count: int) -> bytes:
        return self._video.read_range(start, count)
