"""Inputs held as a column are the inputs that a dictionary of them holds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.curation.ingest import input_list as kept
from reelwright.curation.ingest.input_list import Chosen, Collector, Queue, input_list
from reelwright.curation.ingest.inputs import Input, Span

inputs = st.builds(
    Input,
    st.sampled_from(["a", "b/ä", "b/\N{CLAPPER BOARD}", "b/\uffff", "s3://b/c", "s3://b/d"]),
    source_id=st.sampled_from([None, None, "id"]),
    captions=st.sampled_from([(), (), ("a cat",), ("a dog",)]),
    spans=st.sampled_from([(), (), (Span(0.0, 1.0),)]),
    is_row=st.booleans(),
)


@settings(deadline=None)
@given(given_inputs=st.lists(inputs, max_size=30), chunk=st.integers(1, 8))
def test_inputs_come_sorted_each_once_joined_where_one_is_named_twice(given_inputs, chunk):
    by_uri: dict[str, Input] = {}
    collector = Collector()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kept, "CHUNK", chunk)
        for item in given_inputs:
            by_uri[item.uri] = by_uri[item.uri].joined(item) if item.uri in by_uri else item
            collector.add(item)
        found = collector.done()
        assert list(found) == [by_uri[uri] for uri in sorted(by_uri)]
    assert found == input_list(list(found))
    assert all(found.has(uri) for uri in by_uri)
    assert not found.has("c")
    assert list(found.told.values()) == [item for item in found if item != Input(item.uri)]
    assert found[1:3] == list(found)[1:3]


def test_chosen_inputs_are_taken_in_order():
    files = input_list([Input(name) for name in "abcde"])
    queue, taken = Queue(Chosen(files, np.array([0, 3, 4]))), []
    while queue:
        assert queue.head == queue.head
        taken.append(queue.take().uri)
    assert taken == ["a", "d", "e"]
