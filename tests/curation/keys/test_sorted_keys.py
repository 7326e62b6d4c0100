"""Records sorted on disk, and sets of row ids in ranges, are what sorted lists and sets are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.curation.keys import sorted_keys, sorter
from reelwright.curation.keys.row_set import RowSet
from reelwright.curation.keys.sorted_keys import KEY, PARTS, load, match, shares, write
from reelwright.curation.keys.sorter import Sorter

KIND = np.dtype([*KEY, ("row", "<i8")])
halves = st.sampled_from([0, 1, 2**55, 2**63, 2**64 - 1])
records = st.lists(st.tuples(halves, halves), max_size=40)


@settings(deadline=None)
@given(keys=records, run_records=st.integers(1, 50), in_memory=st.booleans())
def test_records_come_by_key_and_then_as_they_came(tmp_path_factory, keys, run_records, in_memory):
    rows = [(*key, n) for n, key in enumerate(keys)]
    wanted = sorted(rows, key=lambda row: row[:2])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sorter, "RUN_BYTES", run_records * KIND.itemsize)
        patched.setattr(sorted_keys, "IN_MEMORY", 2**20 if in_memory else 0)
        taken = Sorter(KIND)
        for row in rows:
            taken.add(np.array([row], KIND))
        found = write(taken.parts(), taken.count, KIND)
        path = tmp_path_factory.mktemp("keys") / "k"
        again = write((found.part(n) for n in range(PARTS)), len(rows), KIND, path)
    for kept in (found, again, load(path, KIND)):
        assert len(kept) == len(rows)
        assert [row for n in range(PARTS) for row in kept.part(n).tolist()] == wanted == kept.all().tolist()
        for key in {*keys, (5, 5)}:
            assert kept.find(*map(np.uint64, key)).tolist() == [row for row in wanted if row[:2] == key]
    assert shares(found.all()).tolist() == [keys.count(row[:2]) > 1 for row in wanted]


@given(known=records, asked=records)
def test_a_match_is_the_first_record_with_the_key(known, asked):
    known, asked = sorted(known), sorted(asked)
    wanted = [known.index(key) if key in known else -1 for key in asked]
    assert match(np.array(asked, KEY), np.array(known, KEY)).tolist() == wanted


def test_a_file_that_was_cut_short_is_refused(tmp_path):
    write(iter([np.zeros(3, KIND)]), 3, KIND, tmp_path / "k")
    (tmp_path / "k").write_bytes((tmp_path / "k").read_bytes()[:-5])
    with pytest.raises(ValueError, match="no file of sorted keys"):
        load(tmp_path / "k", KIND)


numbers = st.lists(st.integers(0, 30), max_size=30)


@given(one=numbers, other=numbers)
def test_ranges_are_sets(one, other):
    here, there = RowSet.of(np.array(one, np.int64)), RowSet.of(np.array(other, np.int64))
    every = np.arange(32)

    def held(rows: RowSet) -> set[int]:
        assert len(rows) == rows.has(every).sum()
        assert (rows.starts[1:] > rows.ends[:-1]).all(), "ranges that touch are one"
        return set(every[rows.has(every)].tolist())

    assert held(here) == set(one)
    assert held(here.minus(there)) == set(one) - set(other)
    assert held(RowSet.joined([here, there])) == set(one) | set(other)
