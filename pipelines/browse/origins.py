"""Where a thing is from that is no checkpoint: an export, weights, a LoRA file, generated video, a clip."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reelwright.curation.store import Snapshot, Store, StoreError
from reelwright.curation.store.clip_media import LOOKUP_IDS
from reelwright.curation.store.export import marker
from reelwright.curation.store.export.remote import fetch_record
from reelwright.curation.store.sql_text import is_one_of
from reelwright.errors import UserError
from reelwright.training.lineage import PLACE, Lineage, Source, Thread, follow, parents_of, short, sources_of

MOST_HASHED = 8 * 10**9  # bytes of weights that are read to compare them with the record
SHOWN_OF_GENERATED = (
    "prompts", "seed", "settings", "fps", "begins_with", "run", "checkpoint", "step", "weights", "weights_from",
    "weights_used", "loras", "refined", "recipe_fingerprint", "code_version", "codec", "text_encoder",
)  # fmt: skip
FILMED = (".mp4", ".png")  # what `reel generate` writes


@dataclass(frozen=True)
class Origin:
    """The origin of a file or a clip.

    Attributes:
        facts: recorded facts in words, in order.
        parents: records above it, as of a checkpoint.
        made_of: other files or clips it was made of, as far as they exist.
    """

    kind: str
    path: str
    facts: dict[str, Any]
    parents: list[dict[str, Any]] = field(default_factory=list)
    snapshot: Snapshot | None = None
    sources: list[Source] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    made_of: "list[Origin | Lineage]" = field(default_factory=list)
    mix: list[Snapshot] = field(default_factory=list)
    """Snapshots of a training on several."""


def find_origin(what: str, store: Store | None = None) -> Origin | Lineage:
    """Find the origin of a file, a folder or a clip.

    Args:
        what: a path, or the id of a clip of `store`.
        store: the store of clips and snapshots.

    Raises:
        UserError: nothing is known of it.
        StoreError: the store cannot be read.
        TrainError: the checkpoint cannot be read.
    """
    if "://" in what:
        return _remote_export(what, store)
    path = Path(what).expanduser()
    if not path.exists():
        return _clip(what, store)
    if path.is_dir():
        return _folder(path, store)
    if (export := _export_above(path)) is not None:
        return _exported_file(path, export, store)
    if path.suffix == ".safetensors":
        return _weights(path, store)
    if path.suffix.lower() in FILMED:
        return _generated(path, store)
    raise _unknown(path)


def _unknown(path: Path) -> UserError:
    return UserError(
        f"{path} says nothing of where it comes from; give a run, a checkpoint, an export's folder or a file in it, "
        "weights, a LoRA file, a video that reel generate made, or a clip's id with --store"
    )


def _folder(path: Path, store: Store | None) -> Origin | Lineage:
    from reelwright.model.weights.about import read_note
    from reelwright.training.checkpoints import find_checkpoint
    from reelwright.training.errors import TrainError
    from reelwright.training.lineage import trace

    if (path / marker.MARKER).is_file():
        return _export(path, store)
    try:
        find_checkpoint(path)
    except TrainError:
        if (path / "checkpoints").is_dir():
            raise
        if read_note(path) is None and not any(path.glob("*.safetensors")) and not _has_network(path):
            raise _unknown(path) from None
        return _weights(path, store)
    return trace(path, store)


def _has_network(path: Path) -> bool:
    from reelwright.model.weights.weight_files import SUBFOLDERS

    return any(any((path / sub).glob("*.safetensors")) for sub in SUBFOLDERS)


# --- exports and clips -----------------------------------------------------------------------------------------------


def _export(path: Path, store: Store | None) -> Origin:
    said = marker.read(path)
    shown = ("format", "exported_at", "clips", "content_hash", "store", "snapshot", "sql", "captions", "caption_kinds")
    facts = {name: said[name] for name in shown if said.get(name)}
    thread, changed = _thread_of_export(path, said, store)
    return Origin("export", str(path), facts, [], thread.snapshot, thread.sources, changed + thread.warnings)


def _remote_export(uri: str, store: Store | None) -> Origin:
    with tempfile.TemporaryDirectory(prefix="reel-lineage-") as folder:
        fetch_record(uri, Path(folder))
        return replace(_export(Path(folder), store), path=uri)


def _thread_of_export(path: Path, said: Mapping[str, Any], store: Store | None) -> tuple[Thread, list[str]]:
    if said.get("snapshot"):
        return _follow({**said, "name": said["snapshot"]}, store), []
    ids = list(marker.read_clips(path).values())
    if not ids:
        return Thread(warnings=[f"it does not list its clips: {marker.CLIPS} is missing or damaged"]), []
    same = len(ids) == said.get("clips")
    changed = [] if same else [f"{marker.CLIPS} lists {len(ids):,} clips, the export had {said.get('clips')}"]
    try:
        opened = store or _open_stated(said)
        rows = list(_places(opened, ids))
    except StoreError as error:
        return Thread(warnings=[f"the way to the sources is lost: {error}"]), changed
    if lost := len(ids) - len(rows):
        changed.append(f"{lost:,} of its clips are no longer in {opened.uri}; a snapshot would have kept them")
    return Thread(sources=sources_of(opened, rows)), changed


def _places(store: Store, ids: list[str]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(ids), LOOKUP_IDS):
        condition = is_one_of("clip_id", ids[start : start + LOOKUP_IDS])
        yield from store.read("clips", list(PLACE), condition).to_pylist()


def _export_above(path: Path) -> Path | None:
    return next((p for p in list(path.absolute().parents)[:3] if (p / marker.MARKER).is_file()), None)


def _exported_file(path: Path, export: Path, store: Store | None) -> Origin:
    """Return the origin of a clip's file in an export; any other file stands for the whole export."""
    clip_id = marker.read_clips(export).get(path.stem) if path.suffix in (".mp4", ".txt") else None
    if clip_id is None:
        return _export(export, store)
    said = marker.read(export)
    facts = {"clip": clip_id, "export": str(export), **{k: said[k] for k in ("store", "snapshot") if said.get(k)}}
    try:
        opened = store or _open_stated(said)
        rows = list(_places(opened, [clip_id]))
    except StoreError as error:
        return Origin("clip", str(path), facts, warnings=[f"the way to the source is lost: {error}"])
    lost = [] if rows else [f"the clip is no longer in {opened.uri}"]
    return Origin("clip", str(path), facts, sources=sources_of(opened, rows), warnings=lost)


