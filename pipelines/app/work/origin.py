"""The way back from a run's newest checkpoint: its parents, its snapshots, their queries and source files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reelwright.curation.store import Store, StoreError
from reelwright.pipelines.app.about import shown

MOST_SOURCES, MOST_PARENTS, MAX_TEXT = 40, 20, 64 << 20
SAID = ("step", "recipe_fingerprint", "code_version", "encoder_fingerprint", "sha256", "path")


def origin_of(store: Store, folder: Path) -> dict[str, Any]:
    """Return the origin of the weights in a run's folder, as far as its newest checkpoint and the store tell."""
    said = _checkpoint(folder)
    parents = _parents(said)
    snapshots: dict[tuple[str, str], dict[str, Any]] = {}
    for by, one in (("this run", said), *((_name(parent), parent) for parent in parents)):
        for stated in _stated(one):
            key = (str(stated.get("name")), str(stated.get("content_hash")))
            snapshots.setdefault(key, about_snapshot(store, stated, by))
    return {"checkpoint": _facts(said), "parents": [{**_facts(one), "name": _name(one)} for one in parents],
            "snapshots": list(snapshots.values())}  # fmt: skip


def about_snapshot(store: Store, stated: Mapping[str, Any], by: str) -> dict[str, Any]:
    """Return what a record says of a snapshot, and what the store knows of it: its query and its sources."""
    name, digest = str(stated.get("name") or ""), str(stated.get("content_hash") or "")
    found: dict[str, Any] = {"name": shown(name, 200), "hash": shown(digest, 80), "by": shown(by, 200), "note": "",
                             "clips": shown(stated.get("num_clips")), "sql": shown(str(stated.get("sql") or "")),
                             "sources": [], "more_sources": 0, "is_here": False}  # fmt: skip
    try:
        snapshot = store.snapshots.show(name)
    except StoreError:
        return found | {"note": "this store has no snapshot of that name"}
    if digest and snapshot.content_hash != digest:
        return found | {"note": "this store's snapshot of that name holds other clips"}
    sources = store.sql(
        "SELECT coalesce(s.uri, c.source_md5) AS uri, count(*) AS clips, count(*) OVER () AS files "
        "FROM snapshot_rows r JOIN clips c ON c.clip_id = r.clip_id "
        "LEFT JOIN (SELECT md5, min(uri) AS uri FROM sources WHERE state = 'ok' GROUP BY md5) s "
        "ON s.md5 = c.source_md5 WHERE r.snapshot = $name GROUP BY 1 "
        f"ORDER BY clips DESC, uri LIMIT {MOST_SOURCES}",
        params={"name": name},
    ).to_pylist()
    more = sources[0]["files"] - len(sources) if sources else 0
    return found | {"is_here": True, "clips": snapshot.num_clips, "sql": shown(snapshot.sql), "more_sources": more,
                    "sources": [{"uri": shown(one["uri"]), "clips": one["clips"]} for one in sources]}  # fmt: skip


def _checkpoint(folder: Path) -> dict[str, Any]:
    files = sorted(folder.glob("checkpoints/step-*/checkpoint.json"))
    try:
        if not files or not files[-1].resolve().is_relative_to(folder.resolve()) or files[-1].stat().st_size > MAX_TEXT:
            return {}
        found = json.loads(files[-1].read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _parents(said: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    from reelwright.training.lineage import parents_of

    try:
        return [one for one in parents_of(said) if isinstance(one, Mapping)][:MOST_PARENTS]
    except (AttributeError, TypeError):  # a file that another program wrote
        return []


def _stated(said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    one = said.get("snapshot")
    if not isinstance(one, Mapping):
        return []
    mix = one.get("mix")
    return [part for part in mix if isinstance(part, Mapping)] if isinstance(mix, list) else [one]


def _facts(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: shown(said[name], 500) for name in SAID if isinstance(said.get(name), (str, int))}


def _name(parent: Mapping[str, Any]) -> str:
    path = Path(str(parent.get("path") or ""))
    return path.parent.parent.name if path.parent.name == "checkpoints" else path.name or "weights"
