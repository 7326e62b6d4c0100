"""The selection's GPU kernels: means of blocks, and which key blocks are kept.

A row's ranks (`ranking.ranks_of`) are whole numbers, no two alike, so there is a bound that exactly the kept blocks
reach. It is found by bisection, counting over a row that stays in registers. The blocks that reach it are written in
order, and nothing is sorted.
"""

import triton
import triton.language as tl


@triton.jit
def means(
    x_ptr, out_ptr, offsets_ptr, blocks, seqlen, TILE: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr
):
    """Average each block's rows of x [heads, seqlen, HEAD_DIM] in out's type: one program per block, head by head."""
    block = tl.program_id(0) % blocks
    head = (tl.program_id(0) // blocks).to(tl.int64)
    start = tl.load(offsets_ptr + block)
    count = tl.load(offsets_ptr + block + 1) - start
    offs_m, offs_d = tl.arange(0, TILE), tl.arange(0, PADDED_DIM)
    total = tl.zeros([PADDED_DIM], out_ptr.dtype.element_ty)
    for start_m in range(0, count, TILE):
        mask = (start_m + offs_m < count)[:, None] & (offs_d < HEAD_DIM)[None, :]
        ptrs = x_ptr + (head * seqlen + start + start_m + offs_m)[:, None] * HEAD_DIM + offs_d[None, :]
        total += tl.sum(tl.load(ptrs, mask=mask, other=0.0).to(out_ptr.dtype.element_ty), 0)
    tl.store(out_ptr + (head * blocks + block) * HEAD_DIM + offs_d, total / count, mask=offs_d < HEAD_DIM)


@triton.jit
def ranked(
    scores_ptr, factor_ptr, seen_ptr, kept_ptr, p_ptr, indices_ptr, counts_ptr, first, chunk, rows, blocks, width,
    PADDED: tl.constexpr, HIDES: tl.constexpr, CDF: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Keep a row's best key blocks: one program per row of scores [heads, chunk, blocks], query blocks from `first`.

    scores: fp64 or fp32. factor: from scores to STEPs. kept: int32 [rows], how many; with CDF until the softmax reaches
    p instead. seen: uint8 [rows, blocks], with HIDES. Writes indices [heads, rows, width], ascending, and counts
    [heads, rows].
    """
    row = first + tl.program_id(0) % chunk
    head = (tl.program_id(0) // chunk).to(tl.int64)
    offs_n = tl.arange(0, PADDED)
    valid = offs_n < blocks
    ptrs = scores_ptr + tl.program_id(0).to(tl.int64) * blocks + offs_n
    score = tl.load(ptrs, mask=valid, other=0.0).to(tl.float64) * tl.load(factor_ptr)
    if HIDES:
        valid = valid & (tl.load(seen_ptr + row.to(tl.int64) * blocks + offs_n, mask=valid, other=0) != 0)
    limit = (tl.full([], 4503599627370496, tl.int64) // blocks).to(tl.float64)  # 2⁵²
    score = tl.where(score == score, tl.minimum(tl.maximum(score, -limit), limit), limit)  # noqa: PLR0124 - NaN first, as for topk
    score = (score + 6755399441055744.0) - 6755399441055744.0  # 1.5 · 2⁵²: the nearest whole number, halves to even
    rank = score.to(tl.int64) * blocks + (blocks - 1 - offs_n)
    low = tl.min(tl.where(valid, rank, 4611686018427387904), 0)
    high = tl.max(tl.where(valid, rank, -4611686018427387904), 0) + 1  # nothing reaches it
    if CDF:
        best = tl.max(tl.where(valid, score, -4503599627370496.0), 0)
        p = tl.where(valid, tl.exp(tl.minimum(score - best, 0.0) * STEP), 0.0)
        enough = tl.load(p_ptr) * tl.sum(p, 0)
        if tl.load(p_ptr) >= 1 - 1e-12:
            high = low + 1
    else:
        wanted = tl.load(kept_ptr + row)
    while high - low > 1:
        middle = low + (high - low) // 2
        above = valid & (rank >= middle)
        if CDF:
            reached = tl.sum(tl.where(above, p, 0.0), 0) >= enough
            exact = False
        else:
            number = tl.sum(above.to(tl.int32), 0)
            reached = number >= wanted
            exact = number == wanted
        low = tl.where(reached, middle, low)
        high = tl.where(exact, middle + 1, tl.where(reached, high, middle))
    chosen = valid & (rank >= low)
    place = tl.cumsum(chosen.to(tl.int32), 0)
    list_row = head * rows + row
    tl.store(indices_ptr + list_row * width + place - 1, offs_n, mask=chosen)
    tl.store(counts_ptr + list_row, tl.sum(chosen.to(tl.int32), 0))
