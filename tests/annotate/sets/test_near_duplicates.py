import itertools
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.annotate import load
from reelwright.annotate.sets.duplicates import groups, hashes, vectors
from reelwright.annotate.sets.duplicates.hashes import MAX_FRAMES, LikeHashes, distance, padded
from reelwright.annotate.sets.duplicates.vectors import LikeVectors
from reelwright.curation.vectors import cells

HASHES = load("frame_hash").columns["frame_hash"].type


def warped(a: list[int], b: list[int]) -> float:
    """The least mean of bits over all matches of two clips' frames that keep their order, by trying each."""

    @cache
    def least(i: int, j: int) -> float:
        bits = (a[i] ^ b[j]).bit_count()
        if (i, j) == (0, 0):
            return 2 * bits
        before = [(i - 1, j - 1, 2), (i - 1, j, 1), (i, j - 1, 1)]
        return min(least(x, y) + weight * bits for x, y, weight in before if x >= 0 and y >= 0)

    return least(len(a) - 1, len(b) - 1) / (len(a) + len(b))


def grouped(count: int, pairs: set[tuple[int, int]]) -> list[int]:
    """The first of each one's group: in order, whoever is free takes all free ones that are like it."""
    first: dict[int, int] = {}
    for i in range(count):
        if i not in first:
            first |= {j: i for j in range(i, count) if j not in first and (j == i or (i, j) in pairs)}
    return [first[i] for i in range(count)]


