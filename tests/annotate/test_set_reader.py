"""Reading a set in batches, and its fingerprint: neither depends on order or pieces."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.annotate.set_digest import SetDigest, hashes
from reelwright.annotate.set_reader import TableReader, rebatched, sampled
from reelwright.curation.vectors.id_hashes import hashes_of

TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=30)


def of_ids(count: int) -> pa.Table:
    return pa.table({"clip_id": [f"clip-{i:05d}" for i in range(count)], "n": list(range(count))})


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 70), st.integers(0, 3))
def test_a_sample_is_of_the_smallest_hashes_in_whatever_pieces_and_order_clips_come(count, wanted, batch, seed) -> None:
    clips = of_ids(count)
    ids = clips["clip_id"].to_pylist()
    smallest = np.sort(np.argsort(hashes_of(ids, seed), kind="stable")[:wanted])
    expect = clips.take(pa.array(smallest))
    shuffled = clips.take(pa.array(np.random.default_rng(seed).permutation(count)))
    assert sampled(TableReader(shuffled, batch).batches(), wanted, seed).equals(expect)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7))
def test_batches_of_one_size_hold_the_same_rows(sizes, size) -> None:
    clips = of_ids(sum(sizes))
    ends = np.cumsum([0, *sizes])
    pieces = [clips.slice(int(a), int(b - a)) for a, b in zip(ends[:-1], ends[1:], strict=True)]
    found = list(rebatched(pieces, clips.schema, size))
    assert pa.concat_tables(found).equals(clips)
    assert [len(one) for one in found[:-1]] == [size] * (len(found) - 1)
    assert len(found) >= 1


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 7), st.integers(0, 99))
def test_a_digest_is_of_the_rows_and_not_of_their_order(texts, size, seed) -> None:
    other = [f"{i % 3}" for i in range(len(texts))]
    whole, parts = SetDigest(), SetDigest()
    whole.add([pa.array(texts, pa.string()), pa.array(other, pa.string())])
    order = np.random.default_rng(seed).permutation(len(texts))
    for start in range(0, len(texts), size):
        rows = order[start : start + size]
        parts.add([pa.chunked_array([[texts[i] for i in rows]], pa.string()), pa.array([other[i] for i in rows])])
    assert parts.hexdigest() == whole.hexdigest()
    if texts:
        fewer = SetDigest()
        fewer.add([pa.array(texts[1:], pa.string()), pa.array(other[1:], pa.string())])
        assert fewer.hexdigest() != whole.hexdigest()


def test_a_digest_tells_what_belongs_to_what() -> None:
    def of(*columns: list) -> str:
        digest = SetDigest()
        digest.add([pa.array(column, pa.string()) for column in columns])
        return digest.hexdigest()

    assert len({
        of(["a", "b"], ["x", "y"]), of(["a", "b"], ["y", "x"]), of(["x", "y"], ["a", "b"]), of(["a", "b"]),
        of(["a", "b"], ["x", None]), of(["a", "b"], ["x", ""]), of(["a", "b", "b"], ["x", "y", "y"]),
        of(["ab", ""], ["x", "y"]), of(["a", "b"], ["x\0", "y"]), of([]),
    }) == 10  # fmt: skip


def test_hashes_of_texts_are_those_of_every_machine() -> None:
    def mixed(value: int) -> int:
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        return value ^ value >> 31

    texts = ["", "a", "clip-000", "clip-0001", "ü" * 9, "4ac83214d21b0dbaede1683e"]
    for text, found in zip(texts, hashes(pa.array(texts).slice(0)).tolist(), strict=True):
        raw = text.encode()
        value = (len(raw) + 0x94D049BB133111EB) % 2**64
        for start in range(0, len(raw), 8):
            value = mixed((value * 0x9E3779B97F4A7C15 + int.from_bytes(raw[start : start + 8], "little")) % 2**64)
        assert found == value
    assert hashes(pa.array(texts).slice(2)).tolist() == hashes(pa.array(texts)).tolist()[2:]


def test_a_million_ids_have_as_many_hashes() -> None:
    ids = pa.array(np.char.zfill(np.arange(1_000_000).astype(str), 24))
    assert len(np.unique(hashes(ids))) == 1_000_000


@pytest.mark.parametrize("count", [0, 5])
def test_a_table_is_read_as_often_as_asked(count: int) -> None:
    reader = TableReader(of_ids(count), 2)
    assert len(reader) == count
    for _ in range(2):
        assert [len(b) for b in reader.batches(["n"])] == ([2, 2, 1] if count else [0])
        assert reader.table().equals(of_ids(count))
    assert next(b.column_names for b in reader.batches([])) == ["clip_id"]
