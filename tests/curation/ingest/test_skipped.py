"""Skipped files: sorted, each once, and counted, however many there are."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.ingest import skipped
from reelwright.curation.ingest.inputs import Skipped
from reelwright.curation.ingest.skipped import SkippedFiles

PATHS = st.sampled_from(["/a", "/a/b", "/ä", "/\N{CLAPPER BOARD}", "/\uffff", "/caf\udce9", "b/"]) | st.text(max_size=3)


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(skipped, "CHUNK", 16)
        yield


@given(st.lists(st.builds(Skipped, PATHS, st.sampled_from(["hidden", "no video", "a link"])), max_size=60))
def test_they_are_those_that_were_given(given):
    found = SkippedFiles()
    for one in given:
        found.add(one.path, one.reason)
    found.close()
    expected = sorted(set(given))
    assert list(found) == list(found) == expected
    assert len(found) == len(expected)
    assert found.by_reason == Counter(one.reason for one in expected)
    assert all(one in found for one in given)