@st.composite
def clips(draw):
    """Clips' hashes, most of them with a few bits turned in some other clip's."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    frames, found = draw(st.integers(1, MAX_FRAMES)), []
    for _ in range(draw(st.integers(1, 30))):
        if found and rng.random() < 0.8:
            clip = list(found[rng.integers(len(found))])
            clip = [h ^ sum({1 << int(b) for b in rng.integers(64, size=rng.integers(0, 6))}) for h in clip]
            clip = clip[: rng.integers(1, len(clip) + 1)] if rng.random() < 0.2 else clip
        else:
            clip = [int(h) for h in rng.integers(1, 2**64, size=frames, dtype=np.uint64)]
        found.append([0 if rng.random() < 0.05 else h for h in clip])
    return found


@st.composite
def blocks(draw):
    return draw(st.integers(1, 3)), draw(st.integers(1, 7))


def table(column: str, kind: pa.DataType, values) -> pa.Table:
    ids = [f"clip{k:05}" for k in range(len(values))]
    values = [np.array(v, np.uint64).view(np.int64) for v in values] if kind == HASHES else values
    return pa.table({"clip_id": ids, column: pa.array(values, kind)})


def indices(found) -> list[int]:
    return [int(name[4:]) for name in found["near_duplicate_group"].to_pylist()]


@settings(deadline=None, max_examples=60)
@given(clips(), st.sampled_from([0, 1, 2.5, 4, 7]), blocks())
def test_by_hash_all_pairs_within_the_threshold_are_found_and_grouped(found, max_bits, sizes):
    plain = [[h for h in clip if h] if 2 * clip.count(0) < len(clip) else [] for clip in found]
    both = itertools.combinations(range(len(found)), 2)
    pairs = {(i, j) for i, j in both if plain[i] and plain[j] and warped(plain[i], plain[j]) <= max_bits}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "FIRST_BLOCK", sizes[0])
        patch.setattr(hashes, "LARGEST_BLOCK", sizes[1])
        patch.setattr(hashes, "CHUNK", 5)
        patch.setattr(hashes, "FEWEST_BANDS", 6)  # small tables of counts, as there are many blocks
        result, _ = load("near_duplicates", {"max_bits": max_bits})(table("frame_hash", HASHES, found), None)
    assert indices(result) == grouped(len(found), pairs)
    sizes_of = [indices(result).count(first) for first in indices(result)]
    assert result["near_duplicate_count"].to_pylist() == sizes_of


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32), st.integers(1, 40), st.sampled_from([4, 80, 200]), st.sampled_from([0.6, 0.9, 0.99]),
    st.booleans(),
)  # fmt: skip
def test_by_embedding_all_pairs_within_the_threshold_are_found_and_grouped(seed, count, dim, cosine, in_cells):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, dim))
    spread = rng.choice([0.05, 0.3, 1], size=(count, 1))
    found = (centres[rng.integers(5, size=count)] + spread * rng.normal(size=(count, dim))).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    exact = found.astype(np.float64) @ found.T.astype(np.float64)
    if np.abs(exact - cosine).min() < 1e-5:  # too close to call in float32
        return
    pairs = {(i, j) for i, j in itertools.combinations(range(count), 2) if exact[i, j] >= cosine}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "CHUNK", 7)
        patch.setattr(vectors, "SAMPLE", 10)
        patch.setattr(vectors, "REACH", 1.0)  # with which no pair can be missed
        patch.setattr(vectors, "ALL_PAIRS", 0 if in_cells else 1000)
        patch.setattr(cells, "CHUNK", 11)
        patch.setattr(cells, "PER_CELL", 3)
        result, _ = load("near_duplicates", {"by": "embedding", "min_cosine": cosine})(
            table("visual_embedding", pa.list_(pa.float32(), dim), list(found)), None
        )
    assert indices(result) == grouped(count, pairs)


def test_in_cells_hardly_a_copy_is_missed_even_at_the_threshold_and_most_pairs_are_never_judged():
    rng = np.random.default_rng(3)
    found = rng.normal(size=(6000, 24)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    towards = found[rng.permutation(len(found))]  # another clip mixed in: differences lie as the clips do
    towards -= np.sum(towards * found, axis=1, keepdims=True) * found
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    copies = (0.961 * found + (1 - 0.961**2) ** 0.5 * towards).astype(np.float32)
    both = np.concatenate([found, copies])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "ALL_PAIRS", 1000)
        like = LikeVectors(both, 0.96)
    assert like.cells
    within = like.cells.within(like.short[:, :-1], like.cells.own, vectors.REACH * 0.08**0.5)
    judged = np.bincount(like.cells.own, minlength=len(like.cells.pivots))[within[0]].sum()
    assert judged < 0.15 * len(both) ** 2
    pairs = like(np.arange(len(found)), np.ones(len(both), bool))
    assert np.mean(np.isin(np.arange(len(found)), pairs[pairs[:, 1] - pairs[:, 0] == len(found), 0])) > 0.998


@pytest.mark.parametrize("by", ["hash", "embedding"])
def test_the_order_in_which_clips_were_found_does_not_matter(by):
    rng = np.random.default_rng(5)
    count, ids = 3000, np.array([f"{k:06}" for k in rng.permutation(3000)])
    if by == "hash":
        column, kind = "frame_hash", HASHES
        values = rng.integers(1, 2**63, size=(600, 4), dtype=np.uint64)[rng.integers(600, size=count)]
        values ^= np.uint64(1) << rng.integers(0, 64, size=(count, 4), dtype=np.uint64)
        values = values.view(np.int64)
    else:
        column, kind = "visual_embedding", pa.list_(pa.float32(), 32)
        values = rng.normal(size=(600, 32))[rng.integers(600, size=count)] + 0.15 * rng.normal(size=(count, 32))
        values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    answers = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(count)
        clips = pa.table({"clip_id": ids[order], column: pa.array(list(values[order]), kind)}).sort_by("clip_id")
        found, _ = load("near_duplicates", {"by": by})(clips, None)
        answers.append(dict(zip(clips["clip_id"].to_pylist(), found["near_duplicate_group"].to_pylist(), strict=True)))
    assert answers[0] == answers[1] == answers[2]
    assert 300 < len(set(answers[0].values())) < 2500


def test_a_chain_is_not_one_group():
    found = [[(1 << 64) - 1 - ((1 << 3 * k) - 1)] * 4 for k in range(6)]  # each three bits from the next
    result, _ = load("near_duplicates")(table("frame_hash", HASHES, found), None)
    assert indices(result) == [0, 0, 2, 2, 4, 4]
    assert result["near_duplicate_count"].to_pylist() == [2] * 6


def test_flat_clips_do_not_match_each_other():
    found = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 7, 7], [0, 0, 7, 7], [0, 7, 7, 7], [7, 7, 7, 0], [], []]
    result, _ = load("near_duplicates")(table("frame_hash", HASHES, found), None)
    assert indices(result) == [0, 1, 2, 3, 4, 4, 6, 7]


def test_a_set_of_one_camera_is_not_compared_clip_by_clip():
    """4,000 clips that are all alike: 8 million pairs, of which but a few are looked at."""
    one = np.random.default_rng(0).integers(1, 2**63, size=4, dtype=np.uint64)
    many = padded(np.tile(one, 4000), np.full(4000, 4))
    asked = []

    def neighbours(block, free):
        pairs = like(block, free)
        asked.append(len(pairs))
        return pairs

    like = LikeHashes(many, 4)
    assert not groups.group(len(many), neighbours).any()
    assert sum(asked) < 20 * len(many)


def test_no_clips_are_no_groups():
    for by, column, kind in (("hash", "frame_hash", HASHES),
                             ("embedding", "visual_embedding", pa.list_(pa.float32(), 8))):  # fmt: skip
        for of in (kind, pa.null()):  # null: of a store that has no such column yet
            result, _ = load("near_duplicates", {"by": by})(table(column, of, []), None)
            assert [len(v) for v in result.values()] == [0, 0]


def test_what_it_needs_follows_what_it_compares():
    assert load("near_duplicates").needs.column == "frame_hash"
    assert load("near_duplicates", {"by": "embedding"}).needs.column == "visual_embedding"
    for wrong in ({"max_bits": 40}, {"min_cosine": 0.1}, {"by": "name"}):
        with pytest.raises(ValueError, match="near_duplicates"):
            load("near_duplicates", wrong)


def test_distances_and_cosines_are_symmetric():
    rng = np.random.default_rng(1)
    a, b = (padded(rng.integers(1, 2**63, size=40, dtype=np.uint64), np.full(10, 4)) for _ in range(2))
    assert (distance(a, b) == distance(b, a)).all()
    assert (distance(a, a) == 0).all()
    unit = np.eye(4, 16, dtype=np.float32)
    assert len(LikeVectors(unit, 0.9)(np.arange(4), np.ones(4, bool))) == 0
