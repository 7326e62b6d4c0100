"""Studies and their answers in the store."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.schema import table_of
from reelwright.errors import UserError, first_line
from reelwright.evaluation.rating.answers import Answer, answers_of, read_answer, rows_of
from reelwright.evaluation.rating.scales import IMAGE, TEXT
from reelwright.evaluation.rating.study import Item, Settings, Study, plan_study

MAX_FILE = 64 << 20
"""Bytes of a file of answers: 100,000 of them are 20 MB."""
STUDY_ID = re.compile("[0-9a-f]{16}")
MERGE_EVERY = 256
"""Answers between two merges of the table's small files."""
LOCK_S = 10.0  # that another process's write of ratings is waited for
_WRITING = threading.Lock()
PAIRS = """
SELECT a.generation_id, b.generation_id AS other_id, a.prompt, a.task, a.prompt_id, a.picture FROM made a JOIN made b
ON a.prompt_id = b.prompt_id AND a.seed = b.seed AND a.place < b.place
"""


def make_study(store: Store, evaluation: dict[str, Any], settings: Settings, prompts: int | None = None) -> Study:
    """Plan a study of an evaluation's videos and keep it in the store; the same one is there once.

    Args:
        store: with the evaluation.
        evaluation: its row.
        settings: of the study; without dimensions, those of its kind are asked.
        prompts: so many prompts, drawn by the seed, with all their videos; None: all.

    Raises:
        UserError: the settings make no study.
        StoreError: the store cannot be written.
    """
    rows = items_of(store, evaluation, settings.kind)
    if not settings.dimensions:
        settings = _with_dimensions(settings, {row["task"] for row in rows})
    if prompts is not None:
        rows = _some(rows, prompts, settings.seed)
    items = [
        Item.of(
            row["generation_id"], row["other_id"], row["prompt"] or "", row["task"] or "t2v", row["picture"] or ""
        )
        for row in rows
    ]
    study = plan_study(evaluation["evaluation_id"], items, settings)
    with store.committing(table_of("studies").lock):
        if not store.count("studies", f"study_id = '{study.study_id}'"):
            row = {
                "study_id": study.study_id, "evaluation_id": study.evaluation_id, "kind": settings.kind,
                "raters": list(settings.raters), "items": len(study.items), "plan": study.to_json(),
                "at": datetime.now(UTC),
            }  # fmt: skip
            store.append("studies", [row])
    return study


def _with_dimensions(settings: Settings, tasks: set[str]) -> Settings:
    from dataclasses import replace

    asked = ("overall",) if settings.kind == "gsb" else IMAGE if tasks == {"i2v"} else TEXT
    return replace(settings, dimensions=asked)


