"""Incremental annotation: a rerun with nothing to do, writes when one annotator is added, and writes of a slow one.

`python -m benchmarks.annotate` prints `name value` lines. The floor of a rerun is one read of the ids and fingerprints
that it must look at; its store holds synthetic clips on which every annotator of the cpu profile is current. The
journal's peer is a merge of each commit, on the same store.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.scale import best_of, build, synthetic_clips, timed
from reelwright.annotate import Annotator, SetAnnotator
from reelwright.curation.store import Store
from reelwright.curation.store.journal import MERGE_ROWS, Journal
from reelwright.pipelines.annotate.load import in_levels, load_annotators, prepare_columns
from reelwright.pipelines.annotate.run import annotate_and_record, is_current
from reelwright.pipelines.annotate.sets import set_staleness
from reelwright.pipelines.annotate.staleness import Staleness
from reelwright.pipelines.recipes.curation import CurateRecipe, load_recipe
from reelwright.pipelines.runtime.progress import Progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=100_000, help="of the rerun; 0 leaves it out")
    parser.add_argument("--added-to", type=int, default=10_000, help="clips of the store that gets an annotator")
    parser.add_argument("--slow", type=int, default=65_536, help="clips of the store that a slow annotator fills")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.clips:
            for name, value in rerun_rows(Path(folder) / "current", args.clips):
                print(f"rerun.{name}", f"{value:.6g}", flush=True)
        if args.added_to:
            for name, value in added_rows(Path(folder) / "added", args.added_to):
                print(f"added.{name}", f"{value:.6g}", flush=True)
        if args.slow:
            for name, value in slow_rows(Path(folder) / "slow", args.slow):
                print(f"slow.{name}", f"{value:.6g}", flush=True)


def rerun_rows(path: Path, clips: int) -> Iterator[tuple[str, float]]:
    """Nothing is stale: the check alone, and the whole command with the start of Python."""
    recipe = load_recipe(None, {"profile": "cpu"})
    store = _all_current(build(path, clips), recipe)
    annotators = load_annotators(recipe)
    prints = [f"{name}_fingerprint" for name in annotators]
    yield "clips", clips
    yield "annotators", len(annotators)
    ours = best_of(3, lambda: is_current(store, annotators))
    floor = best_of(3, lambda: store.read("clips", ["clip_id", *prints]))
    yield "check_s", ours
    yield "check_over_reading_fingerprints", ours / floor
    command = [sys.executable, "-m", "reelwright.pipelines.cli", "annotate", "--store", str(path)]
    done, seconds = timed(lambda: subprocess.run(command, capture_output=True, text=True, check=True))
    assert "nothing to do" in done.stdout, done.stdout
    yield "command_s", seconds


def _all_current(store: Store, recipe: CurateRecipe) -> Store:
    """Every annotator's fingerprint, as if it had run; only values that others wait for."""
    annotators = load_annotators(recipe)
    store.drop_columns("clips", ["motion_score", "text_coverage", "camera_motion", "caption"])
    prepare_columns(store, annotators)
    for names in in_levels(annotators):
        for name in names:
            annotator = annotators[name]
            found: Iterable[tuple[Any, Any]]
            if isinstance(annotator, Annotator):
                looked_at = Staleness(store, {name: annotator}, retry_failed=True).stretches()
                found = (
                    (stretch.clips.column("clip_id"), stretch.expected[name].dictionary_decode())
                    for stretch in looked_at
                )
            else:
                assert isinstance(annotator, SetAnnotator)
                ids = store.read("clips", ["clip_id"]).column(0)
                found = [(ids, pa.array([set_staleness(store, annotator).expected] * len(ids)))]
            for ids, prints in list(found):
                store.merge("clips", pa.table({"clip_id": ids, f"{name}_fingerprint": prints}), on="clip_id")
    return store


