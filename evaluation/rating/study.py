"""A study as a plan: which items each rater sees, in which order and on which side; a pure function of its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from reelwright.errors import UserError
from reelwright.evaluation.rating.scales import DIMENSIONS, KINDS, PREFERENCES, is_asked

MAX_NAME = 60
MIN_FOR_REPEATS = 6
"""Items of a rater below which none is shown again: it would come back too soon to be forgotten."""
MIN_FOR_CHECKS = 6
"""Items of a rater below which there is no attention check."""


@dataclass(frozen=True)
class Item:
    """A video, or a pair of videos of one prompt.

    Args:
        item_id: hash of its generations.
        generation_id: the video; of a pair, the first model's.
        other_id: the other model's video; None for mos.
        prompt: what was asked for.
        task: t2v, i2v, vc.
        picture: id of the picture that it begins with, in `reference_pictures`; empty: none.
    """

    item_id: str
    generation_id: str
    other_id: str | None
    prompt: str
    task: str = "t2v"
    picture: str = ""

    @classmethod
    def of(
        cls, generation_id: str, other_id: str | None, prompt: str, task: str = "t2v", picture: str = ""
    ) -> Item:
        """Return the item with its id."""
        return cls(_hash(generation_id, other_id or "")[:16], generation_id, other_id, prompt, task, picture)


@dataclass(frozen=True)
class Task:
    """An item as one rater sees it.

    Args:
        task_id: hash of study, item, rater and repeat; says nothing to whoever reads it.
        item_id: the item.
        repeat: 0; 1 where the rater has seen it before.
        is_swapped: whether the other model's video is shown first.
        expected: of an attention check: the answer that its text asks for; None of all others.
    """

    task_id: str
    item_id: str
    repeat: int
    is_swapped: bool
    expected: int | None = None


@dataclass(frozen=True)
class Settings:
    """What a study is planned from, beside its items.

    Args:
        kind: mos: videos one by one on scales of 1 to 5; gsb: pairs, which is better or the same.
        dimensions: names of scales.DIMENSIONS, in the order in which they are asked.
        raters: names of the people.
        seed: of every draw.
        per_item: raters of an item, or all where there are fewer.
        extra: further raters where they disagree.
        repeats: share of a rater's items that are shown again.
        checks: attention checks per item of a rater: the text above the video says what to answer.
    """

    kind: Literal["mos", "gsb"]
    dimensions: tuple[str, ...]
    raters: tuple[str, ...]
    seed: int = 0
    per_item: int = 3
    extra: int = 2
    repeats: float = 0.05
    checks: float = 0.0


@dataclass(frozen=True)
class Study:
    """A study as it was planned.

    Args:
        study_id: hash of the evaluation, the settings and the items.
        evaluation_id: the evaluation.
        settings: what it was planned from.
        items: by their ids.
        base: rater -> tasks in order.
        extra: rater -> tasks that they get where the others disagree.
    """

    study_id: str
    evaluation_id: str
    settings: Settings
    items: Mapping[str, Item]
    base: Mapping[str, tuple[Task, ...]]
    extra: Mapping[str, tuple[Task, ...]]

    def asked(self, item_id: str) -> tuple[str, ...]:
        """Return the dimensions that are asked about an item: those of its task, the text's if there is any."""
        item = self.items[item_id]
        return tuple(name for name in self.settings.dimensions if is_asked(name, item.task, item.prompt))

    def to_json(self) -> str:
        """Return the whole plan as text."""
        facts = {"study_id": self.study_id, "evaluation_id": self.evaluation_id, "settings": asdict(self.settings),
                 "items": [asdict(item) for item in self.items.values()]}  # fmt: skip
        for part in ("base", "extra"):
            facts[part] = {rater: [asdict(task) for task in tasks] for rater, tasks in getattr(self, part).items()}
        return json.dumps(facts, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Study:
        """Return the plan that `to_json` wrote."""
        facts = json.loads(text)
        settings = facts["settings"]
        settings = Settings(
            **settings | {"dimensions": tuple(settings["dimensions"]), "raters": tuple(settings["raters"])}
        )
        base, extra = (
            {rater: tuple(Task(**task) for task in tasks) for rater, tasks in facts[part].items()}
            for part in ("base", "extra")
        )
        items = {item["item_id"]: Item(**item) for item in facts["items"]}
        return cls(facts["study_id"], facts["evaluation_id"], settings, items, base, extra)


def plan_study(evaluation_id: str, items: Sequence[Item], settings: Settings) -> Study:
    """Plan a study. Raters get as many items as each other, to within one, each in an order and on sides of their own.

    Args:
        evaluation_id: the evaluation.
        items: what is to be rated, each once.
        settings: kind, dimensions, raters, seed.

    Raises:
        UserError: a setting makes no study.
    """
    _refuse(items, settings)
    ordered = sorted(items, key=lambda item: item.item_id)
    study_id = _hash(evaluation_id, json.dumps(asdict(settings), sort_keys=True), *(item.item_id for item in ordered))
    study_id = study_id[:16]
    rng = np.random.default_rng([settings.seed, int(study_id, 16)])
    shuffled = [ordered[i] for i in rng.permutation(len(ordered))]
    raters, wanted = settings.raters, min(settings.per_item, len(settings.raters))
    load, more = np.zeros(len(raters)), np.zeros(len(raters))
    seen: dict[str, list[Item]] = {rater: [] for rater in raters}
    spare: dict[str, list[Item]] = {rater: [] for rater in raters}
    for item in shuffled:
        chosen = np.lexsort((rng.random(len(raters)), load))[:wanted]
        left = np.setdiff1d(np.arange(len(raters)), chosen)
        others = left[np.lexsort((rng.random(len(left)), more[left]))][: settings.extra]
        load[chosen] += 1
        more[others] += 1
        for places, number in ((seen, chosen), (spare, others)):
            for i in number:
                places[raters[i]].append(item)
    base = {rater: _tasks(study_id, rater, seen[rater], settings, rng) for rater in raters}
    none = replace(settings, repeats=0.0, checks=0.0)
    base = {rater: _with_checks(study_id, rater, base[rater], ordered, settings) for rater in raters}
    extra = {rater: _tasks(study_id, rater, spare[rater], none, rng) for rater in raters}
    return Study(study_id, evaluation_id, settings, {item.item_id: item for item in ordered}, base, extra)


def _tasks(
    study_id: str, rater: str, items: Sequence[Item], settings: Settings, rng: np.random.Generator
) -> tuple[Task, ...]:
    """Put a rater's items in an order of their own; those shown again come in the last third, sides swapped."""
    order = [items[i] for i in rng.permutation(len(items))]
    sides = rng.random(len(order)) < 0.5
    tasks = [
        _task(study_id, rater, item, 0, settings.kind == "gsb" and bool(side))
        for item, side in zip(order, sides, strict=True)
    ]
    if len(order) < MIN_FOR_REPEATS or not settings.repeats:
        return tuple(tasks)
    number = max(1, round(settings.repeats * len(order)))
    again = rng.choice(len(order) // 2, min(number, len(order) // 2), replace=False)
    for i in again:
        first = tasks[i]
        repeat = _task(study_id, rater, order[i], 1, settings.kind == "gsb" and not first.is_swapped)
        tasks.insert(int(rng.integers(2 * len(order) // 3, len(tasks) + 1)), repeat)
    return tuple(tasks)


def _with_checks(
    study_id: str, rater: str, tasks: Sequence[Task], items: Sequence[Item], settings: Settings
) -> tuple[Task, ...]:
    """Put attention checks between a rater's tasks, not first, each at a place and with an answer that is drawn.

    A check shows the video of an item that the rater does not have, as far as there is one.
    """
    found = list(tasks)
    if len(tasks) < MIN_FOR_CHECKS or not settings.checks:
        return tuple(found)
    rng = np.random.default_rng([settings.seed, int(_hash(study_id, rater, "checks")[:16], 16)])
    have = {task.item_id for task in tasks}
    others = [item for item in items if item.item_id not in have] or list(items)
    answers = [*range(1, 6)] if settings.kind == "mos" else list(PREFERENCES)
    for number in range(max(1, round(settings.checks * len(tasks)))):
        item = others[int(rng.integers(len(others)))]
        name = _hash(study_id, item.item_id, rater, f"check {number}")[:24]
        check = Task(name, item.item_id, 0, is_swapped=False, expected=answers[int(rng.integers(len(answers)))])
        found.insert(int(rng.integers(2, len(found) + 1)), check)
    return tuple(found)


def _task(study_id: str, rater: str, item: Item, repeat: int, is_swapped: bool) -> Task:
    return Task(_hash(study_id, item.item_id, rater, str(repeat))[:24], item.item_id, repeat, is_swapped)


def _refuse(items: Sequence[Item], settings: Settings) -> None:
    if settings.kind not in KINDS:
        raise UserError(f"a study is of kind {' or '.join(KINDS)}, not {settings.kind!r}")
    if not items:
        raise UserError("a study needs videos to rate, and the evaluation has none that were made; generate them first")
    if len({item.item_id for item in items}) < len(items):
        raise UserError("a study has an item twice; give each video or pair once")
    if (settings.kind == "gsb") != all(item.other_id for item in items):
        raise UserError("a study of kind gsb needs pairs, and one of kind mos single videos")
    raters = settings.raters
    if not raters or len(set(raters)) < len(raters):
        raise UserError("a study needs the names of its raters, each once: --raters anna,ben,chen")
    for rater in raters:
        if not rater.strip() or rater != rater.strip() or len(rater) > MAX_NAME or not rater.isprintable():
            raise UserError(
                f"the rater's name {rater!r} must be 1 to {MAX_NAME} printable characters without blanks around"
            )
    unknown = [name for name in settings.dimensions if name not in DIMENSIONS]
    if unknown or not settings.dimensions or len(set(settings.dimensions)) < len(settings.dimensions):
        raise UserError(
            f"dimensions are {', '.join(DIMENSIONS)}, each once; got {', '.join(settings.dimensions) or 'none'}"
        )
    if not all(any(is_asked(name, item.task, item.prompt) for name in settings.dimensions) for item in items):
        raise UserError(
            "some videos have no text, or no picture, and nothing else is asked; add a dimension such as overall"
        )
    shares = settings.repeats, settings.checks
    if settings.per_item < 1 or settings.extra < 0 or not all(0 <= share <= 0.5 for share in shares):
        raise UserError("a study needs 1 or more raters per item, 0 or more extra ones, and shares of 0 to 0.5")


def _hash(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
