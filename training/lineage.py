"""The way back from a checkpoint: parents, recipe, snapshot, clips, annotators, source files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelwright.curation.store import Snapshot, Store, StoreError
from reelwright.training.mix import label

if TYPE_CHECKING:
    from reelwright.training.recipe import TrainRecipe

CODE = ("kernels", "model", "training")  # packages with the code of a step
PLACE = ("clip_id", "source_md5", "start_frame", "end_frame", "start_s", "end_s")
"""Columns that say where a clip is in its source."""
KEPT_OF_PARENT = (
    "step",
    "recipe_fingerprint",
    "snapshot",
    "encoder_fingerprint",
    "code_version",
    "parent",
    "adapters",
    "recipe",
)


@dataclass(frozen=True)
class Source:
    """A source file and the clips that a snapshot took from it. frames: [start, end) of each clip, in the source."""

    uri: str
    md5: str
    clips: list[dict[str, Any]]


@dataclass(frozen=True)
class Lineage:
    """A checkpoint's whole thread. warnings: where the store no longer says what the checkpoint says."""

    checkpoint: dict[str, Any]
    parents: list[dict[str, Any]]
    snapshot: Snapshot | None = None
    sources: list[Source] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    mix: list[Snapshot] = field(default_factory=list)


def describe(
    recipe: TrainRecipe, snapshots: Mapping[str, Snapshot], store: Store, encoder: str, parent: Any
) -> dict[str, Any]:
    """Return the origin that every checkpoint of a run records.

    Args:
        recipe: of the run.
        snapshots: that it trains on: one, or those of `data.mix`.
        store: that holds them.
        encoder: fingerprint of codec and text encoder.
        parent: of `parent_of`, or what published weights say.
    """
    from reelwright.training.data.mix_rows import content_hash

    mix = recipe.data.mix
    parts = [_stated(one, store) for one in snapshots.values()]
    facts = parts[0]
    if mix:
        facts = {
            "name": label("", mix), "content_hash": content_hash(snapshots, mix), "store": store.uri, "sql": "",
            "num_clips": sum(one.num_clips for one in snapshots.values()),
            "mix": [{**part, "share": mix[part["name"]]} for part in parts],
        }  # fmt: skip
    return {
        "recipe": recipe.model_dump(mode="json"),
        "recipe_fingerprint": recipe.fingerprint,
        "snapshot": facts,
        "encoder_fingerprint": encoder,
        "code_version": code_version(),
        "parent": parent,
    }


def _stated(snapshot: Snapshot, store: Store) -> dict[str, Any]:
    return {
        "name": snapshot.name,
        "content_hash": snapshot.content_hash,
        "num_clips": snapshot.num_clips,
        "store": store.uri,
        "sql": snapshot.sql,
    }


