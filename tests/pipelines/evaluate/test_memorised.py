"""Memorisation end to end: clips are embedded, generations too, by a small CLIP, and a copy finds what it is of."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reelwright.curation.store import Store
from reelwright.pipelines.annotate.load import load_annotators
from reelwright.pipelines.annotate.run import annotate_and_record
from reelwright.pipelines.evaluate.measures import measure
from reelwright.pipelines.evaluate.run import Options
from reelwright.pipelines.runtime.progress import Progress
from tests.annotate.checkpoints_clip import clip_folder  # noqa: F401
from tests.curation.store.conftest import add_source
from tests.footage import frames, write
from tests.pipelines.helpers import recipe_of

pytestmark = [pytest.mark.usefixtures("ray_local"), pytest.mark.waits, pytest.mark.exhaustive]
QUIET = Options(quiet=True, workers=1)


def video(folder: Path, seed: int, **options: str) -> bytes:
    return write(folder / "made.mp4", frames(12, seed=seed), fps=10, **options).read_bytes()


def test_a_generation_that_copies_a_clip_is_near_it_and_another_is_not(
    tmp_path: Path,
    clip_folder: Path,  # noqa: F811
) -> None:
    store = Store.open(tmp_path / "store", create=True)
    ids = add_source(store, "aa", 3)
    store.commit_media([store.write_media(ids, [video(tmp_path, seed) for seed in (1, 2, 3)])])
    recipe = recipe_of(annotators=["visual_embedding"], parameters={"visual_embedding": {
        "clip": {"model": str(clip_folder), "device": "cpu"},
    }})  # fmt: skip
    with Progress("annotate", quiet=True) as progress:
        done = annotate_and_record(store, recipe, load_annotators(recipe), progress)
    assert done.done["visual_embedding"] == 3
    some = store.snapshots.create("some", "select clip_id from clips")
    lineage = json.dumps({"snapshot": {"name": "some", "content_hash": some.content_hash}})
    made = {"copy": video(tmp_path, 2, crf="30"), "own": video(tmp_path, 77)}
    rows: list[dict[str, Any]] = [
        {"generation_id": name, "evaluation_id": "e", "state": "ok", "lineage": lineage, "model": "m",
         "at": datetime(2026, 1, 2, tzinfo=UTC)} for name in made
    ]  # fmt: skip
    store.add_generations(rows, made)
    found = measure(store, "e", ["nearest"], QUIET)
    assert (found.made["nearest"], found.notes) == (2, [])
    near = {row["generation_id"]: row for row in store.read("generations").to_pylist()}
    assert near["copy"]["nearest_clip"] == ids[1]
    assert near["copy"]["nearest_similarity"] > 0.99
    assert near["own"]["nearest_similarity"] < near["copy"]["nearest_similarity"]
    assert measure(store, "e", ["nearest"], QUIET).current["nearest"] == 2
