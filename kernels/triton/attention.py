"""The attention's GPU kernels: one program per tile of rows, a flat loop over the tiles of the blocks it attends to.

Names are those of FlashAttention: m is the queries' side, n the keys'; m_i and l_i are the running maximum and sum of a
row, p the weights, ds the gradient of the scores. A block is one of the token grid; a tile is a part of it that one
program holds (FlashAttention's BLOCK_M and BLOCK_N are TILE_M and TILE_N):

    keys     block 0          block 1          block 2         TILES_N = 2 tiles of TILE_N rows per block
             [tile 0|tile 1]  [tile 0|tile 1]  [tile 0|til  ]  the last block may be short: not FULL_N
    list     0, 2             i = 0, 1 are block 0's tiles, i = 2, 3 block 2's

Tokens are in block order, so a block is a range of rows. Where all blocks of a side are full (FULL_M, FULL_N), the
range follows from the block's number; else it is looked up, and rows past a block's end are masked. The forward pass
and dq walk a query block's list, dk and dv a key block's transposed list: every output has one writer, nothing is added
atomically, and results are the same bit for bit from run to run. Exponentials are base 2; qk_scale, above 0, is applied
in fp32 in the subtraction before them. Online softmax and recomputation in the backward pass: Dao, FlashAttention-2
(2023).

Launch grids have one axis, since only the first may be longer than 65,535. `do_not_specialize` names the sizes of
lists: a kernel is compiled once per block size, not once per grid. Tensors are contiguous [heads, rows, HEAD_DIM].
"""

import triton
import triton.language as tl


@triton.jit
def _tile_offsets(start, TILE: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr):
    """Return int64 [TILE, PADDED_DIM]: where rows from `start`, int64, lie."""
    return (start + tl.arange(0, TILE))[:, None] * HEAD_DIM + tl.arange(0, PADDED_DIM)[None, :]


@triton.jit
def _tile_mask(count, TILE: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr, FULL: tl.constexpr):
    """Return bool [TILE or 1, PADDED_DIM]: the numbers that exist of a tile of `count` rows."""
    mask = (tl.arange(0, PADDED_DIM) < HEAD_DIM)[None, :]
    if not FULL:
        mask = mask & (tl.arange(0, TILE) < count)[:, None]
    return mask


@triton.jit
def _load_rows(
    base_ptr, start, count, TILE: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr, FULL: tl.constexpr
):
    """Load [TILE, PADDED_DIM] rows from `start`; zeros past `count` rows and past HEAD_DIM."""
    ptrs = base_ptr + _tile_offsets(start, TILE, HEAD_DIM, PADDED_DIM)
    if FULL and HEAD_DIM == PADDED_DIM:
        return tl.load(ptrs)
    return tl.load(ptrs, mask=_tile_mask(count, TILE, HEAD_DIM, PADDED_DIM, FULL), other=0.0)


@triton.jit
def _store_rows(
    base_ptr, start, count, tile,
    TILE: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr, FULL: tl.constexpr,
):  # fmt: skip
    """Store the `count` rows of a tile [TILE, PADDED_DIM] from `start`."""
    ptrs = base_ptr + _tile_offsets(start, TILE, HEAD_DIM, PADDED_DIM)
    tile = tile.to(base_ptr.dtype.element_ty)
    if FULL and HEAD_DIM == PADDED_DIM:
        tl.store(ptrs, tile)
    else:
        tl.store(ptrs, tile, mask=_tile_mask(count, TILE, HEAD_DIM, PADDED_DIM, FULL))


@triton.jit
def _load_vector(base_ptr, start, count, TILE: tl.constexpr, FULL: tl.constexpr):
    """Load [TILE], one number per row; zeros past `count` rows."""
    offs = tl.arange(0, TILE)
    if FULL:
        return tl.load(base_ptr + start + offs)
    return tl.load(base_ptr + start + offs, mask=offs < count, other=0.0)


@triton.jit
def _tile_range(offsets_ptr, block, tile, TILE: tl.constexpr, TILES: tl.constexpr, FULL: tl.constexpr):
    """Return (first row, number of rows) of a tile of a block; no rows past the block's end."""
    if FULL:
        start, count = (block * TILES + tile) * TILE, TILE
    else:
        start = tl.load(offsets_ptr + block) + tile * TILE
        count = tl.maximum(tl.minimum(tl.load(offsets_ptr + block + 1) - start, TILE), 0)
    return start, count


