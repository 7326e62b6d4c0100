"""What timestamps say of a rate, and when they are not believed."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.timing import DEFAULT_RATE, timing_of

RATES = st.sampled_from([Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60),
                         Fraction(60000, 1001), Fraction(10), Fraction(15, 2), Fraction(120)])  # fmt: skip
BASES = st.sampled_from([Fraction(1, 1000), Fraction(1, 90_000), Fraction(1, 12_800), Fraction(1, 600)])


def rounded(rate: Fraction, base: Fraction, count: int, start: int) -> list[int]:
    return [start + round(i / rate / base) for i in range(count)]


@given(rate=RATES, base=BASES, count=st.integers(2, 3000), start=st.integers(-1000, 10**6), claimed=st.booleans())
def test_a_constant_rate_is_found_through_rounding_to_ticks(rate, base, count, start, claimed):
    pts = rounded(rate, base, count, start)
    if len(set(pts)) < count:
        return
    found = timing_of(pts, base, [rate] if claimed else [])
    assert found.rate is not None
    drift = np.abs(found.times_s() - np.arange(count + 1) / float(rate)).max()
    assert drift < 2.1 * float(base) + (0 if claimed else 0.5 * count / 2**20) or not claimed and found.rate != rate
    if claimed:
        assert found.rate == rate
        assert found.num_frames == count


@given(st.lists(st.integers(1, 10_000), min_size=5, max_size=200), st.integers(-(10**6), 10**6))
def test_times_grow_and_end_after_the_last_frame(steps, start):
    pts = [start, *(start + np.cumsum(steps)).tolist()]
    found = timing_of(pts, Fraction(1, 1000), [Fraction(25)])
    times = found.times_s()
    assert len(times) == len(pts) + 1
    assert times[0] == 0
    assert (np.diff(times) > 0).all()
    if found.is_vfr:
        np.testing.assert_allclose(times[:-1], (np.array(pts) - start) / 1000)


@given(st.lists(st.one_of(st.none(), st.integers(0, 50)), max_size=60), BASES)
def test_times_that_are_missing_or_run_back_are_not_believed(pts, base):
    found = timing_of(pts, base, [None, Fraction(0), Fraction(30)])
    clean = all(p is not None for p in pts) and all(b > a for a, b in zip(pts, pts[1:], strict=False))
    assert found.num_frames == len(pts)
    if not clean:
        assert found.pts is None
        assert found.rate == 30
    times = found.times_s()
    assert len(times) == len(pts) + 1
    assert (np.diff(times) > 0).all()


def test_a_real_variable_rate_is_one():
    pts = [0, 40, 80, 120, 220, 260, 300, 340]
    found = timing_of(pts, Fraction(1, 1000), [Fraction(25)])
    assert found.is_vfr
    np.testing.assert_allclose(found.times_s()[:-1], np.array(pts) / 1000)


@pytest.mark.parametrize("claims", [[], [None], [Fraction(0)], [Fraction(90_000)], [Fraction(-5)]])
def test_claims_that_are_nonsense_are_passed_over(claims):
    assert timing_of([None, None], Fraction(1, 90_000), claims).rate == DEFAULT_RATE
    assert timing_of([0], Fraction(1, 90_000), claims).rate == DEFAULT_RATE
    assert timing_of([], Fraction(1, 90_000), claims).times_s().tolist() == [0]


def test_a_wrong_claim_gives_way_to_what_was_decoded():
    pts = rounded(Fraction(24), Fraction(1, 90_000), 200, 0)
    assert timing_of(pts, Fraction(1, 90_000), [Fraction(30)]).rate == 24


@pytest.mark.parametrize("claims", [[], [Fraction(25)]])
@pytest.mark.parametrize("before", [1, 500])
def test_a_clock_that_jumps_to_the_epoch_is_a_hole_in_a_constant_rate(before, claims):
    """As recorders do that get the time of day after their first frames."""
    pts = [*range(0, 40 * before, 40), *range(1_700_000_000_000, 1_700_000_000_000 + 40 * 2000, 40)]
    found = timing_of(pts, Fraction(1, 1000), claims)
    assert (found.rate, found.holes) == (25, (before,))
    assert (np.diff(found.times_s()) > 0).all()


@given(rate=RATES, base=BASES, runs=st.lists(st.integers(40, 300), min_size=2, max_size=4),
       gaps=st.lists(st.floats(1, 30), min_size=4, max_size=4), claimed=st.booleans())  # fmt: skip
def test_a_constant_rate_with_holes_is_one_on_either_side(rate, base, runs, gaps, claimed):
    pts, at = [], 0.0
    for length, gap in zip(runs, gaps, strict=False):
        pts += [round(at / base) + round(i / rate / base) for i in range(length)]
        at += float(length / rate) + gap
    if len(set(pts)) < len(pts) or len(runs) - 1 > max(1, len(pts) // 50) or min(gaps) < 9 / rate:
        return
    found = timing_of(pts, base, [Fraction(12), rate] if claimed else [])
    assert found.holes == tuple(np.cumsum(runs)[:-1].tolist())
    assert found.rate is not None
    assert float(found.rate) == pytest.approx(float(rate), rel=0.05)
    times = found.times_s()
    assert len(times) == len(pts) + 1
    assert (np.diff(times) > 0).all()
    np.testing.assert_allclose(times[:-1], (np.array(pts) - pts[0]) * float(base), atol=3 * float(base) + 1e-3)


def test_frames_that_shake_or_fail_around_a_hole_are_not_a_constant_rate_but_have_the_hole():
    pts = [33 * i + 4 * (i % 3) for i in range(100)] + [33 * i + 1500 + 4 * (i % 3) for i in range(101, 200)]
    found = timing_of(pts, Fraction(1, 1000), [Fraction(30)])
    assert (found.is_vfr, found.holes) == (True, (100,))
    assert found.fps == pytest.approx(30, rel=0.05)


def test_pictures_that_stand_for_different_times_have_no_holes():
    steps = ([40] * 10 + [2000] + [400, 700, 40, 80]) * 20  # a screen that is recorded when it changes
    found = timing_of([0, *np.cumsum(steps).tolist()], Fraction(1, 1000), [Fraction(25)])
    assert (found.is_vfr, found.holes) == (True, ())


@pytest.mark.parametrize(("lengths_s", "rate"), [([3.0], 30), ([1.5], 60), ([7.7, 3.01], 30), ([], 60), ([9.0], 60)])
def test_a_claim_is_checked_against_how_long_the_whole_is(lengths_s, rate):
    """As of H.264 copied into AVI, whose clock ticks in fields."""
    claims = [Fraction(60), Fraction(30), Fraction(30)]
    assert timing_of([2, 6, 4] * 30, Fraction(1, 60), claims, lengths_s).rate == rate
    assert timing_of([None] * 90, Fraction(1, 60), claims, lengths_s).rate == rate


def test_the_mean_rate_of_a_variable_one_is_measured_and_not_claimed():
    steps = [30, 50] * 100
    assert timing_of([0, *np.cumsum(steps).tolist()], Fraction(1, 1000), [Fraction(600)]).fps == pytest.approx(25)


def test_the_last_frame_of_an_avi_may_come_early_by_its_clock():
    found = timing_of([*(20 * i for i in range(1, 90)), 1781], Fraction(1, 600), [Fraction(600), Fraction(30)], [3.0])
    assert (found.rate, found.holes) == (30, ())


def test_gaps_where_frames_were_lost_are_holes_however_many():
    lost = [n for n in range(200) if n % 40 >= 20]
    shown = [n for n in range(200) if n % 40 < 20]
    assert timing_of(shown, Fraction(1, 25), []).holes == (), "pictures that stand"
    timing = timing_of(shown, Fraction(1, 25), [], lost=lost)
    assert timing.holes == (20, 40, 60, 80)
    assert timing.rate == 25
    assert timing_of(shown, Fraction(1, 25), [], lost=[39]).holes == (20,), "the others may be stills"


def test_where_frames_are_counted_holes_are_found_all_the_same():
    """Times that repeat now and then, or are those of decoding: what is counted on is the rate alone."""
    steady = [33 * i for i in range(100)] + [33 * i + 8000 for i in range(100, 200)]
    repeated = [t - 33 if i % 40 == 7 else t for i, t in enumerate(steady)]
    swapped = [t for a, b in zip(steady[::2], steady[1::2], strict=True) for t in (b, a)]
    for pts in (repeated, swapped):
        found = timing_of(pts, Fraction(1, 1000), [Fraction(30)])
        assert (found.pts, found.rate, found.holes) == (None, 30, (100,))
        assert found.times_s()[-1] == pytest.approx(200 / 30)
    assert timing_of([*steady, *steady], Fraction(1, 1000), [Fraction(30)]).holes == ()  # it starts over
    assert timing_of([None] * 50, Fraction(1, 1000), [Fraction(30)]).holes == ()
