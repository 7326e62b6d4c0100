"""`reel lineage`: from a checkpoint, an export, weights or a video back to source files."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelwright.pipelines.cli.app import app, printable, say

if TYPE_CHECKING:
    from reelwright.curation.store import Snapshot
    from reelwright.pipelines.browse.origins import Origin
    from reelwright.training.lineage import Lineage, Source

SHOWN = 8  # source files, without --all


@app.command(epilog="Example:  reel lineage runs/stage2-t2v-first-1f2e3d4c --all")
def lineage(
    what: Annotated[
        str,
        typer.Argument(
            help="A run or checkpoint, an export or a file of it, weights, a LoRA file, a generated video, a clip's id."
        ),
    ],
    store: Annotated[str, typer.Option("--store", "-s", help="The store, where it is not where WHAT says.")] = "",
    every: Annotated[bool, typer.Option("--all", help="List every source file, clip and its frames.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every clip.")] = False,
) -> None:
    """Print what something was made from: recipe, snapshot, clips, annotators, source files."""
    from reelwright.curation.store import Store
    from reelwright.pipelines.browse.origins import find_origin

    found = find_origin(what, Store.open(store) if store else None)
    if as_json:
        say(json.dumps(asdict(found), indent=1, default=str, ensure_ascii=False))
        return
    say(*_lines(found, every))


def _lines(found: "Lineage | Origin", every: bool) -> list[str]:
    from reelwright.training.lineage import Lineage

    head = [*_checkpoint(found), *_snapshot(found)] if isinstance(found, Lineage) else _origin(found)
    lines = [*head, *_sources(found.sources, every), *(f"warning: {printable(w)}" for w in found.warnings)]
    for one in () if isinstance(found, Lineage) else found.made_of:
        lines += ["made of:", *(f"  {line}" for line in _lines(one, every))]
    return lines


def _origin(found: "Origin") -> list[str]:
    lines = [f"{found.kind:<12} {printable(found.path)}"]
    lines += [f"    {name}: {printable(_value(value))}" for name, value in found.facts.items()]
    lines += [f"parent       {printable(_parent(parent))}" for parent in found.parents]
    return lines + _frozen(found)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _checkpoint(found: "Lineage") -> list[str]:
    metadata = found.checkpoint
    lines = [
        f"checkpoint   {metadata['path']}",
        f"             step {metadata['step']}, code {metadata['code_version']}",
    ]
    if loss := metadata.get("metrics", {}).get("val/loss"):
        lines.append(f"             validation loss {loss:.4f}")
    lines.append(f"recipe       {metadata['recipe_fingerprint']}, {_model(metadata['recipe'])}")
    lines.append(f"encoders     {metadata['encoder_fingerprint']}")
    lines += _rewards(metadata.get("rewards", {}))
    lines += [f"parent       {_parent(parent)}" for parent in found.parents] or ["parent       none: random weights"]
    if origin := metadata.get("resumed_from"):
        lines.append(f"resumed      {_parent(origin)}, optimizer state and all")
    return lines


def _rewards(rewards: dict[str, Any]) -> list[str]:
    lines = []
    for label, one in rewards.items():
        use = one["use"] if isinstance(one["use"], str) else f"weight {one['use']['weight']:g}"
        models = f", {', '.join(map(str, one['models']))}" if one["models"] else ""
        if served := one.get("served"):
            models = f", serves {served.get('name', 'a reward')} {served['fingerprint']}"
        lines.append(f"reward       {label}: {one['name']} {one['version']}, {one['fingerprint']}, {use}{models}")
    return lines


def _model(recipe: dict[str, Any]) -> str:
    model, lora = recipe["model"], recipe.get("lora")
    adapters = f", LoRA of rank {lora['rank']}" if lora else ""
    return f"{recipe['steps']} steps, {model['depth']} blocks of {model['hidden_size']}{adapters}"


def _parent(parent: dict[str, Any]) -> str:
    if not parent.get("snapshot"):
        return f"{parent['path']} ({str(parent.get('sha256', 'published weights'))[:16]})"
    snapshot = parent["snapshot"]
    trained = f"recipe {parent['recipe_fingerprint']}, snapshot {snapshot['name']} {snapshot['content_hash'][:19]}"
    return f"{parent['path']} (step {parent['step']}, {trained})"


def _snapshot(found: "Lineage") -> list[str]:
    stated = found.checkpoint["snapshot"]
    lines = []
    for one in stated.get("mix") or [stated]:
        share = f", {one['share']:.1%} of the samples" if "share" in one else ""
        lines += [
            f"snapshot     {one['name']}, {one['content_hash'][:19]}, {one['num_clips']:,} clips{share}",
            f"             {one['store']}",
            f"             {printable(one['sql'])}",
        ]
    return lines + _frozen(found)


def _frozen(found: "Lineage | Origin") -> list[str]:
    """Say what the store still has of the snapshots: of several, each under its name."""
    if found.snapshot:
        return _pinned(found.snapshot, not found.warnings)
    return [line for one in found.mix for line in (f"of {one.name}:", *_pinned(one, not found.warnings))]


def _pinned(snapshot: "Snapshot", as_stated: bool) -> list[str]:
    from reelwright.curation.store.weighting import describe

    lines = ["             the store still has it, with this hash"] if as_stated else []
    lines.append(f"             versions: {_versions(snapshot)}")
    if snapshot.balance:
        lines.append(f"             {describe(snapshot.balance)}")
    for annotator, prints in sorted(snapshot.fingerprints.items()):
        made = ", ".join(f"{fingerprint} ({count:,} clips)" for fingerprint, count in sorted(prints.items()))
        lines.append(f"annotator    {annotator}: {made}")
    return lines


def _versions(snapshot: "Snapshot") -> str:
    names = ("clips", "media", "sources")
    return ", ".join(f"{name} {getattr(snapshot, f'{name}_version')}" for name in names)


def _sources(sources: list["Source"], every: bool) -> list[str]:
    lines = []
    for source in sources if every else sources[:SHOWN]:
        lines.append(f"source       {printable(source.uri)}  md5 {source.md5}  {len(source.clips):,} clips")
        if every:
            lines += [
                f"    clip {c['clip_id']}  frames {c['start_frame']}-{c['end_frame'] - 1}  "
                f"{c['start_s']:.3f}-{c['end_s']:.3f} s"
                for c in source.clips
            ]
    if not every and len(sources) > SHOWN:
        lines.append(f"             … and {len(sources) - SHOWN:,} more files; --all lists them with every clip")
    return lines