@triton.jit(do_not_specialize=("list_stride", "list_rows"))
def forward(
    q_ptr, k_ptr, v_ptr, out_ptr, lse_ptr, indices_ptr, counts_ptr, offsets_q_ptr, offsets_k_ptr,
    list_stride, list_rows, seqlen_q, seqlen_k, qk_scale,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILES_M: tl.constexpr, TILES_N: tl.constexpr,
    FULL_M: tl.constexpr, FULL_N: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute out and lse: one program per tile of queries, head after head.

    indices: [heads, list_rows, list_stride] key blocks, of which counts [heads, list_rows] are used. qk_scale: factor
    of the scores, times log2(e).
    """
    tile_m = tl.program_id(0) % (list_rows * TILES_M)
    head = (tl.program_id(0) // (list_rows * TILES_M)).to(tl.int64)
    block_m = tile_m // TILES_M
    start_m, count_m = _tile_range(offsets_q_ptr, block_m, tile_m % TILES_M, TILE_M, TILES_M, FULL_M)
    start_m = head * seqlen_q + start_m
    offs_m = tl.arange(0, TILE_M)
    offs_n = tl.arange(0, TILE_N)
    q = _load_rows(q_ptr, start_m, count_m, TILE_M, HEAD_DIM, PADDED_DIM, FULL_M)
    list_row = head * list_rows + block_m
    m_i = tl.full([TILE_M], -float("inf"), tl.float32)
    l_i = tl.zeros([TILE_M], tl.float32)
    acc = tl.zeros([TILE_M, PADDED_DIM], tl.float32)
    for i in range(0, tl.load(counts_ptr + list_row) * TILES_N):
        block_n = tl.load(indices_ptr + list_row * list_stride + i // TILES_N)
        start_n, count_n = _tile_range(offsets_k_ptr, block_n, i % TILES_N, TILE_N, TILES_N, FULL_N)
        start_n = head * seqlen_k + start_n
        k = _load_rows(k_ptr, start_n, count_n, TILE_N, HEAD_DIM, PADDED_DIM, FULL_N)
        qk = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        if not FULL_N:
            qk = tl.where((offs_n < count_n)[None, :], qk, -float("inf"))
        m_ij = tl.maximum(m_i, tl.max(qk, 1) * qk_scale)
        shift = m_ij
        if not FULL_N:  # a tile past a short block's end is all -inf, and may come before any other
            shift = tl.where(m_ij == -float("inf"), 0.0, m_ij)
        p = tl.exp2(qk * qk_scale - shift[:, None])
        alpha = tl.exp2(m_i - shift)
        l_i = l_i * alpha + tl.sum(p, 1)
        v = _load_rows(v_ptr, start_n, count_n, TILE_N, HEAD_DIM, PADDED_DIM, FULL_N)
        acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None], input_precision=PRECISION)
        m_i = m_ij
    sees_none = l_i == 0
    l_i = tl.where(sees_none, 1.0, l_i)
    _store_rows(out_ptr, start_m, count_m, acc / l_i[:, None], TILE_M, HEAD_DIM, PADDED_DIM, FULL_M)
    lse = tl.where(sees_none, -float("inf"), (m_i + tl.log2(l_i)) * 0.6931471805599453)  # ln 2
    tl.store(lse_ptr + start_m + offs_m, lse, mask=offs_m < count_m)


@triton.jit
def delta(grad_ptr, out_ptr, delta_ptr, rows, TILE_M: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr):
    """Sum grad · out over HEAD_DIM, in fp32 without a copy of either: one program per TILE_M of all heads' rows."""
    start_m = tl.program_id(0).to(tl.int64) * TILE_M
    count_m = tl.minimum(rows - start_m, TILE_M)
    grad = _load_rows(grad_ptr, start_m, count_m, TILE_M, HEAD_DIM, PADDED_DIM, False).to(tl.float32)
    out = _load_rows(out_ptr, start_m, count_m, TILE_M, HEAD_DIM, PADDED_DIM, False).to(tl.float32)
    offs_m = tl.arange(0, TILE_M)
    tl.store(delta_ptr + start_m + offs_m, tl.sum(grad * out, 1), mask=offs_m < count_m)


@triton.jit(do_not_specialize=("list_stride", "list_rows"))
def backward_dq(
    q_ptr, k_ptr, v_ptr, grad_ptr, lse_ptr, delta_ptr, dq_ptr, indices_ptr, counts_ptr, offsets_q_ptr, offsets_k_ptr,
    list_stride, list_rows, seqlen_q, seqlen_k, qk_scale, softmax_scale,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILES_M: tl.constexpr, TILES_N: tl.constexpr,
    FULL_M: tl.constexpr, FULL_N: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute dq: one program per tile of queries, as in `forward`.

    lse: base 2, finite. softmax_scale: factor of the scores; qk_scale: the same times log2(e).
    """
    tile_m = tl.program_id(0) % (list_rows * TILES_M)
    head = (tl.program_id(0) // (list_rows * TILES_M)).to(tl.int64)
    block_m = tile_m // TILES_M
    start_m, count_m = _tile_range(offsets_q_ptr, block_m, tile_m % TILES_M, TILE_M, TILES_M, FULL_M)
    start_m = head * seqlen_q + start_m
    offs_n = tl.arange(0, TILE_N)
    q = _load_rows(q_ptr, start_m, count_m, TILE_M, HEAD_DIM, PADDED_DIM, FULL_M)
    do = _load_rows(grad_ptr, start_m, count_m, TILE_M, HEAD_DIM, PADDED_DIM, FULL_M)
    lse = _load_vector(lse_ptr, start_m, count_m, TILE_M, FULL_M)
    delta_i = _load_vector(delta_ptr, start_m, count_m, TILE_M, FULL_M)
    list_row = head * list_rows + block_m
    dq = tl.zeros([TILE_M, PADDED_DIM], tl.float32)
    for i in range(0, tl.load(counts_ptr + list_row) * TILES_N):
        block_n = tl.load(indices_ptr + list_row * list_stride + i // TILES_N)
        start_n, count_n = _tile_range(offsets_k_ptr, block_n, i % TILES_N, TILE_N, TILES_N, FULL_N)
        start_n = head * seqlen_k + start_n
        k = _load_rows(k_ptr, start_n, count_n, TILE_N, HEAD_DIM, PADDED_DIM, FULL_N)
        v = _load_rows(v_ptr, start_n, count_n, TILE_N, HEAD_DIM, PADDED_DIM, FULL_N)
        p = tl.exp2(tl.dot(q, tl.trans(k), input_precision=PRECISION) * qk_scale - lse[:, None])
        if not FULL_N:
            p = tl.where((offs_n < count_n)[None, :], p, 0.0)
        dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
        ds = p * (dp - delta_i[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision=PRECISION)
    _store_rows(dq_ptr, start_m, count_m, dq * softmax_scale, TILE_M, HEAD_DIM, PADDED_DIM, FULL_M)


@triton.jit(do_not_specialize=("list_length", "blocks_k"))
def backward_dkdv(
    q_ptr, k_ptr, v_ptr, grad_ptr, lse_ptr, delta_ptr, dk_ptr, dv_ptr, queries_ptr, starts_ptr, offsets_q_ptr,
    offsets_k_ptr, list_length, blocks_k, seqlen_q, seqlen_k, qk_scale, softmax_scale,
    TILE_M: tl.constexpr, TILE_N: tl.constexpr, TILES_M: tl.constexpr, TILES_N: tl.constexpr,
    FULL_M: tl.constexpr, FULL_N: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute dk and dv: one program per tile of keys, over the query blocks that attend to it.

    queries: [heads, list_length], of which key block j has starts[j] : starts[j + 1]; starts: [heads, blocks_k + 1].
    """
    tile_n = tl.program_id(0) % (blocks_k * TILES_N)
    head = (tl.program_id(0) // (blocks_k * TILES_N)).to(tl.int64)
    block_n = tile_n // TILES_N
    start_n, count_n = _tile_range(offsets_k_ptr, block_n, tile_n % TILES_N, TILE_N, TILES_N, FULL_N)
    start_n = head * seqlen_k + start_n
    offs_m = tl.arange(0, TILE_M)
    k = _load_rows(k_ptr, start_n, count_n, TILE_N, HEAD_DIM, PADDED_DIM, FULL_N)
    v = _load_rows(v_ptr, start_n, count_n, TILE_N, HEAD_DIM, PADDED_DIM, FULL_N)
    begin = tl.load(starts_ptr + head * (blocks_k + 1) + block_n)
    end = tl.load(starts_ptr + head * (blocks_k + 1) + block_n + 1)
    dk = tl.zeros([TILE_N, PADDED_DIM], tl.float32)
    dv = tl.zeros([TILE_N, PADDED_DIM], tl.float32)
    for i in range(0, (end - begin) * TILES_M):
        block_m = tl.load(queries_ptr + head * list_length + begin + i // TILES_M)
        start_m, count_m = _tile_range(offsets_q_ptr, block_m, i % TILES_M, TILE_M, TILES_M, FULL_M)
        start_m = head * seqlen_q + start_m
        q = _load_rows(q_ptr, start_m, count_m, TILE_M, HEAD_DIM, PADDED_DIM, FULL_M)
        do = _load_rows(grad_ptr, start_m, count_m, TILE_M, HEAD_DIM, PADDED_DIM, FULL_M)
        lse = _load_vector(lse_ptr, start_m, count_m, TILE_M, FULL_M)
        delta_i = _load_vector(delta_ptr, start_m, count_m, TILE_M, FULL_M)
        # p and ds are [TILE_N, TILE_M]: the next products need no transpose of them, and they stay in registers
        p = tl.exp2(tl.dot(k, tl.trans(q), input_precision=PRECISION) * qk_scale - lse[None, :])
        if not FULL_M:
            p = tl.where((offs_m < count_m)[None, :], p, 0.0)
        dv = tl.dot(p.to(do.dtype), do, dv, input_precision=PRECISION)
        dp = tl.dot(v, tl.trans(do), input_precision=PRECISION)
        ds = p * (dp - delta_i[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
    _store_rows(dk_ptr, start_n, count_n, dk * softmax_scale, TILE_N, HEAD_DIM, PADDED_DIM, FULL_N)
    _store_rows(dv_ptr, start_n, count_n, dv, TILE_N, HEAD_DIM, PADDED_DIM, FULL_N)
