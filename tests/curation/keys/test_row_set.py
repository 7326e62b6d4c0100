"""Sets of numbers in ranges, against Python's own."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.keys import row_set
from reelwright.curation.keys.row_set import GrowingRowSet


@given(pieces=st.lists(st.lists(st.integers(0, 60), max_size=8), max_size=12), joined=st.integers(2, 5))
def test_numbers_that_come_a_few_at_a_time_are_counted_once(pieces, joined):
    found, seen = GrowingRowSet(), set[int]()
    before, row_set.JOINED = row_set.JOINED, joined
    try:
        for piece in pieces:
            found.add(np.array(piece, np.int64))
            seen |= set(piece)
        assert len(found) == len(seen)
        found.add(np.array([0, 60]))
        assert len(found) == len(seen | {0, 60})
    finally:
        row_set.JOINED = before
