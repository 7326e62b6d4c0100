"""A run's plan and the places of its samples, made once by the first rank, and mapped by all of them.

The files lie beside the run, in `plan/`; `reel precompute` makes them beside the store, and runs link those. They
follow from the recipe, the snapshot and the store's versions alone, and are made again when one of these has changed;
deleting them costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.curation.store.maintenance import PLANS
from reelwright.training.data.encode import fingerprints_of
from reelwright.training.data.fresh import FreshSamples
from reelwright.training.data.latents import Samples, StoredSamples
from reelwright.training.data.loader import make_schedule, refuse_missing, samples_for
from reelwright.training.data.mapped import map_table
from reelwright.training.data.mix_rows import content_hash, pinned
from reelwright.training.data.plan import NOTE, read_plan, write_plan
from reelwright.training.data.sample_index import LATENTS, TEXTS, SampleIndex
from reelwright.training.data.schedule import VERSION, Schedule
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.mix import options
from reelwright.training.recipe import TrainRecipe

FOLDER, CLIPS, BLOCKS = "plan", "clips.arrow", "blocks.json"
FORMAT = 2
"""Of the files: those of another one are made anew."""


@dataclass(frozen=True)
class Clips:
    """The clips of a run: a snapshot in a store, or several by the recipe's `data.mix`, where `snapshot` is empty.

    samples: makes what `data.encode` does not have precomputed; None reads all from the store. recipe_path:
    named in the command of an error.
    """

    store: Store
    snapshot: str
    samples: FreshSamples | None = None
    recipe_path: str = "RECIPE"


def prepare(
    clips: Clips, recipe: TrainRecipe, folder: Path, world: World, *, left_out: list[str] | None = None
) -> tuple[Schedule, Samples]:
    """Return the schedule and the samples of a run. Every rank calls it.

    Args:
        clips: the clips that the run trains on.
        recipe: of the run.
        folder: of the run; all ranks see it.
        world: this rank and the others.
        left_out: clips that the run has left out before, sorted.

    Raises:
        TrainError: no clip can be used, or the store lacks what the recipe wants precomputed.
    """
    place = folder / FOLDER
    _first(world, lambda: _make(clips, recipe, place, left_out))
    schedule = Schedule(read_plan(place / CLIPS), recipe.data, recipe.tasks, recipe.model, recipe.seed)
    _remember_starts(schedule, place / BLOCKS, writes=world.is_first)
    index = SampleIndex.read(place) if (place / LATENTS).exists() else None
    prints = fingerprints_of(recipe)
    return schedule, samples_for(
        lambda: StoredSamples(clips.store, schedule, prints, index), clips.samples, schedule, prints
    )


def _remember_starts(schedule: Schedule, path: Path, *, writes: bool) -> None:
    """Let a resumed run find its place without making the blocks before it."""
    with suppress(OSError, ValueError):
        schedule.starts = json.loads(path.read_text(encoding="utf-8"))
    if writes:
        schedule.remember = partial(_write_starts, path)


def _write_starts(path: Path, starts: list[int]) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(starts), encoding="utf-8")
    unfinished.replace(path)


def _first(world: World, make: Callable[[], None]) -> None:
    """Let the first rank make something while the others wait; where it fails, all of them do."""
    problem: Exception | None = None
    if world.is_first:
        try:
            make()
        except Exception as error:  # whatever it is, the others wait to hear of it
            problem = error
    said = world.broadcast(str(problem) or repr(problem) if problem else None)
    if problem:
        raise problem
    if said:
        raise TrainError(said)


def keep(clips: Clips, recipe: TrainRecipe) -> Path | None:
    """Make the files beside the store, once all samples are there: runs then link them and read no snapshot.

    Args:
        clips: as a run of the recipe will have them; encoders are not used.
        recipe: of the runs.

    Returns:
        The folder; None where the store is not on this machine's disks.

    Raises:
        TrainError: no clip can be used, or the store lacks what the recipe wants precomputed.
    """
    form = _Form.of(recipe, encodes=not all(recipe.data.encode.stored))
    place, key = _kept(clips, recipe), _key(clips.store, clips.snapshot, recipe, form)
    if place and _known(place / CLIPS).get("key") != key:
        _build(clips, recipe, place, form, key)
    return place


@dataclass(frozen=True)
class _Form:
    """hashes: of captions in place of texts; wants: samples from the store; encodes: the rest, while training."""

    hashes: bool
    wants: bool
    encodes: bool

    @classmethod
    def of(cls, recipe: TrainRecipe, *, encodes: bool) -> _Form:
        """Return what a recipe's plan is like."""
        encode, texts = recipe.data.encode, recipe.objective.makes_videos
        hashes = not texts and (not encodes or encode.text == "precomputed")
        return cls(hashes, not encodes or any(encode.stored), encodes)


