"""Samples from SQL over the store: captions of clips, scores of generations, choices between generations."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reelwright.training.errors import TrainError
from reelwright.training.tuning.recipe import JudgeRecipe, RewardRecipe
from reelwright.training.tuning.samples import Item, LeftOut, Pair, Sample, VideoRef
from reelwright.training.tuning.videos import VideoFacts, stored_facts

if TYPE_CHECKING:
    from reelwright.curation.store import Store

CAPTIONS = "select clip_id, span_caption as caption from clips where span_caption is not null"
SCORES = "select generation_id, dimension, value from ratings where kind = 'mos' and is_human and repeat = 0"
CHOICES = "select generation_id, other_id, dimension, value from ratings where kind = 'gsb' and is_human and repeat = 0"
"""Examples, for the message about a query that lacks a column. Captions that people wrote in `reel app` are
review_caption, which a store has from its first review on."""
CHUNK = 1000


def captions(store: Store, sql: str) -> list[Item | LeftOut]:
    """Return samples of clips and captions. The columns: clip_id, caption."""
    rows = _rows(store, sql, ("clip_id", "caption"), CAPTIONS)
    sources = _column(store, "clips", "clip_id", "source_md5", [row["clip_id"] for row in rows])
    found: list[Item | LeftOut] = []
    for number, row in enumerate(rows):
        clip, text = row["clip_id"], str(row["caption"] or "").strip()
        key = f"{clip}:{number}"
        if clip not in sources:
            found.append(LeftOut(key, "missing", "the store has no such clip"))
        elif not text:
            found.append(LeftOut(key, "answer", "the caption is empty"))
        else:
            # the prompt is asked with the number of frames and the length, so its turns are made later
            found.append(Sample(key, VideoRef("clip", clip), answer=text, group=sources[clip] or clip))
    return found


def scores(store: Store, sql: str, recipe: JudgeRecipe) -> list[Item | LeftOut]:
    """Return one sample per generation and dimension; its digits are the shares of people's scores.

    The columns: generation_id, dimension, value; one row per person's answer.
    """
    rows = _rows(store, sql, ("generation_id", "dimension", "value"), SCORES)
    about = _about(store, [row["generation_id"] for row in rows])
    given: dict[tuple[str, str], list[int]] = defaultdict(list)
    found: list[Item | LeftOut] = []
    for row in rows:
        one, dimension, value = row["generation_id"], row["dimension"], row["value"]
        key = f"{one}:{dimension}"
        fits = value is not None and recipe.lowest <= value <= recipe.highest and value == int(value)
        if dimension not in recipe.aspects or not fits:
            found.append(LeftOut(key, "rating", f"{dimension} = {value}"))
        elif one not in about:
            found.append(LeftOut(key, "missing", "the store has no such generation"))
        else:
            given[one, dimension].append(int(value))
    for (one, dimension), values in sorted(given.items()):
        shares = {str(digit): count / len(values) for digit, count in sorted(Counter(values).items())}
        likeliest = max(shares, key=lambda digit: shares[digit])
        prompt, group = about[one]
        answer = json.dumps({"score": int(likeliest)})
        video = VideoRef("generation", one)
        found.append(Sample(f"{one}:{dimension}", video, (), answer, group, prompt, dimension, shares))
    return found


def choices(store: Store, sql: str, recipe: RewardRecipe) -> list[Item | LeftOut]:
    """Return one pair per person's answer about two generations.

    The columns: generation_id, other_id, dimension, value (1: the first is better, 0: same, -1).
    """
    rows = _rows(store, sql, ("generation_id", "other_id", "dimension", "value"), CHOICES)
    about = _about(store, [row[name] for row in rows for name in ("generation_id", "other_id")])
    found: list[Item | LeftOut] = []
    for number, row in enumerate(rows):
        first, second, dimension = row["generation_id"], row["other_id"], row["dimension"]
        key = f"{first}:{second}:{dimension}:{number}"
        if dimension not in recipe.dimensions or row["value"] not in (1, 0, -1):
            found.append(LeftOut(key, "rating", f"{dimension} = {row['value']}"))
        elif first not in about or second not in about:
            found.append(LeftOut(key, "missing", "the store lacks one of the two generations"))
        else:
            prompt, group = about[first]
            videos = VideoRef("generation", first), VideoRef("generation", second)
            found.append(Pair(key, *videos, prompt, {dimension: int(row["value"])}, group))
    return found


def known_facts(store: Store, items: Sequence[Item | LeftOut]) -> dict[VideoRef, VideoFacts]:
    """Return the facts that rows of the store have of samples' videos."""
    refs = {video for one in items if not isinstance(one, LeftOut) for video in one.videos}
    found = {}
    for kind, table, key in (("clip", "clips", "clip_id"), ("generation", "generations", "generation_id")):
        ids = sorted(ref.name for ref in refs if ref.kind == kind)
        for name, facts in stored_facts(store, table, key, ids).items() if ids else ():
            found[VideoRef(kind, name)] = facts  # type: ignore[arg-type]
    return found


def _rows(store: Store, sql: str, columns: Sequence[str], example: str) -> list[dict[str, Any]]:
    table = store.sql(sql)
    if lacking := [name for name in columns if name not in table.schema.names]:
        raise TrainError(f"data.sql gives no column {', '.join(lacking)}; it must give {', '.join(columns)}: {example}")
    return table.select(list(columns)).to_pylist()


def _about(store: Store, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return generation_id -> its prompt, and the prompt's id: what is held out together."""
    prompts = _column(store, "generations", "generation_id", "prompt", ids)
    groups = _column(store, "generations", "generation_id", "prompt_id", ids)
    return {one: (prompt or "", groups.get(one) or one) for one, prompt in prompts.items()}


def _column(store: Store, table: str, key: str, column: str, ids: Sequence[str]) -> Mapping[str, str | None]:
    return dict(_pairs(store, table, key, column, sorted(set(filter(None, ids)))))


def _pairs(store: Store, table: str, key: str, column: str, ids: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    from reelwright.curation.store.sql_text import literals

    for start in range(0, len(ids), CHUNK):
        condition = f"{key} IN ({literals(ids[start : start + CHUNK])})"
        for row in store.read(table, [key, column], condition).to_pylist():
            yield row[key], row[column]
