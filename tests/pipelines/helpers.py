"""A cheap recipe, runs of it, and all that a store holds, to compare."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.store import Store
from reelwright.pipelines.curate.run import run_all
from reelwright.pipelines.curate.sources import Summary
from reelwright.pipelines.recipes.curation import CurateRecipe, load_recipe

CHEAP: dict[str, Any] = {
    "encode.preset": "ultrafast",
    "encode.crf": 28,
    "shots.detector": "pyscenedetect",
    "annotators": ["blur", "light"],
}
CHEAP_ARGUMENTS = ["--set", "encode.preset=ultrafast", "--set", "encode.crf=28",
                   "--set", "shots.detector=pyscenedetect", "--set", "annotators=[blur, light]"]  # fmt: skip
WHEN = {"ingested_at", "mtime_ns"}  # differ between runs and machines


def recipe_of(**overrides: Any) -> CurateRecipe:
    """The cheap recipe; `clips__max_s=2` sets clips.max_s."""
    return load_recipe(None, CHEAP | {k.replace("__", "."): v for k, v in overrides.items()})


def curate(
    store: Path | Store,
    inputs: Sequence[Path | str],
    recipe: CurateRecipe | None = None,
    *,
    allow_http: bool = False,
    **options: Any,
) -> Summary:
    """Run in this process; returns the summary, whose counts add up."""
    opened = store if isinstance(store, Store) else Store.open(store, create=True)
    with opened.committing():
        recipe = recipe or recipe_of()
        found = list_inputs(
            [str(i) for i in inputs], allow_http=allow_http, manifests=recipe.manifests, images=recipe.images
        )
        summary, report = run_all(opened, recipe, found, quiet=True, **options)
    assert summary.adds_up
    summary.stage_seconds["annotated again"] = len(report.clips)
    return summary


def contents(store: Path | Store, *, without: Sequence[str] = ()) -> dict[str, Any]:
    """Rows of sources, shots and clips, and the clips' bytes, in an order of their own. Uris lose their folder."""
    opened = store if isinstance(store, Store) else Store.open(store)
    out: dict[str, Any] = {}
    for table in ("sources", "shots", "clips"):
        names = [n for n in opened.schema(table).names if n not in WHEN and n not in without]
        rows = opened.read(table, names).to_pylist()
        for row in rows:
            for key in ("uri", "duplicate_of", "source_id"):
                if row.get(key):
                    row[key] = Path(row[key]).name
        out[table] = sorted(
            rows, key=lambda r: [str(r.get(k)) for k in ("uri", "source_md5", "start_frame", "clip_id")]
        )
    ids = sorted(opened.read("media", ["clip_id"]).column(0).to_pylist())
    assert len(ids) == len(set(ids)), "clip bytes are there twice"
    out["media"] = dict(opened.read_media(ids))
    return out


def check_whole(store: Path | Store) -> None:
    """No duplicate, nothing missing, nothing left over."""
    opened = store if isinstance(store, Store) else Store.open(store)
    assert not opened.orphans()
    clips = opened.read("clips", ["clip_id", "source_md5"]).to_pylist()
    ids = [c["clip_id"] for c in clips]
    assert len(ids) == len(set(ids))
    assert set(ids) == set(opened.read("media", ["clip_id"]).column(0).to_pylist())
    ok = opened.read("sources", ["md5", "num_clips"], filter="state = 'ok'").to_pylist()
    counts = {s["md5"]: 0 for s in ok}
    for clip in clips:
        counts[clip["source_md5"]] += 1
    assert counts == {s["md5"]: s["num_clips"] for s in ok}
    keys = [(s["source_md5"], s["shot_index"]) for s in opened.read("shots", ["source_md5", "shot_index"]).to_pylist()]
    assert len(keys) == len(set(keys))
