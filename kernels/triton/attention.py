"""The GPU kernels: one program a tile of rows, a flat loop over the tiles of the blocks it attends to.

Tokens are in block order, so a block is a range of rows. Where all blocks of a side are full (FULL_Q, FULL_K), the
range follows from the block's number; else it is looked up, and rows past a block's end are masked. The forward and dq
walk a query block's list, dk and dv a key block's transposed list: every output has one writer, nothing is added
atomically, and results are the same bit for bit from run to run. Exponentials are base 2, and the scale, above 0, is
applied in fp32 in the subtraction before them. Online softmax and the backward's recomputation: Dao, FlashAttention-2
(2023).

Grids have one axis, as only the first may be longer than 65,535. Sizes of lists are not specialised: a kernel is
compiled once for blocks of a size, not for each grid. Tensors are contiguous [heads, rows, D].
"""

import triton
import triton.language as tl


@triton.jit
def _places(first, TILE: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr):
    """int64 [TILE, DIM]: where rows from `first`, int64, lie."""
    return (first + tl.arange(0, TILE))[:, None] * D + tl.arange(0, DIM)[None, :]


@triton.jit
def _shown(count, TILE: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr, FULL: tl.constexpr):
    """bool [TILE or 1, DIM]: what there is of a tile that has `count` rows."""
    shown = (tl.arange(0, DIM) < D)[None, :]
    if not FULL:
        shown = shown & (tl.arange(0, TILE) < count)[:, None]
    return shown


@triton.jit
def _rows(pointer, first, count, TILE: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr, FULL: tl.constexpr):
    """[TILE, DIM] rows from `first`; zeros past `count` rows and past D."""
    places = pointer + _places(first, TILE, D, DIM)
    if FULL and D == DIM:
        return tl.load(places)
    return tl.load(places, mask=_shown(count, TILE, D, DIM, FULL), other=0.0)


@triton.jit
def _store(pointer, first, count, tile, TILE: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr, FULL: tl.constexpr):
    places, tile = pointer + _places(first, TILE, D, DIM), tile.to(pointer.dtype.element_ty)
    if FULL and D == DIM:
        tl.store(places, tile)
    else:
        tl.store(places, tile, mask=_shown(count, TILE, D, DIM, FULL))


@triton.jit
def _numbers(pointer, first, count, TILE: tl.constexpr, FULL: tl.constexpr):
    """[TILE]: of each row, one number."""
    rows = tl.arange(0, TILE)
    if FULL:
        return tl.load(pointer + first + rows)
    return tl.load(pointer + first + rows, mask=rows < count, other=0.0)


@triton.jit
def _range(offsets, block, part, TILE: tl.constexpr, PARTS: tl.constexpr, FULL: tl.constexpr):
    """(first row, rows) of a tile of a block; no rows past the block's end."""
    if FULL:
        first, count = (block * PARTS + part) * TILE, TILE
    else:
        first = tl.load(offsets + block) + part * TILE
        count = tl.maximum(tl.minimum(tl.load(offsets + block + 1) - first, TILE), 0)
    return first, count


SIZES = ("list_stride", "list_rows", "list_length", "blocks_k")


