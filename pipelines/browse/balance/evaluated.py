"""The generations of an evaluation with one figure each, as far as the way back to the footage needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.errors import unknown_name
from reelwright.curation.store.evaluations import find_evaluation
from reelwright.curation.store.sql_text import identifier
from reelwright.evaluation.weakness import Scored

RATED = "mos:"
"""Prefix of a dimension that people or a judge rated, in place of a column of generations."""
DEFAULT_RATED = f"{RATED}overall"
FACTS = ("width", "height", "fps", "num_frames", "wall_s", "seed", "sample")
"""Numbers in generations that measure no quality."""


@dataclass(frozen=True)
class Evaluated:
    """One model's generations.

    Attributes:
        measure: the column, or mos:DIMENSION; with a minus sign where lower is better.
    """

    evaluation_id: str
    name: str
    model: str
    measure: str
    generations: list[Scored]


def read_evaluated(store: Store, evaluation: str, *, model: str = "", measure: str = "") -> Evaluated:
    """Read an evaluation's generations of one model, each with its value of a measure, higher being better.

    Args:
        store: that holds it.
        evaluation: its name, or the beginning of its id.
        model: by its name in the evaluation; empty: the only one.
        measure: a column of generations, or mos:DIMENSION for the mean of ratings; a minus sign before it: lower is
            better. Empty: mos:overall.

    Raises:
        StoreError: one of these is not there, or no generation has a value.
    """
    found = find_evaluation(store, evaluation)
    model = _model(found, model)
    measure = measure or DEFAULT_RATED
    name, sign = measure.removeprefix("-"), -1.0 if measure.startswith("-") else 1.0
    value = _rated(name) if name.startswith(RATED) else _measured(store, name)
    rows = store.sql(
        f"SELECT g.category, g.prompt_id, g.prompt, g.state, {value} AS value FROM generations g "
        "WHERE g.evaluation_id = $e AND g.model = $m ORDER BY g.generation_id",
        params={"e": found["evaluation_id"], "m": model, **({"d": name.removeprefix(RATED)} if "$d" in value else {})},
    ).to_pylist()
    scored = [
        Scored(row["category"] or "", row["prompt_id"], row["prompt"] or "", _signed(row, sign))
        for row in rows
        if row["value"] is not None or row["state"] == "failed"
    ]
    if not any(one.value is not None for one in scored):
        raise StoreError(
            f"no generation of {model} in the evaluation {found['name']} has a value of {name}; choose one with "
            f"--measure: {', '.join(_choices(store)) or 'none has been measured yet'}"
        )
    return Evaluated(found["evaluation_id"], found["name"], model, measure, scored)


def _model(found: dict[str, Any], model: str) -> str:
    models: Sequence[str] = found["models"] or []
    if model and model not in models:
        raise unknown_name(model, f"model of {found['name']}", models, see="reel evaluate --help")
    if not model and len(models) != 1:
        raise StoreError(f"{found['name']} compares {', '.join(models)}; choose one with --model.")
    return model or models[0]


def _rated(name: str) -> str:
    return "(SELECT avg(r.value) FROM ratings r WHERE r.generation_id = g.generation_id AND r.kind = 'mos' " \
           "AND r.dimension = $d)"  # fmt: skip


def _measured(store: Store, name: str) -> str:
    schema = store.schema("generations")
    if name not in schema.names:
        raise unknown_name(name, "measure", _choices(store), see="reel describe generations")
    kind = schema.field(name).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise StoreError(f"generations.{name} holds {kind}; a measure is a number.")
    return f"g.{identifier(name)}::DOUBLE"


def _choices(store: Store) -> list[str]:
    rated = store.sql("SELECT DISTINCT dimension FROM ratings WHERE kind = 'mos' ORDER BY 1")["dimension"].to_pylist()
    schema = store.schema("generations")
    numbers = [f.name for f in schema if pa.types.is_floating(f.type) and f.name not in FACTS]
    return [f"{RATED}{name}" for name in rated] + numbers


def _signed(row: dict[str, Any], sign: float) -> float | None:
    return None if row["state"] == "failed" else sign * float(row["value"])
