"""Inputs held as a column are the inputs that a dictionary of them holds."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.curation.ingest import collector as taking
from reelwright.curation.ingest import repeated, same_files, spool
from reelwright.curation.ingest.collector import Collector, listing
from reelwright.curation.ingest.input_list import Queue
from reelwright.curation.ingest.inputs import Input, Span
from reelwright.curation.ingest.manifests import plain_addresses
from reelwright.curation.ingest.repeated import repeated_ids
from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.ingest.told import is_told
from reelwright.curation.keys import sorter

spans = st.builds(
    Span,
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([2.0, 3.5, math.inf]),
    st.sampled_from([(), ("a cat",), ("a dog", "a cat"), ("ein Hündchen",)]),
)
inputs = st.builds(
    Input,
    st.sampled_from(["a", "b/ä", "b/\N{CLAPPER BOARD}", "b/\uffff", "s3://b/c", "s3://b/d"]),
    source_id=st.sampled_from([None, None, "id", "other id", "third"]),
    licence=st.sampled_from([None, None, "CC-BY"]),
    captions=st.sampled_from([(), (), ("a cat",), ("a dog",), ("a dog", "a cat")]),
    spans=st.lists(spans, max_size=3).map(lambda some: tuple(sorted(some))),
    is_row=st.booleans(),
).map(lambda item: replace(item, is_row=True) if is_told(item) else item)  # only a list tells more than an address


@settings(deadline=None)
@given(given_inputs=st.lists(inputs, max_size=30), chunk=st.integers(1, 8), on_disk=st.booleans())
def test_inputs_come_sorted_each_once_joined_where_one_is_named_twice(given_inputs, chunk, on_disk):
    by_uri: dict[str, Input] = {}
    collector = Collector()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(taking, "CHUNK", chunk)
        patched.setattr(taking, "TOLD_CHUNK", chunk)
        if on_disk:
            patched.setattr(spool, "IN_MEMORY", 0)
            patched.setattr(sorter, "RUN_BYTES", 0)
            patched.setattr(same_files, "RUN_BYTES", 0)
        patched.setattr(repeated, "NAMED_IDS", 2)
        for item in given_inputs:
            by_uri[item.uri] = by_uri[item.uri].joined(item) if item.uri in by_uri else item
            collector.add(item)
        found = collector.done()
        assert list(found) == [by_uri[uri] for uri in sorted(by_uri)]
    assert found == listing(list(found))
    assert all(found.has(uri) for uri in by_uri)
    assert not found.has("c")
    assert found[1:3] == list(found)[1:3]
    assert len(found) == len(by_uri)
    named: dict[str, list[str]] = {}
    for item in found:
        if item.source_id:
            named.setdefault(item.source_id, []).append(item.uri)
    several = {name: uris for name, uris in named.items() if len(uris) > 1}
    said = repeated_ids(found)
    assert said.count == len(several)
    assert [(i.source_id, i.files, i.first) for i in said.some] == [(n, len(u), u[0]) for n, u in several.items()][:2]


def test_chosen_inputs_are_taken_in_order():
    files = listing([Input(name) for name in "edcba"])
    queue, taken = Queue(files.chosen(np.array([True, True, False, False, True]))), []
    while queue:
        assert queue.head == queue.head
        taken.append(queue.take().uri)
    assert taken == ["a", "d", "e"]


ADDRESSES = ["s3://b/c.mp4", "gs://b/a=1/ä b.mp4".replace(" ", "_"), "s3://b/c.mp4", "az://b/\N{CLAPPER BOARD}"]


@pytest.mark.parametrize(
    "odd", [None, "films/a.mp4", "s3://b/a b.mp4", " s3://b/a.mp4", "S3://b/a.mp4", "", "s3://b/a::zip://c"]
)
@pytest.mark.parametrize("column", ["uri", "video"])
def test_a_list_of_addresses_alone_is_read_as_any_other(tmp_path, odd, column):
    """A list is read row by row where it has another column, and then of the same addresses come the same inputs."""
    plain, other = tmp_path / "plain.parquet", tmp_path / "other.parquet"
    addresses = [*ADDRESSES, *([] if odd is None else [odd])]
    pq.write_table(pa.table({column: addresses}), plain)
    pq.write_table(pa.table({column: addresses, "unused": [1] * len(addresses)}), other)
    assert (None not in plain_addresses(str(plain))) == (odd is None)
    assert list(plain_addresses(str(other))) == [None]
    found, wanted = list_inputs([str(plain)]).files, list_inputs([str(other)]).files
    assert [replace(item, refused=None) for item in wanted if not item.refused] == [i for i in found if not i.refused]
    assert len(found) == len(wanted)


def test_a_row_beside_a_span_of_its_file_asks_for_the_whole_file(tmp_path):
    pq.write_table(pa.table({"uri": ADDRESSES}), tmp_path / "plain.parquet")
    (tmp_path / "spans.jsonl").write_text('{"uri": "s3://b/c.mp4", "start": 1, "end": 2}\n')
    files = list_inputs([str(tmp_path / "plain.parquet"), str(tmp_path / "spans.jsonl")]).files
    (item,) = [item for item in files if item.uri == "s3://b/c.mp4"]
    assert item.spans == (Span(0.0, math.inf), Span(1.0, 2.0))
