"""Annotators of sets give the same in small batches as at once, and with arrays in files as in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reelwright.annotate import PartialResult, SetAnnotator, StreamedSetAnnotator, load
from reelwright.annotate.contract import Column, Stored
from reelwright.annotate.set_reader import TableReader
from reelwright.annotate.sets.clustering import kmeans
from reelwright.annotate.sets.clusters import Clusters
from reelwright.curation.vectors import scratch
from tests.annotate.sets.embedded_clips import about, blobs, clips_of


def many() -> pa.Table:
    """Clips of six subjects, some without a vector or of another model, in no order; a third are near copies."""
    vectors, which = blobs([90, 70, 60, 50, 40, 30], width=0.8)
    rng = np.random.default_rng(0)
    rows: list[Any] = [None if i % 31 == 7 else v for i, v in enumerate(vectors)]
    clips = clips_of(rows, about(which), model=["old" if i % 41 == 3 else "m" for i in range(len(rows))])
    hashes = rng.integers(1, 2**63, size=(len(rows), 4), dtype=np.uint64)
    hashes[::3] = hashes[0] ^ (np.uint64(1) << rng.integers(0, 60, size=hashes[::3].shape, dtype=np.uint64))
    clips = clips.append_column("cluster_id", pa.array(which, pa.int32()))
    clips = clips.append_column("frame_hash", pa.array(list(hashes.view(np.int64)), pa.list_(pa.int64())))
    pictures = np.asarray(vectors + 0.05 * rng.normal(size=vectors.shape), np.float32)
    clips = clips.append_column("visual_embedding", pa.array(list(pictures), pa.list_(pa.float32(), vectors.shape[1])))
    return clips.take(pa.array(rng.permutation(len(clips))))


def streamed(annotator: SetAnnotator, clips: pa.Table, state: Any, batch: int) -> tuple[pa.Table, Any]:
    reader = TableReader(clips, batch)
    found, state = annotator.stream(reader, state)
    parts = [pa.table({n: pa.array(one[n], c.type) for n, c in annotator.columns.items()}) for one in found]
    assert [len(part) for part in parts] == [len(b) for b in reader.batches([])]
    return pa.concat_tables(parts), state


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("clusters", {"k": 6}), ("density", {}), ("density", {"exact_up_to": 100, "probes": 3}), ("cluster_names", {}),
     ("caption_map", {"sample": 50, "perplexity": 8}), ("near_duplicates", {}),
     ("near_duplicates", {"by": "embedding"})],
)  # fmt: skip
def test_batches_make_no_difference(name: str, parameters: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    annotator, clips = load(name, parameters), many()
    assert isinstance(annotator, StreamedSetAnnotator)
    columns = list(dict.fromkeys([n.column for n in np.atleast_1d(np.array(annotator.needs, object))]))
    clips = clips.select(["clip_id", *columns])
    whole, state = streamed(annotator, clips, None, len(clips))
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 0)
    for batch in (37, 1_000):
        found, again = streamed(annotator, clips, None, batch)
        for column in whole.column_names:
            one, other = whole[column], found[column]
            if pa.types.is_floating(one.type):
                np.testing.assert_allclose(other.to_numpy(), one.to_numpy(), rtol=1e-4)
            else:
                assert one.to_pylist() == other.to_pylist()
        assert (again is None) == (state is None)
        grown, _ = streamed(annotator, clips, again, batch)
        if name == "clusters":
            assert grown.equals(found), "nothing has grown"


def test_a_large_set_is_fitted_to_a_sample_and_every_clip_goes_to_its_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "FIT_ON", 400)
    vectors, which = blobs([1_200, 900, 600])
    clips = clips_of(vectors)
    found, state = streamed(Clusters(k=3), clips, None, 500)
    assert state["fit"]["vectors"] == 2_700, "growth counts from the whole set"
    of = {(c, w) for c, w in zip(found["cluster_id"].to_pylist(), which.tolist(), strict=True)}
    assert len(of) == 3, "one to one"
    more = clips_of(np.vstack([vectors, blobs([150, 100, 50], seed=4)[0]]))
    after, kept = streamed(Clusters(k=3), more, state, 500)
    assert kept == state
    assert after["cluster_id"].to_pylist()[:2_700] == found["cluster_id"].to_pylist()
    tenfold = clips_of(np.vstack([vectors, vectors[:600]]))
    assert streamed(Clusters(k=3), tenfold, state, 500)[1]["fit"]["vectors"] == 3_300


class Backwards(SetAnnotator):
    """Sees a table, and does half of the work if it is told to."""

    name, version = "backwards", 1
    needs = Stored("n")
    columns = {"place": Column(pa.int64(), "place from the end")}

    def __call__(self, clips: pa.Table, state: Any) -> tuple[Mapping[str, Any], Any]:
        assert clips["clip_id"].to_pylist() == sorted(clips["clip_id"].to_pylist())
        found = {"place": list(range(len(clips)))[::-1]}
        if state == "half":
            raise PartialResult(found, "rest") from ValueError("half")
        return found, state


@pytest.mark.parametrize("state", [None, "half"])
def test_an_annotator_that_needs_a_table_gets_one_in_order_of_clip_id(state: str | None) -> None:
    order = np.random.default_rng(1).permutation(50)
    clips = pa.table({"clip_id": [f"{i:03d}" for i in order], "n": order})
    try:
        found, _ = Backwards().stream(TableReader(clips, 7), state)
        assert state is None
    except PartialResult as part:
        assert (state, part.state, str(part.__cause__)) == ("half", "rest", "half")
        found = part.columns
    parts = [one["place"] for one in found]
    assert [len(p) for p in parts] == [7] * 7 + [1]
    assert [p for part in parts for p in part.to_pylist()] == (49 - order).tolist()


def test_columns_that_are_not_declared_are_refused() -> None:
    class Wrong(Backwards):
        def __call__(self, clips: pa.Table, state: Any) -> tuple[Mapping[str, Any], Any]:
            return {"plaice": [0] * len(clips)}, state

    with pytest.raises(ValueError, match="does not write the columns it declares: plaice"):
        list(Wrong().stream(TableReader(pa.table({"clip_id": ["a"], "n": [1]})), None)[0])
