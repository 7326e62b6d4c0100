"""A benchmark's full-info JSON as a suite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.suites.suite import Prompt, Suite
from reelwright.evaluation.vbench.benchmarks import benchmark_of


def from_full_info(path: Path, data: Any) -> Suite:
    """Return the suite of a full-info file: a list of {prompt_en, dimension: [...], auxiliary_info}.

    A prompt that stands there several times, for several dimensions, is generated once. A longer prompt that was
    written from it may stand beside it under `prompt_long`: models are then asked for that one, and files are named by
    the short one.

    Raises:
        EvaluationError: the file is none, or holds a dimension that no benchmark has.
    """
    if not isinstance(data, list) or not data:
        raise EvaluationError(f"{path}: a benchmark's full info is a list of {{prompt_en, dimension}}")
    found: dict[tuple[str, str], list[str]] = {}
    for i, row in enumerate(data):
        if not isinstance(row, Mapping) or not isinstance(row.get("prompt_en"), str) or not row.get("dimension"):
            raise EvaluationError(f"{path}, entry {i + 1}: prompt_en or dimension is missing")
        said = row["dimension"]
        dimensions = [said] if isinstance(said, str) else [str(one) for one in said]
        kept = found.setdefault((row["prompt_en"], row.get("prompt_long") or row["prompt_en"]), [])
        kept += [one for one in dimensions if one not in kept]
    benchmark = benchmark_of([one for some in found.values() for one in some])
    category = {one: name for name, some in benchmark.categories.items() for one in some}
    prompts = [
        Prompt(
            id=f"{benchmark.name}-{i + 1:04d}",
            text=long,
            category=category[dimensions[0]],
            short=None if long == short else short,
            dimensions=tuple(dimensions),
            samples=benchmark.samples_of(dimensions),
        )
        for i, ((short, long), dimensions) in enumerate(found.items())
    ]
    return Suite(path.stem, prompts, benchmark.name)