def _clip(what: str, store: Store | None) -> Origin:
    from reelwright.pipelines.browse.sheets import find_clip

    looks_like_id = "/" not in what and os.sep not in what and "." not in what
    if store is None and looks_like_id and (uri := os.environ.get("REEL_STORE")):
        store = Store.open(uri)
    if store is None or not looks_like_id:
        hint = "; if it is a clip's id, say of which store with --store" if looks_like_id else ""
        raise UserError(f"{what} does not exist{hint}")
    try:
        clip_id = find_clip(store, what)
    except StoreError as error:
        raise UserError(f"{what} does not exist as a file or folder; and in {store.uri} {error}") from None
    row = store.read("clips", None, is_one_of("clip_id", [clip_id])).to_pylist()[0]
    made = {k: v for k, v in row.items() if k.endswith("_fingerprint") and v}
    holding = store.read("snapshot_rows", ["snapshot"], is_one_of("clip_id", [clip_id])).column(0).to_pylist()
    size = f"{row['width']}x{row['height']}, {row['num_frames']} frames at {row['fps'] or 0:g} fps"
    facts = {"store": store.uri, "picture": size, "in snapshots": ", ".join(sorted(holding)) or "none"} | made
    return Origin("clip", clip_id, facts, sources=sources_of(store, [row]))


# --- weights and generated video -------------------------------------------------------------------------------------


