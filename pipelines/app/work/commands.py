"""The commands that a page may hand out or start: a list of its own, each argument checked before it is one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field

from reelwright.errors import UserError
from reelwright.pipelines.app.view import Strict

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,119}$")]
MaybeWord = Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.+-]{0,119})?$")]
Sql = Annotated[str, Field(max_length=20_000, pattern=r"^[^\x00]*$")]
Place = Annotated[str, Field(max_length=1_000, pattern=r"^[^\x00]*$")]
"""A path in the work folder."""
Evaluation = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
Count = Annotated[int, Field(ge=1, le=2**31)]
Profile = Literal["", "cpu", "full"]


@dataclass(frozen=True)
class Where:
    """Where a command runs: of which store, and in which folder its paths lie."""

    store: str
    work: Path

    def inside(self, text: str, what: str) -> str:
        """Return a path in the work folder, as a command takes it. Raises UserError for one that leads out of it."""
        path = (self.work / text).resolve()
        if not text.strip() or not path.is_relative_to(self.work.resolve()) or "://" in text:
            raise UserError(f"{what} lies in the folder of the app, {self.work}; {text[:80]!r} does not")
        return str(path)


class Curate(Strict):
    """Turn footage into clips."""

    inputs: Annotated[list[Place], Field(min_length=1, max_length=50, description="files or folders")]
    recipe: Annotated[Place, Field(description="YAML recipe")] = ""
    profile: Annotated[Profile, Field(description="annotators")] = ""
    retry_failed: Annotated[bool, Field(description="try again what failed before")] = False

    def words(self, where: Where) -> list[str]:
        """Return the command."""
        words = ["curate", *_option("store", where.store), *_option("profile", self.profile)]
        words += _option("recipe", self.recipe and where.inside(self.recipe, "a recipe"))
        words += _flag("retry-failed", self.retry_failed)
        return [*words, *(where.inside(one, "footage") for one in self.inputs)]


class Annotate(Strict):
    """Compute values that are missing or stale."""

    only: Annotated[list[Word], Field(max_length=50, description="only these annotators")] = []
    where: Annotated[Sql, Field(description="SQL condition on clips")] = ""
    recipe: Annotated[Place, Field(description="YAML recipe")] = ""
    profile: Annotated[Profile, Field(description="annotators")] = ""
    retry_failed: Annotated[bool, Field(description="try again what failed before")] = False
    plan: Annotated[bool, Field(description="only say what there is to do")] = False

    def words(self, where: Where) -> list[str]:
        """Return the command."""
        words = ["annotate", *_option("store", where.store), *_option("where", self.where.strip())]
        words += [word for name in self.only for word in _option("only", name)]
        words += _option("recipe", self.recipe and where.inside(self.recipe, "a recipe"))
        words += _option("profile", self.profile)
        return words + _flag("retry-failed", self.retry_failed) + _flag("plan", self.plan)


class Snapshot(Strict):
    """Freeze the clips that a query returns."""

    name: Word
    sql: Annotated[Sql, Field(min_length=1, description="a SELECT that returns clip_id")]
    limit: Annotated[Count | None, Field(description="draw so many")] = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    weights: Annotated[MaybeWord, Field(description="column of the query that weighs clips")] = ""
    balance: Annotated[Literal["", "density", "cluster"], Field(description="weigh clips inversely to this")] = ""
    distinct: Annotated[bool, Field(description="one clip of near duplicates")] = False

    def words(self, where: Where) -> list[str]:
        """Return the command."""
        words = ["snapshot", "create", self.name, *_option("store", where.store), *_option("sql", self.sql)]
        words += _option("limit", str(self.limit or ""))
        words += _option("weights", self.weights) + _option("balance", self.balance)
        return words + _option("seed", str(self.seed or "")) + _flag("distinct", self.distinct)


class Export(Strict):
    """Write a snapshot's clips and captions for other tools."""

    out: Annotated[Place, Field(min_length=1, description="folder to write")]
    snapshot: Annotated[MaybeWord, Field(description="a snapshot, or a query below")] = ""
    sql: Annotated[Sql, Field(description="a SELECT that returns clip_id")] = ""
    format: Annotated[MaybeWord, Field(description="webdataset, videofolder and others: reel export --formats")] = ""
    force: Annotated[bool, Field(description="replace an earlier export there")] = False

    def words(self, where: Where) -> list[str]:
        """Return the command."""
        if bool(self.snapshot) == bool(self.sql.strip()):
            raise UserError("an export is of a snapshot or of a query: give one of them")
        words = ["export", where.inside(self.out, "an export"), *_option("store", where.store)]
        words += _option("format", self.format) + _option("snapshot", self.snapshot)
        return words + _option("sql", self.sql.strip()) + _flag("force", self.force)


class Train(Strict):
    """Train a recipe on a snapshot."""

    recipe: Annotated[Place, Field(min_length=1, description="YAML recipe")]
    snapshot: Word
    steps: Annotated[Count | None, Field(description="in place of the recipe's")] = None
    out: Annotated[Place, Field(description="folder of runs")] = "runs"

    def words(self, where: Where) -> list[str]:
        """Return the command."""
        words = ["train", where.inside(self.recipe, "a recipe"), *_option("snapshot", self.snapshot)]
        words += _option("store", where.store) + _option("out", where.inside(self.out, "a run"))
        return words + _option("steps", str(self.steps or ""))


