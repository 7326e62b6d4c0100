"""Texts sorted on disk come as texts sorted in memory do."""

import numpy as np
import pyarrow as pa
import pytest

from reelwright.curation.keys import text_order
from reelwright.curation.keys.text_order import in_order


@pytest.mark.parametrize("in_memory", [0, 2**20], ids=["on disk", "in memory"])
def test_texts_come_by_code_points_with_their_numbers(monkeypatch, in_memory):
    monkeypatch.setattr(text_order, "IN_MEMORY", in_memory)
    texts = ["b", "a", "", "ä", "Z", "b/\uffff", "b/\N{CLAPPER BOARD}", "b/\ud7ff", "a b", *map(str, range(5000))]
    batches = [(pa.array(texts[at : at + 700], pa.large_string()), np.arange(at, min(at + 700, len(texts))) * 3)
               for at in range(0, len(texts), 700)]  # fmt: skip
    found = [pair for some, numbers in in_order(batches) for pair in zip(some.to_pylist(), numbers, strict=True)]
    assert found == sorted((text, 3 * n) for n, text in enumerate(texts))
    assert list(in_order([])) == []