@triton.jit(do_not_specialize=SIZES[:2])
def forward(
    q, k, v, out, lse, indices, counts, offsets_q, offsets_k, list_stride, list_rows, nq, nk, scale,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr, PARTS_Q: tl.constexpr, PARTS_K: tl.constexpr,
    FULL_Q: tl.constexpr, FULL_K: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program a tile of queries, heads one after another. scale: of scores, times log2(e)."""
    tile = tl.program_id(0) % (list_rows * PARTS_Q)
    head = (tl.program_id(0) // (list_rows * PARTS_Q)).to(tl.int64)
    block = tile // PARTS_Q
    first, count = _range(offsets_q, block, tile % PARTS_Q, TILE_Q, PARTS_Q, FULL_Q)
    at = head * nq + first
    queries = _rows(q, at, count, TILE_Q, D, DIM, FULL_Q)
    row = head * list_rows + block
    top = tl.full([TILE_Q], -float("inf"), tl.float32)
    total = tl.zeros([TILE_Q], tl.float32)
    acc = tl.zeros([TILE_Q, DIM], tl.float32)
    for i in range(0, tl.load(counts + row) * PARTS_K):
        other = tl.load(indices + row * list_stride + i // PARTS_K)
        start, length = _range(offsets_k, other, i % PARTS_K, TILE_K, PARTS_K, FULL_K)
        keys = _rows(k, head * nk + start, length, TILE_K, D, DIM, FULL_K)
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION)
        if not FULL_K:
            scores = tl.where((tl.arange(0, TILE_K) < length)[None, :], scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1) * scale)
        shift = higher
        if not FULL_K:  # a tile past a short block's end is all -inf, and may come before any other
            shift = tl.where(higher == -float("inf"), 0.0, higher)
        weights = tl.exp2(scores * scale - shift[:, None])
        shrink = tl.exp2(top - shift)
        total = total * shrink + tl.sum(weights, 1)
        values = _rows(v, head * nk + start, length, TILE_K, D, DIM, FULL_K)
        acc = tl.dot(weights.to(values.dtype), values, acc * shrink[:, None], input_precision=PRECISION)
        top = higher
    none = total == 0
    total = tl.where(none, 1.0, total)
    _store(out, at, count, acc / total[:, None], TILE_Q, D, DIM, FULL_Q)
    rows = tl.arange(0, TILE_Q)
    log = tl.where(none, -float("inf"), (top + tl.log2(total)) * 0.6931471805599453)
    tl.store(lse + at + rows, log, mask=rows < count)


@triton.jit
def levels(grad, out, level, n, TILE: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr):
    """A program TILE rows of all heads: the sums of grad · out, in fp32 without a copy of either."""
    first = tl.program_id(0).to(tl.int64) * TILE
    count = tl.minimum(n - first, TILE)
    grads = _rows(grad, first, count, TILE, D, DIM, False).to(tl.float32)
    outs = _rows(out, first, count, TILE, D, DIM, False).to(tl.float32)
    rows = tl.arange(0, TILE)
    tl.store(level + first + rows, tl.sum(grads * outs, 1), mask=rows < count)


@triton.jit(do_not_specialize=SIZES[:2])
def backward_queries(
    q, k, v, grad, lse, level, dq, indices, counts, offsets_q, offsets_k, list_stride, list_rows, nq, nk, scale, back,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr, PARTS_Q: tl.constexpr, PARTS_K: tl.constexpr,
    FULL_Q: tl.constexpr, FULL_K: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program a tile of queries. lse: base 2, finite. back: the scale of scores in the gradient."""
    tile = tl.program_id(0) % (list_rows * PARTS_Q)
    head = (tl.program_id(0) // (list_rows * PARTS_Q)).to(tl.int64)
    block = tile // PARTS_Q
    first, count = _range(offsets_q, block, tile % PARTS_Q, TILE_Q, PARTS_Q, FULL_Q)
    at = head * nq + first
    queries, grads = _rows(q, at, count, TILE_Q, D, DIM, FULL_Q), _rows(grad, at, count, TILE_Q, D, DIM, FULL_Q)
    log, mu = _numbers(lse, at, count, TILE_Q, FULL_Q), _numbers(level, at, count, TILE_Q, FULL_Q)
    row = head * list_rows + block
    acc = tl.zeros([TILE_Q, DIM], tl.float32)
    for i in range(0, tl.load(counts + row) * PARTS_K):
        other = tl.load(indices + row * list_stride + i // PARTS_K)
        start, length = _range(offsets_k, other, i % PARTS_K, TILE_K, PARTS_K, FULL_K)
        keys = _rows(k, head * nk + start, length, TILE_K, D, DIM, FULL_K)
        values = _rows(v, head * nk + start, length, TILE_K, D, DIM, FULL_K)
        weights = tl.exp2(tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale - log[:, None])
        if not FULL_K:
            weights = tl.where((tl.arange(0, TILE_K) < length)[None, :], weights, 0.0)
        slope = weights * (tl.dot(grads, tl.trans(values), input_precision=PRECISION) - mu[:, None])
        acc = tl.dot(slope.to(keys.dtype), keys, acc, input_precision=PRECISION)
    _store(dq, at, count, acc * back, TILE_Q, D, DIM, FULL_Q)


@triton.jit(do_not_specialize=SIZES[2:])
def backward_keys(
    q, k, v, grad, lse, level, dk, dv, queries_of, starts, offsets_q, offsets_k, list_length, blocks_k, nq, nk, scale,
    back,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr, PARTS_Q: tl.constexpr, PARTS_K: tl.constexpr,
    FULL_Q: tl.constexpr, FULL_K: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program a tile of keys: over the query blocks that attend to them, queries_of[starts : next start]."""
    tile = tl.program_id(0) % (blocks_k * PARTS_K)
    head = (tl.program_id(0) // (blocks_k * PARTS_K)).to(tl.int64)
    block = tile // PARTS_K
    start, length = _range(offsets_k, block, tile % PARTS_K, TILE_K, PARTS_K, FULL_K)
    at = head * nk + start
    keys, values = _rows(k, at, length, TILE_K, D, DIM, FULL_K), _rows(v, at, length, TILE_K, D, DIM, FULL_K)
    begin = tl.load(starts + head * (blocks_k + 1) + block)
    end = tl.load(starts + head * (blocks_k + 1) + block + 1)
    acc_k, acc_v = tl.zeros([TILE_K, DIM], tl.float32), tl.zeros([TILE_K, DIM], tl.float32)
    for i in range(0, (end - begin) * PARTS_Q):
        other = tl.load(queries_of + head * list_length + begin + i // PARTS_Q)
        first, count = _range(offsets_q, other, i % PARTS_Q, TILE_Q, PARTS_Q, FULL_Q)
        there = head * nq + first
        queries = _rows(q, there, count, TILE_Q, D, DIM, FULL_Q)
        grads = _rows(grad, there, count, TILE_Q, D, DIM, FULL_Q)
        log, mu = _numbers(lse, there, count, TILE_Q, FULL_Q), _numbers(level, there, count, TILE_Q, FULL_Q)
        # scores as [keys, queries]: what is multiplied next need not be transposed, and stays in registers
        weights = tl.exp2(tl.dot(keys, tl.trans(queries), input_precision=PRECISION) * scale - log[None, :])
        if not FULL_Q:
            weights = tl.where((tl.arange(0, TILE_Q) < count)[None, :], weights, 0.0)
        acc_v = tl.dot(weights.to(grads.dtype), grads, acc_v, input_precision=PRECISION)
        slope = weights * (tl.dot(values, tl.trans(grads), input_precision=PRECISION) - mu[None, :])
        acc_k = tl.dot(slope.to(queries.dtype), queries, acc_k, input_precision=PRECISION)
    _store(dk, at, length, acc_k * back, TILE_K, D, DIM, FULL_K)
    _store(dv, at, length, acc_v, TILE_K, D, DIM, FULL_K)
