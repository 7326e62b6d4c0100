"""Sets whose batches have their columns by themselves: tasks share them, and give what one worker gives."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.annotate import Postponed, SetAnnotator, load
from reelwright.annotate.keys import Keys
from reelwright.curation.results import Failed
from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from reelwright.pipelines.annotate import sets
from reelwright.pipelines.annotate.load import load_annotators, prepare_columns
from reelwright.pipelines.annotate.set_tasks import SharedWork, _at_once, compute_stretch
from reelwright.pipelines.annotate.sets import SetOutcome, run_set
from reelwright.pipelines.recipes.curation import Need
from reelwright.pipelines.runtime.flow import Flow
from reelwright.pipelines.runtime.meter import Stage
from tests.annotate.sets.embedded_clips import DIM, about, blobs
from tests.conftest import ROOT
from tests.pipelines.helpers import recipe_of
from tests.pipelines.sample_annotators import SAMPLES

BY = "caption_embedding"
FIELDS = [
    field(BY, pa.list_(pa.float32(), DIM), "vector", computed_by=BY),
    field(f"{BY}_model", pa.string(), "model", computed_by=BY),
    field(f"{BY}_fingerprint", pa.string(), "fingerprint", computed_by=BY),
    field("cluster_id", pa.int32(), "cluster", computed_by="clusters"),
    field("clusters_fingerprint", pa.string(), "fingerprint", computed_by="clusters"),
    field("caption", pa.string(), "caption", computed_by="caption"),
]
NAMED: dict[str, dict[str, Any]] = {"clusters": {"k": 5}, "cluster_names": {}, "caption_map": {"sample": 12}}


def embedded(folder: Path, cuts: list[int], seed: int) -> Store:
    """Clips in fragments of so many: some wait for their vector, have none, or one of another model; some are gone."""
    store = Store.open(folder / "store", create=True)
    store.ensure_columns("clips", FIELDS)
    vectors, which = blobs([-(-sum(cuts) // 3)] * 3, seed=seed, width=0.8)
    said, rng = about(which), np.random.default_rng(seed)
    chances, order, start = rng.random((4, len(vectors))), rng.permutation(len(vectors)), 0
    for count in cuts:
        store.append("clips", [
            {"clip_id": f"{order[i]:04d}", "source_md5": "s", BY: None if chances[0, i] < 0.1 else vectors[i],
             f"{BY}_model": "old" if chances[1, i] < 0.1 else "m", "caption": said[i], "cluster_id": int(which[i]),
             f"{BY}_fingerprint": None if chances[2, i] < 0.1 else "f", "clusters_fingerprint": "f"}
            for i in range(start, start + count)
        ])  # fmt: skip
        start += count
    gone = [f"'{order[i]:04d}'" for i in range(start) if chances[3, i] < 0.1]
    if gone:
        store.delete("clips", f"clip_id IN ({', '.join(gone)})")
    return store


def computed(store: Store, annotator: SetAnnotator, stretch_clips: int) -> tuple[list[pa.Table], sets._End]:
    version, name, params = store.dataset("clips").version, annotator.name, annotator.parameters
    *tables, end = sets._compute(store.uri, version, name, params, Keys({}), "", stretch_clips)
    assert isinstance(end, sets._End)
    assert end.problem is None
    return [table for table in tables if isinstance(table, pa.Table)], end


@pytest.mark.parametrize("name", NAMED)
@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=6), stretch=st.integers(1, 60), seed=st.integers(0, 99))
def test_stretches_give_what_one_worker_gives(name: str, cuts: list[int], stretch: int, seed: int) -> None:
    annotator = load(name, NAMED[name])
    assert isinstance(annotator, SetAnnotator)
    with tempfile.TemporaryDirectory() as folder:
        store = embedded(Path(folder), cuts, seed)
        tables, one = computed(store, annotator, 10_000)
        nothing, end = computed(store, annotator, stretch)
        members = sum(map(len, tables))
        assert end.state == one.state
        is_bare = one.state == "null"  # no clip has a vector: nulls, for which no task is needed
        assert (end.left is None) == (members <= stretch or is_bare)
        if end.left is None:
            assert sum(map(len, nothing)) == members
            return
        assert not nothing
        work = pickle.loads(pickle.dumps(end.left))  # as Ray sends it
        parts = [compute_stretch(work, fragments) for fragments in reversed(work.stretches())]
    rows = pa.concat_tables([part for _, part in parts]).sort_by("clip_id")
    whole = pa.concat_tables(tables).sort_by("clip_id")
    assert len(rows) == members > 0
    for column in whole.column_names:
        if pa.types.is_floating(whole[column].type):
            assert rows[column].is_valid().equals(whole[column].is_valid())
            np.testing.assert_allclose(rows[column].drop_null(), whole[column].drop_null(), rtol=1e-5, atol=1e-5)
        else:
            assert rows[column].to_pylist() == whole[column].to_pylist(), column


@given(cuts=st.lists(st.integers(1, 30), min_size=1, max_size=8), rows=st.integers(1, 70))
@settings(max_examples=10, deadline=None)
def test_stretches_hold_every_row_once_and_in_order(cuts: list[int], rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = embedded(Path(folder), cuts, 1)
        found = store.stretches("clips", rows)
        read = [ids_of(store, fragments) for fragments in found]
        assert [one for ids in read for one in ids] == store.read("clips")["clip_id"].to_pylist()
        assert all(len(ids) <= rows or len(fragments) == 1 for ids, fragments in zip(read, found, strict=True))
        firsts = [len(ids_of(store, fragments[:1])) for fragments in found[1:]]
        assert all(len(ids) + first > rows for ids, first in zip(read, firsts, strict=False)), "as long as may be"


def ids_of(store: Store, fragments: Sequence[int]) -> list[str]:
    return [one for batch in store.scan("clips", ["clip_id"], fragments=fragments) for one in batch[0].to_pylist()]


def widths(folder: Path, fragments: int = 6, rows: int = 20) -> Store:
    store = Store.open(folder / "store", create=True)
    for f in range(fragments):
        store.append("clips", [
            {"clip_id": f"{i:04d}", "source_md5": "s", "width": i, "clips_fingerprint": "f"}
            for i in range(f * rows, (f + 1) * rows)
        ])  # fmt: skip
    return store


def run(
    store: Store, monkeypatch: pytest.MonkeyPatch, trouble: Path | str = "", attempts: int = 1, stretch: int = 40
) -> tuple[SetOutcome, Stage]:
    """Run `doubled`, 40 clips a task; and what its tasks took."""
    monkeypatch.setattr(sets, "STRETCH_CLIPS", stretch)
    recipe = recipe_of(
        annotators=["doubled"], parameters={"doubled": {"trouble": str(trouble)}}, limits__attempts=attempts
    )  # fmt: skip
    annotators, stages = load_annotators(recipe), defaultdict[str, Stage](Stage)
    prepare_columns(store, annotators)
    outcome = run_set(store, recipe, annotators["doubled"], Keys({}), stages=stages)
    return outcome, stages["doubled"]


def is_done(store: Store) -> bool:
    rows = store.read("clips", ["width", "doubled_width"])
    return rows["doubled_width"].to_pylist() == [2 * width for width in rows["width"].to_pylist()]


def is_untouched(store: Store) -> bool:
    rows = store.read("clips", ["doubled_width", "doubled_by", "doubled_fingerprint"])
    return all(rows[c].null_count == len(rows) for c in rows.column_names) and not store.count("annotator_states")


@pytest.mark.usefixtures("ray_local")
def test_tasks_share_a_set_and_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = widths(tmp_path)
    outcome, took = run(store, monkeypatch)
    assert (outcome.clips, outcome.error) == (120, "")
    assert is_done(store)
    assert took.tasks == 3
    assert outcome.took is not None
    assert outcome.took.count == 1
    assert took.used.cpu_s > 0
    assert took.used.peak_bytes > 2**20
    assert outcome.seconds >= took.seconds
    [annotator] = load_annotators(recipe_of(annotators=["doubled"])).values()
    assert isinstance(annotator, SetAnnotator)
    assert sets.set_staleness(store, annotator).is_current
    store.append("clips", [{"clip_id": "more", "source_md5": "s", "width": 7, "clips_fingerprint": "f"}])
    again, _ = run(store, monkeypatch)
    assert (again.clips, is_done(store)) == (121, True)
    assert [row["state"] for row in store.read("annotator_states").to_pylist()] == ["2"], "the state came back"


@pytest.mark.usefixtures("ray_local")
def test_a_small_set_is_done_where_it_was_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = widths(tmp_path)
    outcome, took = run(store, monkeypatch, stretch=120)
    assert (outcome.clips, took.tasks) == (120, 0)
    assert is_done(store)
    assert len(set(store.read("clips")["doubled_by"].to_pylist())) == 1


@pytest.mark.usefixtures("ray_local")
def test_a_task_whose_worker_dies_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, trouble = widths(tmp_path), tmp_path / "trouble"
    trouble.write_text("once")
    outcome, took = run(store, monkeypatch, trouble)
    assert not trouble.exists(), "it did die"
    assert (outcome.clips, outcome.error, took.tasks) == (120, "", 3)
    assert is_done(store)


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize(
    ("how", "error"),
    [("always", "the worker was lost (WorkerCrashedError)"), ("raise", "ValueError: no doubling today")],
)
def test_a_set_of_which_a_part_fails_has_no_results(
    how: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, trouble = widths(tmp_path), tmp_path / "trouble"
    trouble.write_text(how)
    outcome, _ = run(store, monkeypatch, trouble)
    assert (outcome.clips, outcome.error, outcome.postponed) == (0, error, False)
    assert is_untouched(store)
    trouble.unlink()
    assert run(store, monkeypatch, trouble)[0].clips == 120
    assert is_done(store)


@pytest.mark.usefixtures("ray_local")
def test_stretches_under_way_are_as_many_as_cpus_and_memory_for_objects_allow() -> None:
    import ray

    flow = Flow({"doubled": (compute_stretch, Need(), 2)}, attempts=0)
    memory = ray.cluster_resources()["object_store_memory"]
    assert _at_once(flow, "doubled", 0) == 2 * ray.cluster_resources()["CPU"]
    assert _at_once(flow, "doubled", int(memory / 4)) == 2
    assert _at_once(flow, "doubled", int(10 * memory)) == 1


def test_a_stretch_that_fails_says_why(tmp_path: Path) -> None:
    store = embedded(tmp_path, [5, 5], 0)
    work = SharedWork(store.uri, store.dataset("clips").version, "clusters", {}, "f", (BY,), refuses)
    why, rows = compute_stretch(work, work.stretches()[0])
    assert isinstance(why, Failed)
    assert rows is None
    assert (why.stage, why.message) == ("clusters", "ValueError: not these")
    assert "refuses" in why.detail
    assert not why.postponed
    later, _ = compute_stretch(replace(work, compute=waits), work.stretches()[0])
    assert isinstance(later, Failed)
    assert (later.message, later.postponed) == ("a file is away", True)


def refuses(clips: pa.Table) -> dict[str, Any]:
    raise ValueError("not these")


def waits(clips: pa.Table) -> dict[str, Any]:
    raise Postponed("a file is away")


NODES = """
import sys
from pathlib import Path
import pytest, ray
from ray.cluster_utils import Cluster
from tests.pipelines.annotate.test_set_tasks import is_done, run, widths

folder = Path(sys.argv[1])
(folder / "met").mkdir()
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False, logging_level="warning")
cluster.wait_for_nodes()
store = widths(folder)
with pytest.MonkeyPatch.context() as patched:
    outcome, took = run(store, patched, folder / "met", stretch=20)
nodes = {one.split()[0] for one in store.read("clips")["doubled_by"].to_pylist()}
print("done", outcome.clips, took.tasks, is_done(store), len(nodes), flush=True)
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.exhaustive
@pytest.mark.usefixtures("ray_local")
def test_two_nodes_share_the_work(tmp_path: Path) -> None:
    assert "Doubled" in SAMPLES
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    made = subprocess.run(
        [sys.executable, "-c", NODES, str(tmp_path)], capture_output=True, text=True, timeout=300, cwd=ROOT,
        env=environment,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "done 120 6 True 2" in made.stdout.splitlines()
