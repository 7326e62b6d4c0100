"""Which clips the demonstration trains on: moving, sharp ones where the footage has enough of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reelwright.curation.store import Store

ENOUGH = 3  # clips; with fewer a looser condition is tried
SECONDS = 1.1  # of a clip that fills the recipe's 9 frames at 8 per second
CONDITIONS: tuple[tuple[str, str], ...] = (
    ("motion_score > 0.01 and blur_score > 20", ""),
    ("motion_score > 0.01", "few clips are sharp, so soft ones are taken too"),
    ("blur_score > 20", "few clips move, so still ones are taken"),
    ("true", "few clips move or are sharp, so all are taken"),
)
"""SQL over clips, and the note to print if it is the first to find enough."""


@dataclass(frozen=True)
class Choice:
    """sql: of a snapshot, empty where no clip will do. note: what the footage lacks, for a person."""

    sql: str
    clips: Sequence[str]
    note: str = ""


def choose(store: Store) -> Choice:
    """Choose the strictest condition that finds enough clips, or the one that finds most."""
    lacking = [column for column in ("motion_score", "blur_score") if column not in store.schema("clips").names]
    best = Choice("", ())
    for condition, note in CONDITIONS:
        if any(column in condition for column in lacking):
            continue
        sql = _query(f"duration_s >= {SECONDS} and {condition}", store)
        clips = sorted(store.sql(sql)["clip_id"].to_pylist())
        if len(clips) > len(best.clips):
            best = Choice(sql, clips, note)
        if len(clips) >= ENOUGH:
            break
    return best if best.clips else Choice("", (), _why_none(store))


def snapshot_name(store: Store, clips: Sequence[str], name: str = "demo") -> tuple[str, bool]:
    """Return (a snapshot's name for these clips, whether it exists): demo, or demo-2 … where demo froze other clips."""
    there = {one.name for one in store.snapshots.list()}
    tried, number = name, 1
    while tried in there:
        if sorted(store.snapshots.rows(tried)["clip_id"].to_pylist()) == list(clips):
            return tried, True
        number += 1
        tried = f"{name}-{number}"
    return tried, False


def _query(condition: str, store: Store) -> str:
    has_text = "text_coverage" in store.schema("clips").names
    weight = "1 / (0.05 + coalesce(text_coverage, 0))" if has_text else "1"
    return f"select clip_id, {weight} as weight from clips where {condition}"


def _why_none(store: Store) -> str:
    clips = store.count("clips")
    if clips:
        return f"none of the {clips:,} clips is {SECONDS:g} s long, which training takes"
    return "no clip came of this footage: its shots are shorter than 1 s, or its files could not be read"
