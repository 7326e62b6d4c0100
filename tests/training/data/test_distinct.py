"""Values of many parts, each once."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.keys import row_order
from reelwright.training.data.distinct import each_once_in_order


@pytest.mark.parametrize("in_memory", [row_order.IN_MEMORY, 0])  # 0: all is sorted on disk
@pytest.mark.parametrize("kind", [pa.large_string(), pa.binary(2)])
@given(parts=st.lists(st.lists(st.sampled_from(["aa", "ab", "b0", "ü", "zz"])), min_size=1))
def test_each_value_comes_once_and_in_order(parts, kind, in_memory):
    arrays = [pa.array([one.encode() for one in part], pa.binary()).cast(kind) for part in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_order, "IN_MEMORY", in_memory)
        found = each_once_in_order(arrays)
    assert found.type == kind
    assert found.to_pylist() == pa.array(sorted({v for a in arrays for v in a.to_pylist()}), kind).to_pylist()
