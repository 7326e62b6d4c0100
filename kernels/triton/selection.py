"""GPU kernels of the selection: means of blocks, and which key blocks are kept.

A row's ranks (`ranking.ranks_of`) are whole numbers, no two alike, so there is a bound that what is kept reaches,
and nothing else: found by halving, from counts over a row that stays in registers. What reaches it is written in
order, and nothing is sorted.
"""

import triton
import triton.language as tl


@triton.jit
def means(x, out, offsets, blocks, n, TILE: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr):
    """A program a block, heads one after another: the mean over its rows of x [heads, n, D], in fp64."""
    block = tl.program_id(0) % blocks
    head = (tl.program_id(0) // blocks).to(tl.int64)
    first = tl.load(offsets + block)
    count = tl.load(offsets + block + 1) - first
    rows, columns = tl.arange(0, TILE), tl.arange(0, DIM)
    total = tl.zeros([DIM], tl.float64)
    for start in range(0, count, TILE):
        shown = (start + rows < count)[:, None] & (columns < D)[None, :]
        places = (head * n + first + start + rows)[:, None] * D + columns[None, :]
        total += tl.sum(tl.load(x + places, mask=shown, other=0.0).to(tl.float64), 0)
    tl.store(out + (head * blocks + block) * D + columns, total / count, mask=columns < D)


@triton.jit
def ranked(
    scores, factor, seen, kept, p, indices, counts, first, chunk, rows, blocks, width,
    WIDE: tl.constexpr, HIDES: tl.constexpr, CDF: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """A program a row of scores [heads, chunk, blocks], those of query blocks from `first`. factor: to STEPs; kept: how
    many of each row, or with CDF until the softmax reaches p. Writes indices [heads, rows, width] and counts."""
    row = first + tl.program_id(0) % chunk
    head = (tl.program_id(0) // chunk).to(tl.int64)
    key = tl.arange(0, WIDE)
    valid = key < blocks
    score = tl.load(scores + tl.program_id(0).to(tl.int64) * blocks + key, mask=valid, other=0.0) * tl.load(factor)
    if HIDES:
        valid = valid & (tl.load(seen + row.to(tl.int64) * blocks + key, mask=valid, other=0) != 0)
    limit = (tl.full([], 4503599627370496, tl.int64) // blocks).to(tl.float64)  # 2⁵²
    score = tl.where(score == score, tl.minimum(tl.maximum(score, -limit), limit), limit)  # noqa: PLR0124 - NaN first, as for topk
    score = (score + 6755399441055744.0) - 6755399441055744.0  # 1.5 · 2⁵²: the nearest whole number, halves to even
    rank = score.to(tl.int64) * blocks + (blocks - 1 - key)
    low = tl.min(tl.where(valid, rank, 4611686018427387904), 0)
    high = tl.max(tl.where(valid, rank, -4611686018427387904), 0) + 1  # nothing reaches it
    if CDF:
        best = tl.max(tl.where(valid, score, -4503599627370496.0), 0)
        weight = tl.where(valid, tl.exp(tl.minimum(score - best, 0.0) * STEP), 0.0)
        enough = tl.load(p) * tl.sum(weight, 0)
        if tl.load(p) >= 1 - 1e-12:
            high = low + 1
    else:
        wanted = tl.load(kept + row)
    while high - low > 1:
        middle = low + (high - low) // 2
        above = valid & (rank >= middle)
        if CDF:
            reached = tl.sum(tl.where(above, weight, 0.0), 0) >= enough
            exact = False
        else:
            number = tl.sum(above.to(tl.int32), 0)
            reached = number >= wanted
            exact = number == wanted
        low = tl.where(reached, middle, low)
        high = tl.where(exact, middle + 1, tl.where(reached, high, middle))
    chosen = valid & (rank >= low)
    place = tl.cumsum(chosen.to(tl.int32), 0)
    line = head * rows + row
    tl.store(indices + line * width + place - 1, key, mask=chosen)
    tl.store(counts + line, tl.sum(chosen.to(tl.int32), 0))
