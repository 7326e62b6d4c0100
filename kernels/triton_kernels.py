"""The GPU kernels: one program a tile of rows, a flat loop over the tiles of the blocks it attends to.

Tokens are in block order, so a block is a range of rows; its last tile is masked where blocks are ragged. The forward
and dq walk a query block's list, dk and dv a key block's transposed list: every output has one writer, nothing is added
atomically, and results are the same bit for bit from run to run. Scores are scaled in fp32 and exponentials are base 2.
Online softmax and the backward's recomputation: Dao, FlashAttention-2 (2023).
"""

import triton
import triton.language as tl


@triton.jit
def _rows(pointer, head, strides_h, first, count, stride_n, TILE: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr):
    """[TILE, DIM] rows from `first` of one head; zeros past `count` rows and past D."""
    rows, columns = tl.arange(0, TILE), tl.arange(0, DIM)
    places = pointer + head * strides_h + (first + rows)[:, None].to(tl.int64) * stride_n + columns[None, :]
    return tl.load(places, mask=(rows < count)[:, None] & (columns < D)[None, :], other=0.0)


@triton.jit
def _store(
    pointer, head, strides_h, first, count, stride_n, tile, TILE: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr
):  # fmt: skip
    rows, columns = tl.arange(0, TILE), tl.arange(0, DIM)
    places = pointer + head * strides_h + (first + rows)[:, None].to(tl.int64) * stride_n + columns[None, :]
    tl.store(places, tile.to(pointer.dtype.element_ty), mask=(rows < count)[:, None] & (columns < D)[None, :])


@triton.jit
def _range(offsets, block, part, TILE: tl.constexpr):
    """(first row, rows) of a tile of a block; no rows past the block's end."""
    first = tl.load(offsets + block) + part * TILE
    count = tl.minimum(tl.load(offsets + block + 1) - first, TILE)
    return first, tl.maximum(count, 0)


