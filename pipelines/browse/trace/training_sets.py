"""The snapshots that a generation's model was trained on, by its lineage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelwright.curation.store import Snapshot, Store, StoreError


@dataclass(frozen=True)
class TrainedOn:
    """A snapshot that a model says it was trained on.

    Attributes:
        by: the training itself, or the parent whose weights it began with.
        snapshot: as this store has it, None where it has not.
        note: why it cannot be looked at; empty where it can.
    """

    name: str
    content_hash: str
    by: str
    snapshot: Snapshot | None
    note: str = ""


def trained_on(store: Store, lineage: Mapping[str, Any]) -> list[TrainedOn]:
    """Return the snapshots of a generation's lineage, each once: the training's own first, then its parents'."""
    found: dict[tuple[str, str], TrainedOn] = {}
    for by, stated in _stated(lineage):
        for one in stated.get("mix") or [stated]:
            key = (str(one.get("name", "")), str(one.get("content_hash", "")))
            if key[0] and key not in found:
                found[key] = _here(store, *key, by)
    return list(found.values())


def _stated(lineage: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (who, its statement of a snapshot)."""
    own = lineage.get("snapshot") or (lineage.get("weights_from") or {}).get("snapshot")
    if own:
        yield str(lineage.get("run") or "the training"), own
    for parent in _parents(lineage):
        if stated := parent.get("snapshot"):
            yield f"parent {Path(str(parent.get('path', ''))).parent.parent.name or 'weights'}", stated


def _parents(lineage: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the checkpoints above, as far as this machine still has the generation's own."""
    from reelwright.training.checkpoints import read_metadata
    from reelwright.training.errors import TrainError
    from reelwright.training.lineage import parents_of

    path = lineage.get("checkpoint")
    if not path or not Path(path).is_dir():
        return
    try:
        yield from parents_of(read_metadata(path))
    except TrainError:
        return


def _here(store: Store, name: str, content_hash: str, by: str) -> TrainedOn:
    try:
        snapshot = store.snapshots.show(name)
    except StoreError:
        return TrainedOn(name, content_hash, by, None, "this store has no snapshot of that name")
    if snapshot.content_hash != content_hash:
        return TrainedOn(name, content_hash, by, None, "this store's snapshot of that name holds other clips")
    return TrainedOn(name, content_hash, by, snapshot)
