"""Sets of a store: who is in them, what is read of them, and results in pieces; as a worker sees it, without Ray."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate import SetAnnotator, load
from reelwright.annotate.contract import Stored
from reelwright.annotate.keys import Keys
from reelwright.annotate.sets.density import Density
from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from reelwright.pipelines.annotate import set_members, sets
from reelwright.pipelines.annotate.set_members import MemberReader, Members

DIM, CLIPS = 4, 200


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Clips with vectors; every seventh was not to be measured, and every ninth waits for its vector."""
    store = Store.open(tmp_path / "store", create=True)
    by = "caption_embedding"
    kind = pa.list_(pa.float32(), DIM)
    store.ensure_columns("clips", [
        field(by, kind, "vector", computed_by=by), field(f"{by}_model", pa.string(), "model", computed_by=by),
        field(f"{by}_fingerprint", pa.string(), "fingerprint", computed_by=by),
    ])  # fmt: skip
    vectors = np.random.default_rng(0).normal(size=(CLIPS, DIM)).astype(np.float32)
    rows = [
        {"clip_id": f"clip-{(7 * i) % CLIPS:03d}", "source_md5": f"s{i % 3}", by: None if i % 7 == 0 else v,
         f"{by}_model": "m", f"{by}_fingerprint": None if i % 9 == 0 else "made"}
        for i, v in enumerate(vectors)
    ]  # fmt: skip
    for start in range(0, CLIPS, 60):
        store.append("clips", rows[start : start + 60])
    return store


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(set_members, "BATCH_CLIPS", 33)
    monkeypatch.setattr(sets, "MERGED_CLIPS", 50)


def pieces(store: Store, annotator: SetAnnotator) -> tuple[list[pa.Table], sets._End]:
    *tables, end = sets._compute(
        store.uri, store.dataset("clips").version, annotator.name, annotator.parameters, Keys({})
    )
    return tables, end


def test_members_and_their_fingerprint_do_not_depend_on_how_the_table_lies(store: Store, small: None) -> None:
    annotator = Density()
    before = Members(store, annotator)
    assert before.count == CLIPS - len(range(0, CLIPS, 9))
    moved = store.read("clips").sort_by("clip_id")
    store.delete("clips", "true")
    store.append("clips", moved)
    assert Members(store, annotator).fingerprint == before.fingerprint
    assert Members(store, annotator, before.version).fingerprint == before.fingerprint
    store.delete("clips", "clip_id = 'clip-007'")
    assert Members(store, annotator).fingerprint != before.fingerprint


def test_a_value_that_is_made_again_changes_the_fingerprint(store: Store) -> None:
    before = Members(store, Density()).fingerprint
    again = {"clip_id": ["clip-007"], "caption_embedding_fingerprint": ["anew"]}
    store.merge("clips", pa.table(again), on="clip_id")
    assert Members(store, Density()).fingerprint != before


def test_an_annotator_reads_complete_members_in_batches_that_are_always_the_same(store: Store, small: None) -> None:
    reader = MemberReader(Members(store, Density()))
    first = [b["clip_id"].to_pylist() for b in reader.batches(["caption_embedding_model"])]
    assert [b["clip_id"].to_pylist() for b in reader.batches()] == first
    assert [b["clip_id"].to_pylist() for b in reader.batches([])] == first
    expect = {f"clip-{(7 * i) % CLIPS:03d}" for i in range(CLIPS) if i % 7 and i % 9}
    assert sorted(one for batch in first for one in batch) == sorted(expect)
    assert len(reader) == len(MemberReader(Members(store, Density()))) == len(expect)
    assert all(b["caption_embedding"].null_count == 0 for b in reader.batches())
    assert len(first) > 3


def test_results_come_in_pieces_and_cover_every_member_once(store: Store, small: None) -> None:
    tables, end = pieces(store, Density(k=3))
    assert len(tables) > 2
    assert end.problem is None
    for table in tables:
        assert store.merge("clips", table, on="clip_id") == len(table)
    rows = store.read("clips")
    whole, _ = Density(k=3)(rows.filter(pa.compute.is_valid(rows["density"])), None)
    at = rows["density"].drop_null().to_numpy()
    np.testing.assert_allclose(whole["density"].to_numpy(), at, rtol=1e-4)
    numbers = [(7 * i) % CLIPS for i in range(CLIPS)]
    index = {f"clip-{n:03d}": i for i, n in enumerate(numbers)}
    for row in rows.to_pylist():
        i = index[row["clip_id"]]
        assert (row["density_fingerprint"] is None) == (i % 9 == 0), "members, measured or not, are done"
        assert (row["density"] is None) == (i % 9 == 0 or i % 7 == 0)
    state = sets.set_staleness(store, Density(k=3))
    assert (state.clips, state.waiting, state.stale, state.is_current) == (CLIPS - 23, 23, 0, True)


def test_a_set_without_members_is_an_empty_piece(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "empty", create=True)
    store.append("clips", [{"clip_id": "a", "source_md5": "s"}])
    tables, end = pieces(store, Density())
    assert [len(t) for t in tables] == [0]
    assert end.state == "null"
    assert sets.set_staleness(store, Density()).waiting == 1


def test_captions_of_sources_are_read_beside(store: Store, small: None) -> None:
    store.append("sources", [
        {"source_id": f"s{i}", "uri": f"/{i}.mp4", "md5": f"s{i}", "state": "ok",
         "caption": None if i == 2 else f"film {i}"}
        for i in range(3)
    ])  # fmt: skip
    store.merge(
        "clips", pa.table({"clip_id": ["clip-000", "clip-014"], "span_caption": ["a part", "another"]}), "clip_id"
    )

    class Told(Density):
        needs = (Stored("source_caption"), Stored("no_such_column", optional=True))

    reader = MemberReader(Members(store, Told()))
    told = pa.concat_tables(reader.batches())
    values = dict(zip(told["clip_id"].to_pylist(), told["source_caption"].to_pylist(), strict=True))
    assert (values["clip-000"], values["clip-014"], values["clip-007"]) == ("a part", "another", "film 1")
    assert told["no_such_column"].null_count == len(told)
    silent = {f"clip-{(7 * i) % CLIPS:03d}" for i in range(CLIPS) if i % 3 == 2} - {"clip-014"}
    assert set(values) == {f"clip-{i:03d}" for i in range(CLIPS)} - silent


def test_what_a_worker_is_told_by_name_is_what_it_loads() -> None:
    assert load("density", Density(k=3).parameters) == Density(k=3)


def test_pieces_are_laid_down_and_read_back_one_at_a_time(store: Store, small: None) -> None:
    tables, end = pieces(store, Density(k=3))
    with tempfile.TemporaryFile() as spool:
        assert sets._spooled([*tables, end], spool) == end
        assert list(sets._unspooled(spool)) == [table.combine_chunks() for table in tables]


def test_a_stream_that_breaks_off_hands_nothing_on(store: Store, small: None) -> None:
    tables, _ = pieces(store, Density(k=3))
    with tempfile.TemporaryFile() as spool, pytest.raises(RuntimeError):
        sets._spooled(tables, spool)