@triton.jit
def forward(
    q, k, v, out, lse, indices, counts, offsets_q, offsets_k, stride_q, stride_k, list_stride, list_rows,
    nq, nk, scale,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr, PARTS_Q: tl.constexpr, PARTS_K: tl.constexpr, D: tl.constexpr,
    DIM: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid (tiles of queries, heads). scale: of scores, times log2(e). EVEN: all key tiles are full."""
    tile, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    block = tile // PARTS_Q
    first, count = _range(offsets_q, block, tile % PARTS_Q, TILE_Q)
    queries = _rows(q, head, nq * stride_q, first, count, stride_q, TILE_Q, D, DIM)
    row = head * list_rows + block
    top = tl.full([TILE_Q], -float("inf"), tl.float32)
    total = tl.zeros([TILE_Q], tl.float32)
    acc = tl.zeros([TILE_Q, DIM], tl.float32)
    for i in range(0, tl.load(counts + row) * PARTS_K):
        other = tl.load(indices + row * list_stride + i // PARTS_K)
        start, length = _range(offsets_k, other, i % PARTS_K, TILE_K)
        keys = _rows(k, head, nk * stride_k, start, length, stride_k, TILE_K, D, DIM)
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale
        if not EVEN:
            scores = tl.where((tl.arange(0, TILE_K) < length)[None, :], scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        # a tile past a short block's end is all -inf, and may come before any other
        shift = tl.where(higher == -float("inf"), 0.0, higher)
        weights = tl.exp2(scores - shift[:, None])
        shrink = tl.exp2(top - shift)
        total = total * shrink + tl.sum(weights, 1)
        values = _rows(v, head, nk * stride_k, start, length, stride_k, TILE_K, D, DIM)
        acc = acc * shrink[:, None] + tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
        top = higher
    acc = acc / tl.where(total == 0, 1.0, total)[:, None]
    _store(out, head, nq * stride_q, first, count, stride_q, acc, TILE_Q, D, DIM)
    rows = tl.arange(0, TILE_Q)
    log = tl.where(total == 0, -float("inf"), (top + tl.log2(tl.where(total == 0, 1.0, total))) * 0.6931471805599453)
    tl.store(lse + head * nq + first + rows, log, mask=rows < count)


@triton.jit
def _numbers(pointer, head, nq, first, count, TILE: tl.constexpr):
    rows = tl.arange(0, TILE)
    return tl.load(pointer + head * nq + first + rows, mask=rows < count, other=0.0)


@triton.jit
def backward_queries(
    q, k, v, grad, lse, mean, dq, indices, counts, offsets_q, offsets_k, stride_q, stride_k, list_stride, list_rows,
    nq, nk, scale, back,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr, PARTS_Q: tl.constexpr, PARTS_K: tl.constexpr, D: tl.constexpr,
    DIM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid (tiles of queries, heads). lse: base 2, finite. back: the scale of scores in the gradient."""
    tile, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    block = tile // PARTS_Q
    first, count = _range(offsets_q, block, tile % PARTS_Q, TILE_Q)
    queries = _rows(q, head, nq * stride_q, first, count, stride_q, TILE_Q, D, DIM)
    grads = _rows(grad, head, nq * stride_q, first, count, stride_q, TILE_Q, D, DIM)
    log, mu = _numbers(lse, head, nq, first, count, TILE_Q), _numbers(mean, head, nq, first, count, TILE_Q)
    row = head * list_rows + block
    acc = tl.zeros([TILE_Q, DIM], tl.float32)
    for i in range(0, tl.load(counts + row) * PARTS_K):
        other = tl.load(indices + row * list_stride + i // PARTS_K)
        start, length = _range(offsets_k, other, i % PARTS_K, TILE_K)
        keys = _rows(k, head, nk * stride_k, start, length, stride_k, TILE_K, D, DIM)
        values = _rows(v, head, nk * stride_k, start, length, stride_k, TILE_K, D, DIM)
        shown = (tl.arange(0, TILE_K) < length)[None, :]
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale
        weights = tl.where(shown, tl.exp2(scores - log[:, None]), 0.0)
        slope = weights * (tl.dot(grads, tl.trans(values), input_precision=PRECISION) - mu[:, None])
        acc += tl.dot(slope.to(keys.dtype), keys, input_precision=PRECISION)
    _store(dq, head, nq * stride_q, first, count, stride_q, acc * back, TILE_Q, D, DIM)


@triton.jit
def backward_keys(
    q, k, v, grad, lse, mean, dk, dv, queries_of, starts, offsets_q, offsets_k, stride_q, stride_k, list_length,
    nq, nk, blocks_k, scale, back,
    TILE_Q: tl.constexpr, TILE_K: tl.constexpr, PARTS_Q: tl.constexpr, PARTS_K: tl.constexpr, D: tl.constexpr,
    DIM: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid (tiles of keys, heads): over the query blocks that attend to them, queries_of[starts : next start]."""
    tile, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    block = tile // PARTS_K
    start, length = _range(offsets_k, block, tile % PARTS_K, TILE_K)
    keys = _rows(k, head, nk * stride_k, start, length, stride_k, TILE_K, D, DIM)
    values = _rows(v, head, nk * stride_k, start, length, stride_k, TILE_K, D, DIM)
    begin = tl.load(starts + head * (blocks_k + 1) + block)
    end = tl.load(starts + head * (blocks_k + 1) + block + 1)
    acc_k, acc_v = tl.zeros([TILE_K, DIM], tl.float32), tl.zeros([TILE_K, DIM], tl.float32)
    for i in range(0, (end - begin) * PARTS_Q):
        other = tl.load(queries_of + head * list_length + begin + i // PARTS_Q)
        first, count = _range(offsets_q, other, i % PARTS_Q, TILE_Q)
        queries = _rows(q, head, nq * stride_q, first, count, stride_q, TILE_Q, D, DIM)
        grads = _rows(grad, head, nq * stride_q, first, count, stride_q, TILE_Q, D, DIM)
        log, mu = _numbers(lse, head, nq, first, count, TILE_Q), _numbers(mean, head, nq, first, count, TILE_Q)
        # scores as [keys, queries]: what is multiplied next need not be transposed, and stays in registers
        shown = (tl.arange(0, TILE_Q) < count)[None, :]
        scores = tl.dot(keys, tl.trans(queries), input_precision=PRECISION) * scale
        weights = tl.where(shown, tl.exp2(scores - log[None, :]), 0.0)
        acc_v += tl.dot(weights.to(grads.dtype), grads, input_precision=PRECISION)
        slope = weights * (tl.dot(values, tl.trans(grads), input_precision=PRECISION) - mu[None, :])
        acc_k += tl.dot(slope.to(queries.dtype), queries, input_precision=PRECISION)
    _store(dk, head, nk * stride_k, start, length, stride_k, acc_k * back, TILE_K, D, DIM)
    _store(dv, head, nk * stride_k, start, length, stride_k, acc_v, TILE_K, D, DIM)
