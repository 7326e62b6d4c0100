from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import borders

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"


@pytest.mark.quality
def test_crops_of_the_corpus():
    if not (CORPUS / "truth.json").is_file():
        pytest.skip(f"no corpus at {CORPUS}: put it there (truth.json and its files) to measure crops")
    result = borders.measure(CORPUS, borders.annotated(CORPUS), borders.ours)
    scores = list(result.boxed.values())
    assert not result.false_crops
    assert sum(scores) / len(scores) >= 0.985, result.boxed
    assert min(scores) >= 0.95, result.boxed
