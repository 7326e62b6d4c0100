"""Where a benchmark looks for a video: folder and file name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.vbench.benchmarks import Benchmark, benchmark_of

NAME_BYTES = 255  # of a file's name on common file systems
NEVER = "/\0"


def places(generations: Sequence[Mapping[str, Any]]) -> dict[str, list[PurePosixPath]]:
    """Return generation_id -> paths below the export of one model's videos.

    Args:
        generations: rows of `generations` of one model, with `dimensions`.

    Raises:
        EvaluationError: a row has no dimension, a prompt cannot be a file's name, or two videos would share one.
    """
    lacking = next((row for row in generations if not row["dimensions"]), None)
    if lacking:
        raise EvaluationError(f"prompt {lacking['prompt_id']} has no benchmark's dimension; evaluate with its own list")
    benchmark = benchmark_of([one for row in generations for one in row["dimensions"]])
    found: dict[str, list[PurePosixPath]] = {}
    taken: dict[PurePosixPath, str] = {}
    for row in generations:
        name = _file_name(row, benchmark)
        folders = row["dimensions"] if benchmark.folders else [""]
        found[row["generation_id"]] = [PurePosixPath(folder, name) for folder in folders]
        for path in found[row["generation_id"]]:
            if taken.setdefault(path, row["prompt_id"]) != row["prompt_id"]:
                raise EvaluationError(f"prompts {taken[path]} and {row['prompt_id']} would share the file {path}")
    return found


def _file_name(row: Mapping[str, Any], benchmark: Benchmark) -> str:
    prompt = row["short_prompt"] or row["prompt"]
    kept = prompt[: benchmark.name_characters] if benchmark.name_characters else prompt
    name = f"{kept}-{row['sample']}.mp4"
    if any(c in name for c in NEVER) or len(name.encode()) > NAME_BYTES:
        raise EvaluationError(f"prompt {row['prompt_id']} cannot be a file's name, and {benchmark.name} wants it to be")
    return name
