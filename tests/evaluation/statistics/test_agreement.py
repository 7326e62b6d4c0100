"""Agreement of raters, against published examples, a hand-computed case and the library `krippendorff`."""

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reelwright.evaluation.statistics.agreement import Consistency, consistency, krippendorff_alpha, rater_against_rest

N = np.nan
# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: 4 observers, 12 units, 5 values.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
)


def test_alpha_is_the_published_one() -> None:
    assert krippendorff_alpha(PUBLISHED, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(PUBLISHED, "ordinal") == pytest.approx(0.815, abs=5e-4)


def test_alpha_by_hand() -> None:
    """Two raters, four items: 1-1, 2-2, 2-2, 1-2. Coincidences: o12 = o21 = 1; totals n1 = 3, n2 = 5, n = 8.

    Nominal: D_o = 2, D_e = 2 · 3 · 5 / 7 = 30/7, so alpha = 1 − 2 · 7/30 = 8/15; with two values ordinal is the same.
    """
    data = np.array([[1, 2, 2, 1], [1, 2, 2, 2]], float)
    assert krippendorff_alpha(data, "nominal") == pytest.approx(8 / 15, abs=1e-12)
    assert krippendorff_alpha(data, "ordinal") == pytest.approx(8 / 15, abs=1e-12)


@given(arrays(float, st.tuples(st.integers(2, 5), st.integers(2, 12)), elements=st.sampled_from([1, 2, 3, 4, 5, N])))
def test_alpha_is_the_library_s(data: np.ndarray) -> None:
    compared = data[:, (~np.isnan(data)).sum(axis=0) >= 2]
    if len(np.unique(compared[~np.isnan(compared)])) < 2:
        assert np.isnan(krippendorff_alpha(data, "ordinal"))
        return
    for level in ("nominal", "ordinal"):
        theirs = krippendorff.alpha(data, level_of_measurement=level)
        assert krippendorff_alpha(data, level) == pytest.approx(theirs, abs=1e-9)


def test_a_rater_against_the_rest() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=40)
    data = np.stack([truth + rng.normal(0, 0.3, 40) for _ in range(3)] + [rng.normal(size=40)])
    data[0, :5] = N
    found = rater_against_rest(data)
    expected = np.corrcoef(data[0, 5:], data[1:, 5:].mean(axis=0))[0, 1]
    assert found[0] == pytest.approx(expected, abs=1e-9)
    assert min(found[:3]) > 0.7 > found[3] + 0.3
    assert np.isnan(rater_against_rest(np.array([[1.0, 2, N], [1, 2, 3]]))).all()
    assert np.isnan(rater_against_rest(np.array([[3.0, 3, 3], [1, 2, 3]]))).all()


def test_consistency_with_oneself() -> None:
    found = consistency({"anna": [(4, 4), (3, 5), (2, 1), (5, 5)], "ben": []})
    assert found == {"anna": Consistency(4, 0.5, 0.75)}