def added_rows(path: Path, clips: int) -> Iterator[tuple[str, float]]:
    """`blur` is added to clips that have others' columns and real bytes: which files change, and which versions."""
    import numpy as np

    from reelwright.pipelines.runtime.cluster import cluster

    store, mp4 = Store.open(path, create=True), _small_clip()
    rows = synthetic_clips(np.random.default_rng(0), 0, clips)
    ids = rows.column("clip_id").to_pylist()
    store.merge("clips", rows.slice(0, 0), on="clip_id")  # adds the columns of other annotators
    store.append("clips", rows)
    store.commit_media([store.write_media(ids, [mp4] * clips)])
    before, version = _files(path), store.dataset("media").version
    recipe = load_recipe(None, {"annotators": ["blur"]})
    with cluster(), Progress("annotate") as progress:
        report, seconds = timed(lambda: annotate_and_record(store, recipe, load_annotators(recipe), progress))
    after = _files(path)
    new = {name: size for name, size in after.items() if name not in before}
    yield "clips", clips
    yield "annotated", report.done["blur"]
    yield "seconds", seconds
    yield "bytes_before", sum(before.values())
    yield "media_bytes", sum(size for name, size in before.items() if name.startswith("media"))
    yield "files_changed_or_gone", sum(after.get(name) != size for name, size in before.items())
    yield "media_bytes_written", sum(size for name, size in new.items() if name.startswith("media"))
    yield "media_versions_added", store.dataset("media").version - version
    yield "column_bytes_written", sum(size for name, size in new.items() if name.startswith("clips.lance/data"))
    yield "column_bytes_of_one_copy", clips * (4 + 4 + 16)  # two float32 and a fingerprint


def slow_rows(path: Path, clips: int, commit: int = 300, dim: int = 384) -> Iterator[tuple[str, float]]:
    """Embeddings at 10 clips per second, committed every 30 s, to clips of which half have theirs: bytes written until
    a quarter of a fragment is full, which is when the journal is merged."""
    store = build(path, clips)
    store.merge("clips", _vectors(store, 0, clips // 2, dim), on="clip_id")
    at, until = clips // 2, min(clips, clips // 2 + MERGE_ROWS)
    commits = [_vectors(store, i, min(i + commit, until), dim) for i in range(at, until, commit)]
    merged = [_written(path, lambda rows=rows: store.merge("clips", rows, on="clip_id")) for rows in commits[:4]]
    journal = Journal(store)
    noted = [_written(path, lambda rows=rows: journal.add("slow", rows)) for rows in commits]
    noted.append(_written(path, journal.merge))
    yield "clips", clips
    yield "commits", len(commits)
    yield "bytes_of_results", sum(rows.nbytes for rows in commits)
    yield "bytes_of_a_merge", merged[0]
    yield "bytes_of_a_note", noted[0]
    yield "note_over_results", noted[0] / commits[0].nbytes
    yield "journal_bytes", sum(noted)
    yield "journal_over_results", sum(noted) / sum(rows.nbytes for rows in commits)
    yield "journal_over_merging_each", sum(noted) / (sum(merged) / len(merged) * len(commits))


def _vectors(store: Store, start: int, stop: int, dim: int) -> pa.Table:
    """Results of clips [start, stop) in the table's order."""
    import numpy as np

    ids = store.read("clips", ["clip_id"]).column(0).slice(start, stop - start)
    values = np.random.default_rng(start).normal(size=(stop - start) * dim).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), dim)
    return pa.table({"clip_id": ids, "slow_vector": vectors, "slow_fingerprint": ["0" * 16] * (stop - start)})


def _written(path: Path, work: Callable[[], Any]) -> int:
    """Bytes of the files that were not there before; all there are, manifests too."""
    before = set(path.rglob("*"))
    work()
    return sum(f.stat().st_size for f in path.rglob("*") if f not in before and f.is_file())


def _files(path: Path) -> dict[str, int]:
    """Data files of all tables -> bytes."""
    return {str(f.relative_to(path)): f.stat().st_size for f in path.rglob("*") if f.suffix in (".lance", ".blob")}


def _small_clip() -> bytes:
    """A real mp4 of a second."""
    from tests.footage import frames, write

    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder) / "clip.mp4", frames(12, 96, 64)).read_bytes()


if __name__ == "__main__":
    main()
