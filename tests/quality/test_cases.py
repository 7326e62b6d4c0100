"""Every case that once came out wrong, through `reel curate` as a user runs it, judged by `benchmarks.cases`."""

from pathlib import Path

import pytest

from benchmarks.cases.__main__ import judge
from benchmarks.cases.case import load_cases

CASES = Path(__file__).parents[3] / "shared" / "cases"

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.always,
    pytest.mark.waits,
    pytest.mark.skipif(not (CASES / "cases.json").exists(), reason=f"no cases beside the checkout ({CASES})"),
]


def test_every_case_comes_out_right(tmp_path):
    cases = load_cases(CASES)
    judged = {case.path.name: problems for case, problems in judge(cases, tmp_path)}
    assert len(judged) == len(cases) > 0
    assert {name: problems for name, problems in judged.items() if problems} == {}
