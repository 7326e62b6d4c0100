"""A benchmark's results: read, aggregated as published, and refused while a dimension is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.vbench.benchmarks import Benchmark, benchmark_of

RESULTS = "*_eval_results.json"
MOST_BYTES = 256 << 20  # of a file of results, which lists every video


@dataclass(frozen=True)
class Scores:
    """Scores of one model, 0 to 1.

    Args:
        benchmark: its name.
        dimensions: dimension -> score as the benchmark wrote it.
        categories: category -> mean of its scaled dimensions; only where all are there.
        total: None where a dimension is missing.
        missing: those dimensions.
    """

    benchmark: str
    dimensions: Mapping[str, float]
    categories: Mapping[str, float]
    total: float | None
    missing: Sequence[str]

    def require_total(self) -> float:
        """Return the total. Raises EvaluationError that names the missing dimensions."""
        if self.total is None:
            raise EvaluationError(
                f"{self.benchmark}: no total without {', '.join(self.missing)} ({len(self.missing)} of "
                f"{len(self.missing) + len(self.dimensions)} dimensions); its own script would count each as 0"
            )
        return self.total


def read_results(paths: Sequence[Path]) -> dict[str, float]:
    """Read dimension -> score from the benchmark's files `*_eval_results.json`; a folder stands for all in it.

    Raises:
        EvaluationError: there are none, one cannot be read, or two disagree.
    """
    files = [file for path in paths for file in (sorted(path.rglob(RESULTS)) if path.is_dir() else [path])]
    if not files:
        raise EvaluationError(f"{', '.join(map(str, paths))}: there is no {RESULTS}")
    found: dict[str, float] = {}
    for file in files:
        for dimension, score in _read(file).items():
            if found.setdefault(dimension, score) != score:
                other = found[dimension]
                raise EvaluationError(f"{file}: {dimension} is {score:g} here, and {other:g} in another file")
    return found


def aggregate(scores: Mapping[str, float]) -> Scores:
    """Return categories and total of a benchmark's scores by dimension, as published.

    Raises:
        EvaluationError: a dimension belongs to no benchmark, or a score is not from 0 to 1.
    """
    benchmark = benchmark_of(list(scores))
    for dimension, score in scores.items():
        if not (math.isfinite(score) and 0 <= score <= 1):
            raise EvaluationError(f"{dimension} is {score}; a score of {benchmark.name} lies between 0 and 1")
    missing = [dimension for dimension in benchmark.dimensions if dimension not in scores]
    categories = {name: _category(benchmark, dimensions, scores) for name, dimensions in benchmark.categories.items()
                  if not set(dimensions) & set(missing)}  # fmt: skip
    total = None if missing else sum(benchmark.weights[name] * value for name, value in categories.items())
    return Scores(benchmark.name, dict(scores), categories, total, missing)


def _category(benchmark: Benchmark, dimensions: Sequence[str], scores: Mapping[str, float]) -> float:
    weights = [benchmark.dimension_weights.get(one, 1.0) for one in dimensions]
    scaled = [_scaled(benchmark, one, scores[one]) * weight for one, weight in zip(dimensions, weights, strict=True)]
    return sum(scaled) / sum(weights)


def _scaled(benchmark: Benchmark, dimension: str, score: float) -> float:
    least, most = benchmark.ranges.get(dimension, (0.0, 1.0))
    return (score - least) / (most - least)


def _read(file: Path) -> dict[str, float]:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise EvaluationError(f"{file} has over {MOST_BYTES >> 20} MiB, and no file of results has")
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{file} cannot be read as results ({error})") from error
    if not isinstance(data, Mapping):
        raise EvaluationError(f"{file}: results are {{dimension: [score, videos]}}")
    return {str(name).replace(" ", "_"): _score(file, name, value) for name, value in data.items()}


def _score(file: Path, name: str, value: Any) -> float:
    """Results hold [score, list of videos]; a plain number is taken too."""
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, bool) or not isinstance(first, int | float):
        raise EvaluationError(f"{file}: the score of {name} is {str(first)[:60]!r}, and a number is wanted")
    return float(first)
