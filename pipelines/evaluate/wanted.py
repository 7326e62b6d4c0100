"""The generations that an evaluation asks for: its identity, and each one's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.suites.suite import Prompt, Suite
from reelwright.pipelines.evaluate.generating import Job
from reelwright.pipelines.evaluate.models import Model

SHARED = ("width", "height", "frames", "fps", "segments", "overlap")
"""Settings that are equal for all models of an evaluation; others are as each model was trained, unless given."""


@dataclass(frozen=True)
class Wanted:
    """A generation before it is made: its job, and the facts of its row that are known by then."""

    job: Job
    row: dict[str, Any]


def shared_settings(models: Sequence[Model], seed: int) -> dict[str, Any]:
    """Return the settings that an evaluation's models share.

    Raises:
        EvaluationError: models differ in one that must be equal.
    """
    flats = [model.deciding(task) for model in models for task in model.settings]
    for name in SHARED:
        values = {json.dumps(flat[name]) for flat in flats}
        if len(values) > 1:
            raise EvaluationError(f"models would be sampled with {name} {' and '.join(sorted(values))}; give one value")
    equal = {name for name in flats[0] if all(flat[name] == flats[0][name] for flat in flats)}
    return {"seed": seed, **{name: flats[0][name] for name in sorted({*SHARED, *equal})}}


def evaluation_id(name: str, suite: Suite, settings: dict[str, Any]) -> str:
    """Return 16 hex digits over the name, the prompts, and what all models must share.

    Models are left out, so that one more can be added to an evaluation.
    """
    kept = {key: settings[key] for key in ("seed", *SHARED)}
    return _digest([name, suite.hash, kept])


def default_name(suite: Suite, settings: dict[str, Any]) -> str:
    """Return the name of an evaluation that got none."""
    return f"{suite.name}-{evaluation_id('', suite, settings)[:6]}"


def wanted(evaluation: str, suite: Suite, models: Sequence[Model], seed: int) -> Iterator[Wanted]:
    """Yield every generation, model by model in the order of the suite."""
    for model in models:
        for prompt in suite.prompts:
            for sample in range(prompt.samples):
                yield _wanted(evaluation, prompt, model, sample, seed + sample)


def _wanted(evaluation: str, prompt: Prompt, model: Model, sample: int, seed: int) -> Wanted:
    md5 = md5_of(prompt.reference) if prompt.reference else None
    settings = model.deciding(prompt.task)
    name = _digest([evaluation, model.name, model.fingerprint, prompt.id, prompt.text, md5, seed, settings])
    row = {
        "generation_id": name,
        "evaluation_id": evaluation,
        "model": model.name,
        "model_fingerprint": model.fingerprint,
        "prompt_id": prompt.id,
        "prompt": prompt.text,
        "short_prompt": prompt.short,
        "category": prompt.category,
        "prompt_kind": prompt.plain_kind,
        "dimensions": list(prompt.dimensions) or None,
        "task": prompt.task,
        "reference_md5": md5,
        "sample": sample,
        "seed": seed,
    }
    return Wanted(Job(name, prompt.text, prompt.task, seed, prompt.reference), row)


@lru_cache(maxsize=4096)
def md5_of(path: Path) -> str:
    """Return a reference's MD5; it is read once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
