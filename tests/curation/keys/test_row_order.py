"""Rows sorted on disk come as rows sorted in memory do."""

import pyarrow as pa
import pytest

from reelwright.curation.ingest.input_list import NUMBERED
from reelwright.curation.keys import row_order
from reelwright.curation.keys.row_order import rows_in_order


@pytest.mark.parametrize("in_memory", [0, 2**20], ids=["on disk", "in memory"])
def test_texts_come_by_code_points_with_their_numbers(monkeypatch, in_memory):
    monkeypatch.setattr(row_order, "IN_MEMORY", in_memory)
    texts = ["b", "a", "", "ä", "Z", "b/\uffff", "b/\N{CLAPPER BOARD}", "b/\ud7ff", "a b", *map(str, range(5000))]
    rows = pa.table([texts, [3 * n for n in range(len(texts))]], schema=NUMBERED)
    found = list(rows_in_order(rows.to_batches(700), NUMBERED, ["text"]))
    assert {batch.schema for batch in found} == {NUMBERED}
    pairs = [tuple(row.values()) for batch in found for row in batch.to_pylist()]
    assert pairs == sorted((text, 3 * n) for n, text in enumerate(texts))
    assert list(rows_in_order([], NUMBERED, ["text"])) == []


def test_names_many_times_the_memory_are_sorted_on_however_many_cores(monkeypatch):
    """Two threads of DuckDB end these without memory."""
    monkeypatch.setattr(row_order, "IN_MEMORY", 0)
    monkeypatch.setattr(row_order, "MEMORY_LIMIT", "24MB")
    count = 600_000
    names = pa.array([f"s3://footage/crawl-2026/{n * 7919 % count:032x}.json" for n in range(count)], pa.large_string())
    rows = pa.table([names, pa.array(range(count))], schema=NUMBERED)
    found = pa.Table.from_batches(rows_in_order(rows.to_batches(65_536), NUMBERED, ["text"]))
    assert found["text"].to_pylist() == sorted(names.to_pylist())
    assert found["number"].to_pylist() == [pow(7919, -1, count) * n % count for n in range(count)]