def _make(clips: Clips, recipe: TrainRecipe, place: Path, left_out: list[str] | None) -> None:
    """Make the files, unless they are there, or beside the store, and of the same recipe, snapshot and store."""
    form = _Form.of(recipe, encodes=bool(clips.samples))
    key, kept = _key(clips.store, clips.snapshot, recipe, form), _kept(clips, recipe)
    for folder in filter(None, (place, kept)):
        known = _known(folder / CLIPS)
        if known.get("key") == key and left_out in (None, known["facts"]["failed"]):
            if folder != place:
                _link(folder, place)
            if _known(place / CLIPS).get("key") == key:  # else they were replaced meanwhile
                return
    _build(clips, recipe, place, form, key, left_out)


def _build(
    clips: Clips,
    recipe: TrainRecipe,
    place: Path,
    form: _Form,
    key: dict[str, Any],
    left_out: list[str] | None = None,
) -> None:
    store, snapshot = clips.store, clips.snapshot
    _clear(place)
    schedule = make_schedule(store, snapshot, recipe, left_out=left_out, hashes=form.hashes)
    if form.wants:
        stored = StoredSamples(store, schedule, fingerprints_of(recipe))
        command = f"reel precompute {clips.recipe_path} {options(snapshot, recipe.data.mix)} --store {store.uri}"
        refuse_missing(stored, recipe, command, encodes=form.encodes)
        stored.index.write(place)
    write_plan(schedule.plan, place / CLIPS, key)


def _clear(place: Path) -> None:
    for name in (CLIPS, LATENTS, TEXTS, BLOCKS):
        (place / name).unlink(missing_ok=True)


def _kept(clips: Clips, recipe: TrainRecipe) -> Path | None:
    """Return the folder of a recipe's and snapshot's files beside a store on a disk."""
    content = content_hash(pinned(clips.store, clips.snapshot, recipe.data), recipe.data.mix)
    digest = hashlib.sha256(f"{recipe.fingerprint} {content}".encode()).hexdigest()[:16]
    return clips.store.path / PLANS / digest if clips.store.path else None


def _link(kept: Path, place: Path) -> None:
    """Take files from beside the store, the plan last; they are replaced and never changed, so a link is enough."""
    _clear(place)
    place.mkdir(parents=True, exist_ok=True)
    for name in (TEXTS, LATENTS, CLIPS):
        with suppress(FileNotFoundError):  # a plan may have no latents
            try:
                os.link(kept / name, place / name)
            except OSError:  # another disk
                unfinished = place / f"{name}.tmp"
                shutil.copyfile(kept / name, unfinished)
                unfinished.replace(place / name)


def _known(path: Path) -> dict[str, Any]:
    """Return the note of a plan's file; empty where there is no file, or none that can be read."""
    try:
        return map_table(path, NOTE)[1]
    except (OSError, pa.ArrowInvalid, KeyError, TypeError):
        return {}


def _key(store: Store, snapshot: str, recipe: TrainRecipe, form: _Form) -> dict[str, Any]:
    """All that the files follow from, as JSON."""
    of = pinned(store, snapshot, recipe.data)
    versions = [store.dataset(table).version for table in ("latents", "texts", "failures")]
    key = {
        "format": FORMAT, "sampler": VERSION, "snapshot": content_hash(of, recipe.data.mix),
        "clips": [one.clips_version for one in of.values()], "sources": [one.sources_version for one in of.values()],
        "recipe": recipe.fingerprint, "versions": versions, "form": [form.hashes, form.wants], "store": store.uri,
    }  # fmt: skip
    return json.loads(json.dumps(key))