def items_of(store: Store, evaluation: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return the videos that were made, or their pairs from the same prompt and seed, in an order that stays.

    The first of a pair is of the model that the evaluation names first.
    """
    made = (
        "WITH made AS (SELECT *, list_position($models, model) AS place, "
        "reference_md5 || '-' || width || 'x' || height AS picture FROM generations "
        "WHERE evaluation_id = $id AND state = 'ok')"
    )
    single = "SELECT generation_id, NULL AS other_id, prompt, task, prompt_id, picture FROM made"
    query = f"{made} {PAIRS if kind == 'gsb' else single} ORDER BY ALL"
    params = {"id": evaluation["evaluation_id"], "models": evaluation["models"]}
    return store.sql(query, params=params).to_pylist()


def _some(rows: list[dict[str, Any]], prompts: int, seed: int) -> list[dict[str, Any]]:
    import numpy as np

    names = sorted({row["prompt_id"] for row in rows})
    if prompts < 1:
        raise UserError(f"a study has 1 prompt or more, not {prompts}")
    drawn = np.random.default_rng(seed).permutation(len(names))[:prompts]
    chosen = {names[i] for i in drawn}
    return [row for row in rows if row["prompt_id"] in chosen]


def find_study(store: Store, name: str, evaluation: dict[str, Any] | None = None) -> Study:
    """Return a study by the beginning of its id; with an empty one, the evaluation's newest.

    Raises:
        StoreError: there is none, or there are several.
    """
    where, params = "starts_with(study_id, $name)", {"name": name.lower()}
    if evaluation:
        where, params = f"{where} AND evaluation_id = $of", params | {"of": evaluation["evaluation_id"]}
    query = f'SELECT study_id, plan FROM studies WHERE {where} ORDER BY "at" DESC LIMIT 5'
    found = store.sql(query, params=params).to_pylist()
    if not found or (name and len(found) > 1):
        ids = ", ".join(row["study_id"] for row in found)
        several = f"{name!r} begins the ids of several studies: {ids}; give more of it."
        none = f"there is no study {name!r}".replace(" ''", "") + "; plan one with --raters anna,ben,chen."
        raise StoreError(several if found else none)
    return Study.from_json(found[0]["plan"])


@dataclass
class Saved:
    """What became of answers: new, changed since, alike."""

    new: int = 0
    changed: int = 0
    alike: int = 0


class Answers:
    """A study's answers, in memory and in the store. An answer that `save` took is committed.

    Several servers may take answers to one study: each looks for the others' before it writes.
    """

    def __init__(self, store: Store, study: Study) -> None:
        self.store, self.study = store, study
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], Answer] = {}
        self._version = -1
        self._since_merge = 0
        self._refresh()

    def all(self) -> dict[tuple[str, str], Answer]:
        """Return the answers by rater and task."""
        with self._lock:
            self._refresh()
            return dict(self._known)

    def save(self, answers: Iterable[Answer]) -> Saved:
        """Commit answers: new ones are added, changed ones replace what they were. The last of one task counts.

        Raises:
            StoreError: another process writes ratings.
        """
        with self._lock, _WRITING, self.store.committing(table_of("ratings").lock, wait_s=LOCK_S, is_brief=True):
            self._refresh()
            given = {(answer.rater, answer.task_id): answer for answer in answers}
            new = [answer for key, answer in given.items() if key not in self._known]
            changed = [a for key, a in given.items() if key in self._known and self._known[key].values != a.values]
            if new:
                self.store.append("ratings", self._rows(new))
            if changed:
                schema = self.store.schema("ratings")
                rows = pa.Table.from_pylist(self._rows(changed), schema=schema)
                self.store.merge("ratings", rows, on="rating_id")
            self._known |= {(answer.rater, answer.task_id): answer for answer in (*new, *changed)}
            self._since_merge += len(new) + len(changed)
            if self._since_merge >= MERGE_EVERY:
                self.store.merge_small_files(table_of("ratings").lock)
                self._since_merge = 0
            self._version = self.store.dataset("ratings").version
            return Saved(len(new), len(changed), len(given) - len(new) - len(changed))

    def _refresh(self) -> None:
        """Read the answers that others have written since."""
        version = self.store.dataset("ratings").version
        if version != self._version:
            rows = self.store.read("ratings", filter=f"study_id = '{self.study.study_id}'").to_pylist()
            self._known, self._version = answers_of(self.study, rows), version

    def _rows(self, answers: list[Answer]) -> list[dict[str, Any]]:
        now = datetime.now(UTC)
        return [row | {"at": now} for answer in answers for row in rows_of(self.study, answer)]


def take_in(store: Store, path: Path) -> tuple[Study, Saved]:
    """Take a file of answers that a sent page saved into the store; a file that is taken twice changes nothing.

    Returns:
        Its study, and what became of the answers.

    Raises:
        UserError: it is no such file, or one of its answers is none; then nothing is taken.
    """
    sent = _read_file(path)
    study = find_study(store, sent["study_id"])
    answers = []
    for number, one in enumerate(sent["answers"], 1):
        try:
            answers.append(read_answer(study, sent.get("rater"), one))
        except UserError as error:
            raise UserError(f"{path}: answer {number} is refused: {error}; nothing was taken in") from None
    with store.committing(table_of("ratings").lock):
        return study, Answers(store, study).save(answers)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise UserError(f"{path} is larger than {MAX_FILE >> 20} MiB; a file of answers is smaller")
        sent = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a file of answers: {first_line(error)}") from None
    if not isinstance(sent, dict) or not isinstance(sent.get("answers"), list):
        raise UserError(f"{path} is no file of answers; give the file that the rating page saved")
    if not isinstance(sent.get("study_id"), str) or not STUDY_ID.fullmatch(sent["study_id"]):
        raise UserError(f"{path} names no study; give the file that the rating page saved")
    return sent
