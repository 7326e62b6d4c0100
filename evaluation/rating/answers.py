"""Answers: read from whatever a browser or a file sends, and what they call for next."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reelwright.errors import UserError
from reelwright.evaluation.rating.scales import CHECK, PREFERENCES
from reelwright.evaluation.rating.study import Study, Task

DISAGREE_MOS = 2
"""Points between the lowest and the highest answer in a dimension from which an item gets further raters."""
MAX_SECONDS = 86_400.0


@dataclass(frozen=True)
class Answer:
    """What a rater said to a task.

    Args:
        rater: the person.
        task_id: the task.
        values: by dimension; of a pair from the first model's side, whatever side it was shown on.
        seconds: from showing to answer.
    """

    rater: str
    task_id: str
    values: Mapping[str, int]
    seconds: float


def read_answer(study: Study, rater: Any, sent: Any) -> Answer:
    """Check an answer from outside.

    A dimension of the study that is not asked about this item may be answered too, as earlier pages asked it.

    Args:
        study: the study.
        rater: who says to answer.
        sent: {"task_id": …, "values": {dimension: number}, "seconds": …}; of a pair, 1 is for the video shown first.

    Raises:
        UserError: it is no answer to a task of this rater.
    """
    if not isinstance(rater, str) or rater not in study.base:
        raise UserError("the rater is not one of the study's")
    if not isinstance(sent, dict) or not isinstance(sent.get("task_id"), str):
        raise UserError("an answer is an object with task_id, values and seconds")
    task = task_of(study, rater, sent["task_id"])
    if task is None:
        raise UserError("the task is not one of this rater's")
    values = sent.get("values")
    asked = study.asked(task.item_id)
    if not isinstance(values, dict) or not set(asked) <= set(values) <= set(study.settings.dimensions):
        raise UserError(f"an answer has a value for each of {', '.join(asked)}")
    allowed = range(1, 6) if study.settings.kind == "mos" else PREFERENCES
    if not all(type(value) is int and value in allowed for value in values.values()):
        raise UserError(f"a value is one of {', '.join(map(str, allowed))}")
    seconds = sent.get("seconds", 0.0)
    if type(seconds) not in (int, float) or not math.isfinite(seconds) or not 0 <= seconds <= MAX_SECONDS:
        raise UserError(f"seconds are a number from 0 to {MAX_SECONDS:g}")
    sign = -1 if task.is_swapped else 1
    kept = {name: sign * values[name] for name in study.settings.dimensions if name in values}
    return Answer(rater, task.task_id, kept, float(seconds))


def as_shown(task: Task, values: Mapping[str, int]) -> dict[str, int]:
    """Return an answer's values from the side of the video that was shown first, as `read_answer` takes them."""
    return {name: -value if task.is_swapped else value for name, value in values.items()}


def task_of(study: Study, rater: str, task_id: str) -> Task | None:
    """Return a rater's task, or None."""
    return next((t for t in (*study.base[rater], *study.extra[rater]) if t.task_id == task_id), None)


def rows_of(study: Study, answer: Answer) -> list[dict[str, Any]]:
    """Return the answer as rows of the table `ratings`, one per dimension; the same answer has the same ids."""
    task = task_of(study, answer.rater, answer.task_id)
    assert task is not None
    item = study.items[task.item_id]
    is_check = task.expected is not None
    first, other = (None, None) if is_check else (item.generation_id, item.other_id)  # a check says nothing of them
    whole = {
        "evaluation_id": study.evaluation_id, "study_id": study.study_id, "item_id": item.item_id,
        "kind": CHECK if is_check else study.settings.kind, "generation_id": first, "other_id": other,
        "expected": None if task.expected is None else float(task.expected),
        "rater": answer.rater, "is_human": True,
        "shown_first": (other if task.is_swapped else first) if other else None,
        "repeat": task.repeat, "seconds": answer.seconds,
    }  # fmt: skip
    return [
        whole | {"rating_id": rating_id(study, answer, name), "dimension": name, "value": float(value)}
        for name, value in answer.values.items()
    ]


def rating_id(study: Study, answer: Answer, dimension: str) -> str:
    """Return the key of one row: an answer that is sent twice is one row."""
    return hashlib.sha256(f"{study.study_id}\x1f{answer.task_id}\x1f{dimension}".encode()).hexdigest()[:32]


def answers_of(study: Study, rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Answer]:
    """Return the answers that rows of `ratings` hold, by rater and task."""
    tasks = {
        (rater, task.item_id, task.repeat, task.expected): task.task_id
        for part in (study.base, study.extra)
        for rater, mine in part.items()
        for task in mine
    }
    values: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    seconds: dict[tuple[str, str], float] = {}
    for row in rows:
        expected = None if row["expected"] is None else int(row["expected"])
        task_id = tasks.get((row["rater"], row["item_id"], row["repeat"], expected))
        if row["study_id"] == study.study_id and task_id:
            values[row["rater"], task_id][row["dimension"]] = int(row["value"])
            seconds[row["rater"], task_id] = row["seconds"] or 0.0
    return {key: Answer(*key, found, seconds[key]) for key, found in values.items()}


def disagreed(study: Study, answers: Mapping[tuple[str, str], Answer]) -> set[str]:
    """Return the items whose raters disagree much, once all of the planned ones have answered.

    mos: in some dimension, the highest and the lowest answer lie 2 or more points apart. gsb: in some dimension, one
    prefers the first video and another the other.
    """
    planned: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for rater, tasks in study.base.items():
        for task in tasks:
            if not task.repeat and task.expected is None:
                planned[task.item_id].append((rater, task.task_id))
    found = set()
    for item_id, keys in planned.items():
        given = [answers[key] for key in keys if key in answers]
        if len(given) == len(keys) and any(
            _is_far([answer.values[name] for answer in given], study.settings.kind)
            for name in study.asked(item_id)
        ):
            found.add(item_id)
    return found


def _is_far(values: list[int], kind: str) -> bool:
    return max(values) - min(values) >= (DISAGREE_MOS if kind == "mos" else 2)


def tasks_now(study: Study, rater: str, answers: Mapping[tuple[str, str], Answer]) -> list[Task]:
    """Return a rater's tasks in order: the planned ones, then items on which the others disagree."""
    far = disagreed(study, answers)
    return [*study.base[rater], *(task for task in study.extra[rater] if task.item_id in far)]


@dataclass(frozen=True)
class Progress:
    """How far a rater is: tasks answered, tasks so far, seconds of an answer in the middle.

    checks: attention checks that were answered. passed: those of them in which every answer is the one asked for.
    """

    answered: int
    tasks: int
    median_s: float
    checks: int = 0
    passed: int = 0


def progress(study: Study, answers: Mapping[tuple[str, str], Answer]) -> dict[str, Progress]:
    """Return each rater's progress."""
    found = {}
    for rater in study.settings.raters:
        tasks = tasks_now(study, rater, answers)
        given = sorted(answers[rater, t.task_id].seconds for t in tasks if (rater, t.task_id) in answers)
        checks = [
            set(answers[rater, t.task_id].values.values()) == {t.expected}
            for t in tasks
            if t.expected is not None and (rater, t.task_id) in answers
        ]
        median = given[len(given) // 2] if given else 0.0
        found[rater] = Progress(len(given), len(tasks), median, len(checks), sum(checks))
    return found
