"""Which rewards a model has learned from: none of them may judge it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reelwright.evaluation.errors import EvaluationError
from reelwright.training.checkpoints import find_checkpoint, read_metadata
from reelwright.training.errors import TrainError
from reelwright.training.lineage import parents_of
from reelwright.training.rewards.contract import Reward
from reelwright.training.rewards.judge import Judge

FAMILIES = ("hpsv3", "videoalign")
"""Rewards whose name begins so are read from one model."""


def learned_from(path: Path, notes: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return the rewards that a network, its parents and its adapters were optimised by.

    Args:
        path: of a training checkpoint, or of weights.
        notes: records beside weights and LoRA files (about.json) that it is sampled with.

    Returns:
        Of each: label, name and models (ids with content hashes; empty where a record does not say them).
    """
    records: list[Mapping[str, Any]] = list(notes)
    try:
        metadata = read_metadata(find_checkpoint(path))
    except TrainError:
        pass
    else:
        records += [metadata, *parents_of(metadata)]
    for note in notes:
        records += parents_of(note)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for record in records:
        for one in _rewards(record):
            found.setdefault((one["label"], one["name"]), one)
    return list(found.values())


def refuse_learned(evaluators: Mapping[str, Reward], models: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Refuse evaluators that a model under test has learned from.

    Args:
        evaluators: label -> reward.
        models: model's name -> `learned_from`.

    Raises:
        EvaluationError: one is of the same model.
    """
    for label, evaluator in evaluators.items():
        for model, learned in models.items():
            for one in learned:
                if is_same(evaluator, one):
                    raise EvaluationError(
                        f"{label} ({evaluator.name}) cannot judge {model}, which was trained on it (reward "
                        f"{one['label']}); take another evaluator, or add --allow-trained-rewards, and say so beside "
                        "the figures"
                    )


def is_same(evaluator: Reward, learned: Mapping[str, Any]) -> bool:
    """Return whether an evaluator reads the same model as a reward that was learned from."""
    name = str(learned["name"])
    if any(name.startswith(family) and evaluator.name.startswith(family) for family in FAMILIES):
        return True
    known = set(learned.get("models") or ())
    if isinstance(evaluator, Judge):  # its prompt is a text, and stands among `models` too
        return name == "judge" and (not known or bool(known & set(evaluator.chat.models)))
    return name == evaluator.name if not known else bool(known & set(evaluator.models))


def _rewards(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the optimised rewards that a record tells of: in full, or by its recipe alone."""
    told = record.get("rewards")
    if isinstance(told, Mapping):
        for label, one in told.items():
            if isinstance(one, Mapping) and one.get("use") != "held out":
                real = one.get("served") or one  # of a service, the reward behind it
                yield {"label": label, "name": real.get("name") or label, "models": list(real.get("models") or ())}
        return
    objective = (record.get("recipe") or {}).get("objective") or record.get("objective") or {}
    for label, use in (objective.get("rewards") or {}).items():
        yield {"label": label, "name": use.get("kind") or label, "models": []}
