"""All that the store knows of one clip: its columns, captions, source with timeline, failures and neighbours."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.curation.store.results import finite
from reelwright.curation.store.schema import table_of
from reelwright.curation.store.sql_text import literal
from reelwright.errors import ReelError, UserError
from reelwright.pipelines.app import captions
from reelwright.pipelines.app.columns import kind_of
from reelwright.pipelines.app.reviews import Reviews
from reelwright.pipelines.app.timeline import timeline
from reelwright.pipelines.app.values import MOST_LETTERS, shown

MOST_ALIKE = 12


def about_store(store: Store, reviews: Reviews) -> dict[str, Any]:
    """Return what a page shows before any clip: the columns with their meaning, snapshots and counts."""
    clips = {f.name: f for f in (*store.schema("clips"), *reviews.fields())}
    return {
        "store": store.uri,
        "clips": store.count("clips"),
        "columns": [column_facts(f) for f in clips.values()],
        "tables": {name: [f.name for f in table_of(name).schema] for name in ("sources", "shots", "failures", "runs")},
        "snapshots": snapshots(store),
    }


def column_facts(field: pa.Field) -> dict[str, str]:
    """Return a column's name, kind, type, unit, meaning and maker."""
    facts = {key.decode(): value.decode("utf-8", "replace") for key, value in (field.metadata or {}).items()}
    made = {key: facts.get(key, "") for key in ("unit", "meaning", "computed_by")}
    kind = "tags" if field.name == "review_tags" else kind_of(field)
    return {"name": field.name, "kind": kind, "type": str(field.type), **made}


def snapshots(store: Store) -> list[dict[str, Any]]:
    """Return the store's snapshots, the newest first."""
    return [
        {"name": one.name, "clips": one.num_clips, "hash": one.content_hash, "sql": one.sql[:MOST_LETTERS],
         "at": one.created_at.isoformat(), "weights": one.weight_column or (one.balance or {}).get("by") or ""}
        for one in reversed(store.snapshots.list())
    ]  # fmt: skip


def about_clip(store: Store, reviews: Reviews, clip_id: str) -> dict[str, Any]:
    """Return all about one clip. Raises UserError where there is none of that id."""
    rows = store.read("clips", filter=f"clip_id = {literal(clip_id)}").to_pylist()
    if not rows:
        raise UserError(f"there is no clip {clip_id[:40]}")
    row = rows[0]
    md5, history = literal(row["source_md5"] or ""), reviews.history(clip_id)
    sources = store.read("sources", filter=f"md5 = {md5}").sort_by([("uri", "ascending")]).to_pylist()
    source = next((one for one in sources if one["state"] == "ok"), sources[0] if sources else {})
    return {
        "clip_id": clip_id,
        "row": {name: shown(value) for name, value in row.items()},
        "source": {name: shown(value) for name, value in source.items()},
        "timeline": timeline(store, source, row["source_md5"] or ""),
        "failures": _failures(store, clip_id, md5, source.get("uri") or ""),
        "captions": captions.variants(row, source, history),
        "alike": _alike(store, clip_id),
        "review": review_facts(reviews, clip_id),
        "history": [{name: shown(value) for name, value in one.items()} for one in history[:100]],
    }


def review_facts(reviews: Reviews, clip_id: str) -> dict[str, Any]:
    """Return the decisions about a clip."""
    now = reviews.of(clip_id)
    at = now.at.isoformat() if now.at else None
    return {"verdict": now.verdict, "star": now.star, "tags": list(now.tags), "caption": now.caption,
            "caption_by": now.caption_by, "by": now.by, "at": at}  # fmt: skip


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: shown(value) for name, value in row.items()}


def _failures(store: Store, clip_id: str, md5: str, uri: str) -> list[dict[str, Any]]:
    where = f"clip_id = {literal(clip_id)} OR source_md5 = {md5} OR uri = {literal(uri)}"
    rows = store.read("failures", ["stage", "error", "at", "clip_id", "attempts"], where)
    return [_plain(one) for one in rows.sort_by([("at", "descending")]).slice(0, 50).to_pylist()]


def _alike(store: Store, clip_id: str) -> dict[str, Any]:
    """Return the clips that are nearest by caption and by look, where those vectors are there."""
    from reelwright.pipelines.browse import search

    found: dict[str, Any] = {}
    for name, column in (("caption", search.CAPTION), ("look", search.VISUAL)):
        try:
            rows = search.similar(store, clip_id, MOST_ALIKE, column=column).rows
        except ReelError:
            continue
        found[name] = [
            {"clip_id": one["clip_id"], "score": finite(one["score"]), "caption": shown(one["caption"], 200)}
            for one in rows.to_pylist()
        ]
    return found
