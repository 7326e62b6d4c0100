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
        by: the training itself, a parent whose weights it began with, a LoRA that it is sampled with, a LoRA's parent.
        snapshot: as this store has it, None where it has not.
        note: why it cannot be looked at; empty where it can.
    """

    name: str
    content_hash: str
    by: str
    snapshot: Snapshot | None
    note: str = ""

    @property
    def title(self) -> str:
        """Its name and whose it is; of a LoRA without a record, the LoRA."""
        return f"snapshot {self.name} ({self.by})" if self.name else self.by


def trained_on(store: Store, lineage: Mapping[str, Any]) -> list[TrainedOn]:
    """Return the snapshots of a generation's lineage, each once: the training's own, its parents', its LoRAs'.

    A LoRA whose record says nothing of its training is in the list without a name, with a note.
    """
    found: dict[tuple[str, str], TrainedOn] = {}
    for by, stated in _stated(lineage):
        for one in stated.get("mix") or [stated]:
            key = (str(one.get("name", "")), str(one.get("content_hash", "")))
            if key[0] and key not in found:
                found[key] = _here(store, *key, by)
    for lora in lineage.get("loras") or ():
        if not lora.get("snapshot"):
            by = _lora_name(lora)
            found[by, ""] = TrainedOn("", "", by, None, "no record says what it was trained on")
    return list(found.values())


def _stated(lineage: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (who, its statement of a snapshot)."""
    weights = lineage.get("weights_from") or {}
    own = lineage.get("snapshot") or weights.get("snapshot")
    if own:
        yield str(lineage.get("run") or "the training"), own
    before = lineage.get("trained_before") or weights.get("trained_before")
    for parent in before if before is not None else _parents(lineage):
        if stated := parent.get("snapshot"):
            yield f"parent {Path(str(parent.get('path', ''))).parent.parent.name or 'weights'}", stated
    for lora in lineage.get("loras") or ():
        if stated := lora.get("snapshot"):
            yield _lora_name(lora), stated
        for parent in lora.get("trained_before") or ():
            yield f"parent of {_lora_name(lora)}", parent["snapshot"]


def _lora_name(lora: Mapping[str, Any]) -> str:
    path = Path(str(lora.get("file", "")))
    return f"LoRA {path.parent.name}/{path.name}"


def _parents(lineage: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the checkpoints above, of a lineage that does not say: as far as this machine still has its checkpoint."""
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
