"""The demonstration's store with more takes of its scenes: footage that is curated and annotated as a user's is."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from benchmarks.closed_loop.commands import reel
from benchmarks.closed_loop.footage import KINDS, STARVED, take
from reelwright.curation.store import Store
from reelwright.pipelines.demo import footage

TAKE_FRAMES = 72
SQL = "select clip_id from clips where duration_s >= 1.125 and width > height"
"""Clips that fill the recipe's frames, and its shape."""


def demo_store(folder: Path, *, each: int, starved: int) -> Store:
    """Curate the demonstration's files, `each` takes of every kind and `starved` of STARVED.

    Clusters are as many as captions: with fewer, one clip's caption has no cluster of its own to be weighed by.
    """
    at = folder / "store"
    manifest = folder / "footage.csv"
    if not manifest.exists():
        rows = [(path, path.stem) for path in footage.make_footage(folder / "footage")]
        rows += _takes(folder / "takes", each, starved)
        with manifest.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["uri", "caption"])
            table.writerows((str(path.absolute()), caption) for path, caption in rows)
    reel("curate", str(manifest), "--quiet", store=str(at))
    store = Store.open(at)
    captions = store.sql("select count(distinct caption) from sources where state = 'ok'").column(0)[0].as_py()
    names = [word for name in ("clusters", "cluster_names", "density") for word in ("--only", name)]
    reel("annotate", *names, "--set", f"parameters.clusters.k={captions}", "--quiet", store=str(at))
    return store


def _takes(folder: Path, each: int, starved: int) -> Iterator[tuple[Path, str]]:
    """Write takes of the demonstration's scenes in its size and rate; yield (file, caption)."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, (_, captions) in KINDS.items():
        for i in range(starved if kind == STARVED else each):
            path = folder / f"{kind}-{i}.mp4"
            frames = take(kind, i, footage.WIDTH, footage.HEIGHT, TAKE_FRAMES, footage.FPS)
            footage.write_clip(path, frames)
            yield path, captions[i % len(captions)]
