"""Frame buckets against every choice of buckets there is."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.store.export import lengths

CLIPS = st.dictionaries(st.integers(0, 140), st.integers(1, 50), min_size=1, max_size=9).map(Counter)


def frames_kept(found: Counter[int], chosen: list[int]) -> int:
    kept, _ = lengths.kept(found, chosen)
    return sum(bucket * clips for bucket, clips in kept.items())


@given(found=CLIPS, most=st.integers(1, 4))
def test_no_choice_of_as_many_buckets_keeps_more(found: Counter[int], most: int) -> None:
    chosen = lengths.buckets([found], most=most)
    kept, dropped = lengths.kept(found, chosen)
    assert dropped == sum(clips for length, clips in found.items() if length < 5)
    assert kept.total() + dropped == found.total()
    if chosen == [1]:
        assert not kept
        return
    assert all(bucket % 4 == 1 and bucket <= 81 for bucket in chosen)
    assert set(kept) == set(chosen), "each is the bucket of some clip"
    sizes = sorted({(min(n, 81) - 1) // 4 * 4 + 1 for n in found if n >= 5})
    others = [list(c) for k in range(1, most + 1) for c in combinations(sizes, min(k, len(sizes))) if c[0] == sizes[0]]
    assert frames_kept(found, chosen) == max(frames_kept(found, other) for other in others)


def test_no_bucket_is_longer_than_asked() -> None:
    assert lengths.buckets([Counter({200: 1, 50: 1})]) == [49, 81]
    assert lengths.buckets([Counter({200: 1, 50: 1})], longest=121) == [49, 121]
    assert lengths.buckets([Counter({200: 1, 50: 1})], longest=34) == [33]


def test_a_length_at_another_rate() -> None:
    of_two = Counter({(50, 25.0): 3, (24, 12.0): 2})
    assert lengths.at_rate(of_two, 16) == {32: 5}
    assert lengths.at_rate(of_two, None) == {50: 3, 24: 2}
    assert lengths.table(of_two, [29], [16, None]) == [
        "at 16 fps: 5 of 29 frames; 0 too short, dropped",
        "as they are: 3 of 29 frames; 2 too short, dropped",
    ]