def _weights(path: Path, store: Store | None) -> Origin:
    """Return the origin of a folder or a file of weights; without a record beside them only their hash is known."""
    from reelwright.model.checkpoint import weights_hash
    from reelwright.model.lora.files import is_lora
    from reelwright.model.weights.about import ABOUT, read_note
    from reelwright.model.weights.weight_files import open_weights
    from reelwright.training.lineage_record import refuse_damaged_note

    weights = open_weights(path)
    kind = "lora" if is_lora(weights) else "weights"
    digest = weights_hash(weights) if weights.num_bytes <= MOST_HASHED else None
    said = read_note(path)
    if said is None:
        facts = {"sha256": digest or "too large to be read for this", "files": len(weights.files)}
        why = "no about.json beside it says where it is from; reel checkpoint import writes one"
        if (note := (path if path.is_dir() else path.parent) / ABOUT).is_file():
            why = f"{note} is damaged: it is no JSON object; import or export the weights again to have it anew"
        return Origin(kind, str(path), facts, warnings=[why])
    refuse_damaged_note(said, path)
    warnings = []
    if digest is not None and digest != said.get("sha256"):
        warnings.append(f"about.json is of other weights: it says sha256 {str(said.get('sha256'))[:16]}")
        said = {"sha256": digest}
    shown = ("source", "step", "ema", "recipe_fingerprint", "encoder_fingerprint", "code_version", "sha256")
    facts = {name: said[name] for name in shown if said.get(name)}
    thread = _follow(said.get("snapshot"), store)
    source = Path(str(said.get("source", "")))
    before = [] if said.get("snapshot") or not said.get("source") else list(_before(source, store))
    return Origin(
        kind, str(path), facts | _stated(said), list(parents_of(said)), thread.snapshot, thread.sources,
        warnings + thread.warnings, before, thread.mix,
    )  # fmt: skip


def _before(source: Path, store: Store | None) -> Iterator["Origin | Lineage"]:
    """Yield the origin of the source that weights were imported from, if it exists and has a record."""
    from reelwright.model.weights.about import read_note

    if source.exists() and read_note(source) is not None:
        yield _weights(source, store)


def _generated(path: Path, store: Store | None) -> Origin:
    from reelwright.model.sampling.video_file import DamagedFileError, read_about

    try:
        said = read_about(path)
    except DamagedFileError:
        raise
    except UserError:
        raise _unknown(path) from None
    if not isinstance(said, dict) or said.get("made_by") != "reelwright":
        raise _unknown(path)
    return _said_of_generated(path, said, store)


def _said_of_generated(path: Path, said: Mapping[str, Any], store: Store | None) -> Origin:
    facts = {name: said[name] for name in SHOWN_OF_GENERATED if said.get(name) is not None}
    if (before := _stated_file(said, "refined_from")) is not None:
        facts["refined_from"] = str(before)
    weights = said.get("weights_from")
    stated = weights if isinstance(weights, Mapping) else said
    thread = _follow(stated.get("snapshot"), store)
    warnings, made_of = [*thread.warnings, *_missing(said)], list(_ingredients(said, store))
    return Origin("generated", str(path), facts | _stated(stated), _parents_of_run(said), thread.snapshot,
                  thread.sources, warnings, made_of, thread.mix)  # fmt: skip