def parent_of(path: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the checkpoint that weights began as; metadata: its checkpoint.json."""
    from reelwright.training.origins import identity_of_run

    kept = {key: metadata[key] for key in KEPT_OF_PARENT if key in metadata}
    return {"path": str(path.absolute()), "identity": identity_of_run(metadata), **kept}


@cache
def code_version() -> str:
    """Version of the package, and 12 hex digits of the source that computes: `0.1.0+4f1c22ab09de`."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for file in sorted(f for package in CODE for f in (root / package).rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    try:
        number = version("reelwright")
    except PackageNotFoundError:
        number = "0"
    return f"{number}+{digest.hexdigest()[:12]}"


def trace(path: Path, store: Store | None = None) -> Lineage:
    """Trace a checkpoint (a step's folder, or a run's: its newest) back to its source files.

    Args:
        path: the folder.
        store: in place of the one that the checkpoint names, where that has moved.

    Returns:
        The lineage; a link that cannot be followed any more is a warning, not an error.

    Raises:
        TrainError: the path has no checkpoint, or a damaged one.
    """
    from reelwright.training import checkpoints
    from reelwright.training.lineage_record import refuse_damaged_checkpoint

    where = checkpoints.find_checkpoint(path)
    metadata = {"path": str(where), **checkpoints.read_metadata(where)}
    refuse_damaged_checkpoint(metadata, where / checkpoints.METADATA)
    metadata.pop("files", None)
    parents = list(parents_of(metadata))
    found = follow(metadata["snapshot"], store)
    return Lineage(metadata, parents, found.snapshot, found.sources, found.warnings, found.mix)


@dataclass(frozen=True)
class Thread:
    """From a snapshot that something says it was made from, to source files. mix: the snapshots, where several."""

    snapshot: Snapshot | None = None
    sources: list[Source] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    mix: list[Snapshot] = field(default_factory=list)


def follow(stated: Mapping[str, Any], store: Store | None = None) -> Thread:
    """Follow a snapshot back to its source files. A link that cannot be followed any more is a warning.

    Args:
        stated: the snapshot's name, content_hash and store; of several, a list of these as its `mix`.
        store: in place of that store.
    """
    if parts := stated.get("mix"):
        return _together([follow(part, store) for part in parts])
    try:
        opened = store or Store.open(stated["store"])
        snapshot = opened.snapshots.show(stated["name"])
    except StoreError as error:
        return Thread(warnings=[f"the way to the sources is lost: {error}"])
    return Thread(snapshot, _sources(opened, snapshot), _compare(opened, snapshot, stated))


def _together(threads: list[Thread]) -> Thread:
    """Several snapshots' threads as one: a clip of two snapshots is named once."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for source in (source for thread in threads for source in thread.sources):
        clips = found.setdefault((source.uri, source.md5), {})
        clips.update({clip["clip_id"]: clip for clip in source.clips})
    return Thread(
        sources=[Source(uri, md5, _in_order(list(clips.values()))) for (uri, md5), clips in sorted(found.items())],
        warnings=[warning for thread in threads for warning in thread.warnings],
        mix=[thread.snapshot for thread in threads if thread.snapshot],
    )


def parents_of(metadata: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the checkpoints that a checkpoint began with, adapters' first, then their own, and so on; each once."""
    seen: set[str] = set()
    waiting = [*_begun_as(metadata)]
    while waiting:
        parent = waiting.pop(0)
        if str(parent.get("path")) not in seen:
            seen.add(str(parent.get("path")))
            yield parent
            waiting += _begun_as(parent)


def snapshots_before(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return path and snapshot of each checkpoint above that says what it was trained on."""
    return [
        {"path": one.get("path"), "snapshot": one["snapshot"]} for one in parents_of(metadata) if one.get("snapshot")
    ]


def _begun_as(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [one for one in (*(metadata.get("adapters") or {}).values(), metadata.get("parent")) if one]


def _compare(store: Store, snapshot: Snapshot, stated: Mapping[str, Any]) -> list[str]:
    """Whether the snapshot is the one that was trained on, and whole."""
    warnings = []
    if snapshot.content_hash != stated["content_hash"]:
        warnings.append(
            f"snapshot {snapshot.name} in {store.uri} is not the one that was trained on: its hash is "
            f"{short(snapshot.content_hash)}, the stated one {short(stated['content_hash'])}"
        )
    problems = store.snapshots.verify(snapshot.name).problems
    return warnings + [f"snapshot {snapshot.name} is not whole: {problem}" for problem in problems]


def _sources(store: Store, snapshot: Snapshot) -> list[Source]:
    """Source files of a snapshot's clips, by uri, as they were when it was made."""
    rows = (row for table in store.snapshots.clips(snapshot.name, PLACE) for row in table.to_pylist())
    return sources_of(store, rows, snapshot.sources_version)


def sources_of(store: Store, clips: Iterable[dict[str, Any]], sources_version: int | None = None) -> list[Source]:
    """Return the files that clips are from, by uri. clips: rows with the columns PLACE."""
    own: dict[str, list[dict[str, Any]]] = {}
    for row in clips:
        own.setdefault(row["source_md5"], []).append(row)
    rows = store.read("sources", ["uri", "md5"], "state = 'ok'", version=sources_version).to_pylist()
    uris = {row["md5"]: row["uri"] for row in rows}
    found = [Source(uris.get(md5, "(unknown)"), md5, _in_order(some)) for md5, some in own.items()]
    return sorted(found, key=lambda source: (source.uri, source.md5))


def _in_order(clips: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(clips, key=lambda clip: (clip["start_frame"], clip["clip_id"]))


def short(content_hash: str) -> str:
    """`sha256:` and 12 digits: enough to compare by eye."""
    return content_hash[:19]
