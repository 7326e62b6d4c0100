"""`reel evaluate --export-vbench` and `--import-vbench`: videos out to a benchmark's own program, its results back."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from reelwright.errors import UserError
from reelwright.evaluation.vbench.layout import places
from reelwright.evaluation.vbench.scores import Scores, aggregate, read_results

COLUMNS = ["generation_id", "model", "prompt_id", "prompt", "short_prompt", "dimensions", "sample", "state"]
RECORD = "videos.json"
SCORES = field("benchmark_scores", pa.string(), "model -> scores of its benchmark, by dimension and category: JSON")


@dataclass(frozen=True)
class Exported:
    """Videos laid out for a benchmark. missing: videos that it wants and that failed or are not made."""

    folders: list[Path]
    files: int
    missing: int


def export_vbench(store: Store, evaluation: str, folder: Path) -> Exported:
    """Lay out the videos of an evaluation, DIR/MODEL/…, as its benchmark expects them.

    Args:
        store: has them.
        evaluation: its id.
        folder: to write to; what it has of this evaluation stays.

    Raises:
        EvaluationError: the suite is of no benchmark.
        UserError: the folder cannot be written to, or has other videos.
    """
    row = store.read("evaluations", ["wanted", "models"], f"evaluation_id = '{evaluation}'").to_pylist()[0]
    rows = store.read("generations", COLUMNS, f"evaluation_id = '{evaluation}'").to_pylist()
    if not rows:
        raise UserError("the evaluation has no videos yet; run it first")
    written, folders = 0, []
    for model in row["models"]:
        some = [one for one in rows if one["model"] == model]
        below = folder / re.sub(r"[^A-Za-z0-9._@-]+", "-", model)
        folders.append(below)
        written += _write(store, places(some), {one["generation_id"] for one in some if one["state"] == "ok"}, below)
    return Exported(folders, written, row["wanted"] - sum(one["state"] == "ok" for one in rows))


def _write(store: Store, where: dict[str, list[Any]], ok: set[str], folder: Path) -> int:
    """Write a model's videos; its record beside the folder says which generation each file is."""
    record = folder.with_name(f"{folder.name}.{RECORD}")
    wanted = {str(one): name for name, some in where.items() for one in some if name in ok}
    try:
        there = {str(file.relative_to(folder)) for file in folder.rglob("*.mp4")} if folder.is_dir() else set()
        known = json.loads(record.read_text("utf-8")) if record.is_file() else {}
        if strangers := sorted(there - wanted.keys()):
            raise UserError(
                f"{folder} has {len(strangers)} videos that are not this evaluation's, such as {strangers[0]}; the "
                "benchmark would count them: choose another folder"
            )
        for name in there:
            if known.get(name) != wanted[name]:  # another evaluation's, or a video that has been made again since
                (folder / name).unlink()
        folder.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
        todo = {name: [folder / one for one in some if not (folder / one).is_file()] for name, some in where.items()}
        for name, mp4 in store.read_generated(name for name, files in todo.items() if files and name in ok):
            for file in todo[name]:
                file.parent.mkdir(parents=True, exist_ok=True)
                part = file.with_name("video.part")  # a name of a long prompt has no room for another ending
                part.write_bytes(mp4)
                part.replace(file)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write to {folder} ({why}); choose another folder") from error
    return sum(len(some) for name, some in where.items() if name in ok)


def import_vbench(texts: Sequence[str]) -> dict[str, Scores]:
    """Read a benchmark's results of models: MODEL=PATH, or PATH alone.

    Args:
        texts: a path may be a file, or a folder of all `*_eval_results.json` in it; several of one model belong
            together.

    Returns:
        model -> scores; the model is empty for a path alone.
    """
    paths: dict[str, list[Path]] = {}
    for text in texts:
        model, equals, path = text.partition("=")
        named = bool(equals) and not Path(text).exists()
        paths.setdefault(model if named else "", []).append(Path(path if named else text))
    return {model: aggregate(read_results(some)) for model, some in paths.items()}


def keep_scores(store: Store, evaluation: str, scores: dict[str, Scores]) -> None:
    """Write scores of named models to the evaluation's row. Raises UserError for a model that it lacks."""
    condition = f"evaluation_id = '{evaluation}'"
    [models] = store.read("evaluations", ["models"], condition).column(0).to_pylist()
    for model in scores:
        if model not in models:
            raise UserError(f"the evaluation has no model {model}; write MODEL=PATH with one of {', '.join(models)}")
    with store.committing("evaluation"):
        store.ensure_columns("evaluations", [SCORES])
        [before] = store.read("evaluations", [SCORES.name], condition).column(0).to_pylist()
        told = {model: {"benchmark": one.benchmark, "dimensions": dict(one.dimensions),
                        "categories": dict(one.categories), "total": one.total, "missing": list(one.missing)}
                for model, one in scores.items()}  # fmt: skip
        said = json.dumps({**json.loads(before or "{}"), **told})
        schema = pa.schema([pa.field("evaluation_id", pa.string()), SCORES])
        rows = pa.Table.from_pylist([{"evaluation_id": evaluation, SCORES.name: said}], schema)
        store.merge("evaluations", rows, on="evaluation_id")


def scores_text(model: str, scores: Scores) -> str:
    """Return one model's categories and total; where dimensions are missing, which, and no total."""
    head = f"{model or 'results'}: {scores.benchmark}, {len(scores.dimensions)} dimensions"
    lines = [head, *(f"  {name}: {100 * value:.2f}" for name, value in scores.categories.items())]
    if scores.total is not None:
        lines.append(f"  total: {100 * scores.total:.2f}")
    else:
        lines.append(f"  no total: {', '.join(scores.missing)} missing")
    return "\n".join(lines)