def _parents_of_run(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the parents of the checkpoint that a file was made with, if it still exists."""
    from reelwright.training import checkpoints
    from reelwright.training.errors import TrainError

    try:
        return list(parents_of(checkpoints.read_metadata(str(said.get("checkpoint")))))
    except TrainError:
        return []


def _ingredients(said: Mapping[str, Any], store: Store | None) -> Iterator[Origin | Lineage]:
    """Weights and LoRAs that are still at their paths; a checkpoint's own file names its origin."""
    for path in _places_of(said, "weights"):
        if path.exists():
            yield _weights(path, store)
    yield from _first_stage(said, store)
    yield from _file_used(said, "begins_with", store)


def _first_stage(said: Mapping[str, Any], store: Store | None) -> Iterator[Origin | Lineage]:
    """Yield the origin of the video that a file was refined from: it carries that video's record, if it had one."""
    file, stated = _stated_file(said, "refined_from"), said.get("refined_from")
    about = stated.get("about") if isinstance(stated, Mapping) else None
    if file is not None and isinstance(about, Mapping):
        yield _said_of_generated(file, about, store)
    else:
        yield from _file_used(said, "refined_from", store)


def _file_used(said: Mapping[str, Any], name: str, store: Store | None) -> Iterator[Origin | Lineage]:
    """Yield the origin of a file that a record names, a generated one or a clip of an export, if it is still that."""
    file = _stated_file(said, name)
    if file is None or file.suffix.lower() not in FILMED or not _has_hash(file, said[name].get("sha256")):
        return
    with suppress(UserError):  # footage, which says nothing of itself
        yield find_origin(str(file), store)


def _has_hash(file: Path, digest: Any) -> bool:
    if not file.is_file() or file.stat().st_size > MOST_HASHED:
        return False
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == digest


def _stated_file(said: Mapping[str, Any], name: str) -> Path | None:
    stated = said.get(name)
    file = stated.get("file") if isinstance(stated, Mapping) else None
    return Path(file) if isinstance(file, str) and file else None


def _missing(said: Mapping[str, Any]) -> list[str]:
    """Warn of files that a record names and that are gone, or are others now."""
    gone = [f"{path} is no longer there" for path in _places_of(said, "checkpoint", "weights") if not path.exists()]
    return [*gone, *(f"{path} has been replaced since" for path in _replaced(said))]


def _replaced(said: Mapping[str, Any]) -> Iterator[Path]:
    """Yield files that have another hash than the record says."""
    named = [(said.get(name), "sha256") for name in ("refined_from", "begins_with")]
    named += [(one, "file_sha256") for one in said["loras"]] if isinstance(said.get("loras"), list) else []
    for stated, key in named:
        file = _stated_file({"": stated}, "")
        if file is None or not isinstance(stated, Mapping) or key not in stated or not file.is_file():
            continue
        if file.stat().st_size <= MOST_HASHED and not _has_hash(file, stated[key]):
            yield file


def _places_of(said: Mapping[str, Any], *names: str) -> list[Path]:
    """Paths that a generated file names: under `names`, and its LoRAs'."""
    loras = said.get("loras")
    files = [one.get("file") for one in loras if isinstance(one, Mapping)] if isinstance(loras, list) else []
    return [Path(path) for path in (*map(said.get, names), *files) if isinstance(path, str) and path]


# --- what a record states --------------------------------------------------------------------------------------------


def _follow(stated: Any, store: Store | None) -> Thread:
    """Follow the snapshot that a record names; empty where it names none. Records may be anybody's."""
    if not isinstance(stated, Mapping):
        return Thread()
    snapshot = _named(stated)
    parts = stated.get("mix")
    if isinstance(parts, list) and all(isinstance(part, Mapping) for part in parts):
        snapshot["mix"] = [_named(part) for part in parts]
    try:
        return follow(snapshot, store or _open_stated(snapshot))
    except StoreError as error:
        return Thread(warnings=[f"the way to the sources is lost: {error}"])


def _named(stated: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(stated.get(name) or "") for name in ("name", "content_hash", "store")}


def _open_stated(said: Mapping[str, Any]) -> Store:
    """Open the store that a record names. A remote one is opened only if the user names it: records come with files."""
    path = said.get("store")
    if not isinstance(path, str) or not path:
        raise StoreError("no store is named; say which with --store.")
    if "://" in path:
        raise StoreError(f"its store is said to be {path}; add --store {path} to go there.")
    return Store.open(path)


def _stated(said: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the snapshot that a record names, in a line."""
    stated = said.get("snapshot")
    if not isinstance(stated, Mapping):
        return {}
    clips = f"{stated.get('num_clips')} clips of {stated.get('store')}"
    parts = stated.get("mix")
    if isinstance(parts, list):
        shares = [f"{part.get('name')} {part.get('share')}" for part in parts if isinstance(part, Mapping)]
        clips = f"{', '.join(shares)}; {clips}"
    return {"snapshot": f"{stated.get('name')}, {short(str(stated.get('content_hash')))}, {clips}"}
