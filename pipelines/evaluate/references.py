"""Pictures that videos begin with: kept in the store as models were given them, for people who rate the videos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from reelwright.curation.store import Store
from reelwright.curation.store.sql_text import is_one_of
from reelwright.errors import UserError
from reelwright.evaluation.suites.suite import Prompt, Suite
from reelwright.pipelines.evaluate.models import Model
from reelwright.pipelines.evaluate.wanted import md5_of

TABLE, QUALITY = "reference_pictures", 90


def picture_id(md5: str, width: int, height: int) -> str:
    """Return the id of a reference at the size of a video."""
    return f"{md5}-{width}x{height}"


def keep_references(store: Store, suite: Suite, models: Sequence[Model]) -> int:
    """Put the suite's pictures into the store, as far as they are not there; return how many came.

    One that cannot be read is left out: its videos fail, and their rows say why.
    """
    found: dict[str, Prompt] = {}
    for prompt in suite.prompts:
        if prompt.reference:
            shape = models[0].settings[prompt.task].shape
            found.setdefault(picture_id(md5_of(prompt.reference), shape.width, shape.height), prompt)
    if not found:
        return 0
    there = set(store.read(TABLE, ["picture_id"]).column(0).to_pylist())
    rows = []
    for name, prompt in found.items():
        if name not in there and (jpeg := _picture(prompt, models[0])):
            rows.append({"picture_id": name, "jpeg": jpeg})
    if rows:
        store.append(TABLE, rows)
    return len(rows)


def pictures(store: Store, ids: Iterable[str]) -> dict[str, bytes]:
    """Return JPEGs by id, of those that the store has."""
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    rows: list[dict[str, Any]] = store.read(TABLE, ["picture_id", "jpeg"], is_one_of("picture_id", wanted)).to_pylist()
    return {row["picture_id"]: row["jpeg"] for row in rows}


def _picture(prompt: Prompt, model: Model) -> bytes:
    from reelwright.curation.media.sheets import to_jpeg
    from reelwright.model.sampling.video_file import to_frames
    from reelwright.pipelines.generate.initial import Beginning

    path = prompt.reference
    begins = Beginning(image=path) if prompt.task == "i2v" else Beginning(video=path)
    try:
        initial = begins.read(model.settings[prompt.task], model.fps)
    except UserError:
        return b""
    return to_jpeg(to_frames(initial.frames[:, -1:])[0], QUALITY) if initial else b""
