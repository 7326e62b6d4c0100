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
PEOPLE = "people"
"""After an @ behind the dimension: whose ratings; else the name of a judge's model."""
DEFAULT_RATED = f"{RATED}overall"
FACTS = ("width", "height", "fps", "num_frames", "wall_s", "seed", "sample")
"""Numbers in generations that measure no quality."""


@dataclass(frozen=True)
class Evaluated:
    """One model's generations.

    Attributes:
        measure: the column, or mos:DIMENSION@WHO; with a minus sign where lower is better.
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
        measure: a column of generations, or mos:DIMENSION for the mean of people's ratings, where there are none of
            those of the only judge, or mos:DIMENSION@WHO for those of `people` or of one judge; a minus sign before it:
            lower is better. Empty: mos:overall.

    Raises:
        StoreError: one of these is not there, or no generation has a value.
    """
    found = find_evaluation(store, evaluation)
    model = _model(found, model)
    measure = measure or DEFAULT_RATED
    name, sign = measure.removeprefix("-"), -1.0 if measure.startswith("-") else 1.0
    params = {"e": found["evaluation_id"], "m": model}
    if name.startswith(RATED):
        dimension, _, who = name.removeprefix(RATED).partition("@")
        who = who or _who(store, found["name"], dimension, params)
        value, params = _rated(who), params | {"d": dimension} | ({} if who == PEOPLE else {"who": who})
        measure = f"{'-' if sign < 0 else ''}{RATED}{dimension}@{who}"
    else:
        value = _measured(store, name)
    rows = store.sql(
        f"SELECT g.category, g.prompt_id, g.prompt, g.state, {value} AS value FROM generations g "
        "WHERE g.evaluation_id = $e AND g.model = $m ORDER BY g.generation_id",
        params=params,
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


def _who(store: Store, evaluation: str, dimension: str, params: dict[str, Any]) -> str:
    """Return whose ratings count where the user does not say: people's, else those of the only judge.

    Raises:
        StoreError: several judges rated it, whose scales need not be alike.
    """
    rows = store.sql(
        "SELECT DISTINCT r.is_human, r.rater FROM ratings r JOIN generations g USING (generation_id) "
        "WHERE g.evaluation_id = $e AND g.model = $m AND r.kind = 'mos' AND r.dimension = $d ORDER BY ALL",
        params=params | {"d": dimension},
    ).to_pylist()
    judges = [row["rater"] for row in rows if not row["is_human"]]
    if len(judges) == len(rows) and len(judges) > 1:
        choices = " or ".join(f"{RATED}{dimension}@{judge}" for judge in judges)
        raise StoreError(f"{evaluation} was rated by several judges; choose one with --measure {choices}.")
    return judges[0] if rows and len(judges) == len(rows) else PEOPLE


def _rated(who: str) -> str:
    """Return the mean of a video's first ratings by people, or by the judge $who."""
    whose = "r.is_human" if who == PEOPLE else "NOT r.is_human AND r.rater = $who"
    return "(SELECT avg(r.value) FROM ratings r WHERE r.generation_id = g.generation_id AND r.kind = 'mos' " \
           f"AND r.dimension = $d AND coalesce(r.repeat, 0) = 0 AND {whose})"  # fmt: skip


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