class Evaluate(Strict):
    """Measure the videos of an evaluation that is there."""

    name: Annotated[Evaluation, Field(min_length=1, description="the evaluation")]
    measures: Annotated[list[Word], Field(max_length=50, description="default: the usual ones")] = []

    def words(self, where: Where) -> list[str]:
        """Return the command."""
        words = ["evaluate", *_option("name", self.name), *_option("store", where.store)]
        return words + [word for name in self.measures for word in _option("measure", name)]


class EvaluationPage(Strict):
    """Write the page of an evaluation, with intervals."""

    name: Annotated[Evaluation, Field(min_length=1, description="the evaluation")]
    out: Annotated[Place, Field(description="HTML file")] = "evaluation.html"

    def words(self, where: Where) -> list[str]:
        """Return the command."""
        out = where.inside(self.out, "a page")
        return ["evaluate", *_option("report", self.name), *_option("out", out), *_option("store", where.store)]


class Report(Strict):
    """Write the store's report as one HTML file."""

    out: Annotated[Place, Field(description="HTML file")] = "report.html"
    where: Annotated[Sql, Field(description="SQL condition on clips")] = ""

    def words(self, where: Where) -> list[str]:
        """Return the command."""
        words = ["report", *_option("out", where.inside(self.out, "a report")), *_option("store", where.store)]
        return words + _option("where", self.where.strip())


class Cleanup(Strict):
    """Merge small files, and delete versions that no snapshot pins."""

    keep_hours: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False, description="hours that stay")] = 24.0

    def words(self, where: Where) -> list[str]:
        """Return the command."""
        return ["cleanup", *_option("keep-hours", f"{self.keep_hours:g}"), *_option("store", where.store)]


COMMANDS: dict[str, type[Any]] = {
    "curate": Curate, "annotate": Annotate, "snapshot": Snapshot, "export": Export, "train": Train,
    "evaluate": Evaluate, "evaluation-page": EvaluationPage, "report": Report, "cleanup": Cleanup,
}  # fmt: skip
"""All that a page can start."""
ON_CLUSTER = ("curate", "annotate", "train")
"""Commands that `reel submit` takes with the same arguments."""


def command_words(name: str, arguments: bytes, where: Where) -> list[str]:
    """Return a command as a list of arguments, `reel` left out.

    Args:
        name: one of COMMANDS.
        arguments: JSON of its arguments.
        where: its store and folder.

    Raises:
        UserError: there is no such command, or an argument is wrong.
    """
    from reelwright.pipelines.app.view import parse

    if name not in COMMANDS:
        raise UserError(f"{name[:40]!r} is no command of this page; there are {', '.join(COMMANDS)}")
    words: list[str] = parse(COMMANDS[name], arguments).words(where)
    return words


def for_cluster(words: Sequence[str], server: str) -> list[str]:
    """Return the command that submits another as a job of a Ray cluster. Raises UserError where it cannot be one."""
    if words[0] not in ON_CLUSTER:
        raise UserError(f"reel {words[0]} is not submitted as a job; {', '.join(ON_CLUSTER)} are")
    return ["submit", words[0], f"--address={server}", "--no-wait", *words[1:]]


def line(words: Sequence[str]) -> str:
    """Return a command as a shell takes it."""
    return shlex.join(["reel", *words])


def forms() -> list[dict[str, Any]]:
    """Return what a page needs to ask for each command's arguments."""
    return [
        {"name": name, "about": (model.__doc__ or "").strip(), "on_cluster": name in ON_CLUSTER,
         "fields": [_field(key, one) for key, one in model.model_fields.items()]}
        for name, model in COMMANDS.items()
    ]  # fmt: skip


def _field(name: str, info: Any) -> dict[str, Any]:
    kinds: list[tuple[Callable[[Any], bool], str]] = [
        (lambda t: t is bool, "truth"), (lambda t: get_origin(t) is list, "list"),
        (lambda t: get_origin(t) is Literal, "choice"),
        (lambda t: t in (int, float) or int in _plain(t), "number"),
    ]  # fmt: skip
    kind = next((label for test, label in kinds if test(info.annotation)), "text")
    choices = list(get_args(info.annotation)) if kind == "choice" else []
    default = None if info.is_required() else info.default
    return {"name": name, "kind": kind, "choices": choices, "default": default, "about": info.description or "",
            "is_required": info.is_required(), "is_long": name in ("sql", "where")}  # fmt: skip


def _plain(annotation: Any) -> list[Any]:
    return [get_args(one)[0] if get_origin(one) is Annotated else one for one in get_args(annotation)]


def _option(name: str, value: str) -> list[str]:
    return [f"--{name}={value}"] if value else []


def _flag(name: str, is_set: bool) -> list[str]:
    return [f"--{name}"] if is_set else []
