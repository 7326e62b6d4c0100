"""Block-sparse attention over ranks that each hold a strip of rows: keys and values go round the group.

Each rank pools its keys, the pooled keys are gathered, and lists are built from the global grid, so that the selection
does not depend on the number of ranks (LongCat-Video technical report, A.2). A rank then attends to the blocks of one
strip at a time while the next arrives; partial outputs are merged by their log-sum-exp. In the backward pass keys and
values go round again, followed by their gradients (`ring_comm`).

A frame of 6 rows over two ranks, in blocks of 2 × 2; numbers are the whole grid's blocks:

    rank 0, rows (4, 2)      0 0 1 1         rank 1      4 4 5 5
                             0 0 1 1                     4 4 5 5
                             2 2 3 3
                             2 2 3 3
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from reelwright.kernels.attention import Block, autocast_types, put_back, put_in_order
from reelwright.kernels.blocks import REMEMBERED, BlockGrid, Triple, block_grids
from reelwright.kernels.call import BlockSparseCall, acc_dtype, lse_dtype
from reelwright.kernels.lists import BlockLists
from reelwright.kernels.operator import block_sparse, block_sparse_backward, block_sparse_delta, choose_backend
from reelwright.kernels.ranking import list_width
from reelwright.kernels.ring_comm import RingPass, merge
from reelwright.kernels.selection import Select, TopR, choose, pooled, visible


def ring_block_sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    group: dist.ProcessGroup,
    rows: tuple[int, ...],
    grid_q: Triple,
    grid_k: Triple,
    block: Block = (4, 4, 4),
    select: Select,
    cond_frames: int = 0,
    scale: float | None = None,
    in_block_order: bool = False,
) -> Tensor:
    """Attend as `block_sparse_attention`, from this rank's strip of queries to all ranks' keys. All ranks call it.

    Args:
        q: [B, heads, N of the strip, D].
        k: [B, heads, N of the strip, D].
        v: [B, heads, N of the strip, D].
        group: the ranks, in the order of their strips.
        rows: rows of tokens per rank; all but the last a multiple of the blocks' rows.
        grid_q: (frames, rows, columns) of all ranks' query tokens.
        grid_k: (frames, rows, columns) of all ranks' key tokens.
        block: as in `block_sparse_attention`.
        select: as in `block_sparse_attention`; a mask or lists are of the whole grid.
        cond_frames: as in `block_sparse_attention`.
        scale: factor of the scores; default: 1 / sqrt(D).
        in_block_order: tokens are in the strip's own block order, not in (t, h, w) order.

    Returns:
        [B, heads, N of the strip, D].

    Raises:
        ValueError: for strips that cut blocks, and whatever `block_sparse_attention` refuses.
    """
    blocks_q, blocks_k = block_grids(grid_q, grid_k, block, cond_frames)
    strips = _Strips(group, dist.get_rank(group), rows, blocks_q, blocks_k)
    _check(q, k, v, strips)
    strip_q = strips.grid(blocks_q, strips.rank)
    strip_k = strips.grid(blocks_k, strips.rank)
    if not in_block_order:
        q, k, v = put_in_order(q, strip_q), put_in_order(k, strip_k), put_in_order(v, strip_k)
    q, k, v = autocast_types(q, k, v)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    calls = _calls(_chosen(q, k, strips, select, scale), strips, scale, _most(select, strips))
    out = _Ring.apply(q, k, v, calls, strips)
    return out if in_block_order else put_back(out, strip_q)


@dataclass
class _Strips:
    """Who has which rows of the whole grids."""

    group: dist.ProcessGroup
    rank: int
    rows: tuple[int, ...]
    blocks_q: BlockGrid
    blocks_k: BlockGrid

    @property
    def ranks(self) -> range:
        return range(len(self.rows))

    def grid(self, whole: BlockGrid, rank: int) -> BlockGrid:
        """Return a rank's part of a whole grid."""
        frames, _, columns = whole.grid
        return BlockGrid((frames, self.rows[rank], columns), whole.block, whole.split, whole.other)

    def blocks(self, whole: BlockGrid, rank: int, device: torch.device) -> Tensor:
        """Return int64, the whole grid's numbers of the blocks of a rank's strip."""
        return _block_numbers(whole, self.grid(whole, rank), sum(self.rows[:rank]), device)

    def ring(self, k: Tensor, v: Tensor) -> RingPass:
        """Send this rank's keys and values round."""
        tokens = [self.grid(self.blocks_k, rank).tokens for rank in self.ranks]
        return RingPass(torch.stack([k, v]), tokens, self.group)


@lru_cache(maxsize=REMEMBERED)
def _block_numbers(whole: BlockGrid, strip: BlockGrid, first_row: int, device: torch.device) -> Tensor:
    """Return int64, the whole grid's numbers of a strip's blocks; made once, not in every layer."""
    with torch.inference_mode(False):
        corners = strip.bounds()[:, :, 0] + torch.tensor([0, first_row, 0])
        numbers = {tuple(corner): i for i, corner in enumerate(whole.bounds()[:, :, 0].tolist())}
        return torch.tensor([numbers[tuple(corner)] for corner in corners.tolist()]).to(device)


@torch.no_grad()
def _chosen(q: Tensor, k: Tensor, strips: _Strips, select: Select, scale: float) -> Tensor:
    """Return bool [B, heads, this rank's query blocks, all key blocks]."""
    mine = strips.blocks(strips.blocks_q, strips.rank, q.device)
    seen = visible(strips.blocks_q, strips.blocks_k, q.device)
    seen = None if seen is None else seen[mine]
    key_blocks = strips.blocks_k.count
    if isinstance(select, BlockLists | Tensor):
        whole = select.mask(key_blocks) if isinstance(select, BlockLists) else select
        given = whole.to(q.device)[..., mine, :]
        given = given if seen is None or isinstance(select, BlockLists) else given & seen
        return given.expand(*q.shape[:2], -1, -1)
    gathered = _gather_means(k, strips)
    means_q = pooled(q, strips.grid(strips.blocks_q, strips.rank))  # while the keys' travel
    lists = choose(means_q, gathered(), scale, seen, select, choose_backend("auto", q))
    return lists.mask(key_blocks)


def _gather_means(k: Tensor, strips: _Strips) -> Callable[[], Tensor]:
    """Begin to gather the pooled keys of all ranks; the result waits for them.

    Returns:
        A function that returns [B, heads, key blocks, D], as if pooled in one place.
    """
    own = pooled(k, strips.grid(strips.blocks_k, strips.rank))
    blocks = [strips.blocks(strips.blocks_k, rank, k.device) for rank in strips.ranks]
    most = max(map(len, blocks))
    sent = torch.nn.functional.pad(own, (0, 0, 0, most - own.shape[2])).contiguous()
    parts = [torch.empty_like(sent) for _ in strips.ranks]
    work = dist.all_gather(parts, sent, group=strips.group, async_op=True)

    def whole() -> Tensor:
        work.wait()
        means = own.new_empty(*own.shape[:2], strips.blocks_k.count, own.shape[-1])
        for numbers, part in zip(blocks, parts, strict=True):
            means[:, :, numbers] = part[:, :, : len(numbers)]
        return means

    return whole


def _most(select: Select, strips: _Strips) -> int | None:
    """Return how many key blocks a row keeps at most, as far as a rule says so beforehand."""
    if not isinstance(select, TopR):
        return None
    return list_width(strips.blocks_k.count, "number" if isinstance(select.keep, int) else "share", float(select.keep))


def _calls(mask: Tensor, strips: _Strips, scale: float, most: int | None) -> list[BlockSparseCall]:
    """Make the call for each rank's keys, by rank.

    Lists are as wide as a row may have blocks: `most` of them, all with one rank at worst. So the host waits for
    nothing, in no layer. Without such a bound all would be very wide, and a GPU is waited for once.
    """
    parts = [mask[..., strips.blocks(strips.blocks_k, rank, mask.device)] for rank in strips.ranks]
    if most is None:
        most = int(torch.stack([part.sum(-1).max() for part in parts]).max()) if mask.numel() else 0
    strip_q = strips.grid(strips.blocks_q, strips.rank)
    lists = [BlockLists.of_mask(part, min(most, part.shape[-1])) for part in parts]
    strips_k = [strips.grid(strips.blocks_k, rank) for rank in strips.ranks]
    return [BlockSparseCall.of(*pair, scale=scale) for pair in zip(lists, repeat(strip_q), strips_k, strict=False)]


class _Ring(torch.autograd.Function):
    """calls: by the rank that the keys are of."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, calls: list[BlockSparseCall], strips: _Strips) -> Tensor:
        out = torch.zeros_like(q, dtype=acc_dtype(q.dtype))
        lse = q.new_full(q.shape[:3], -torch.inf, dtype=lse_dtype(q.dtype))
        for _, kv, source in strips.ring(k, v):
            merge(out, lse, *block_sparse(q, kv[0], kv[1], *calls[source]))
        result = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, result, lse)
        ctx.calls = calls
        ctx.strips = strips
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        dtype = acc_dtype(q.dtype)
        dq = torch.zeros_like(q, dtype=dtype)
        delta = block_sparse_delta(grad, out, "auto")
        ring = ctx.strips.ring(k, v)
        for _, kv, source in ring:
            dq_part, dk, dv = block_sparse_backward(grad, delta, q, kv[0], kv[1], lse, *ctx.calls[source])
            dq += dq_part
            dkv = torch.stack([dk, dv]).to(dtype)
            del dq_part, dk, dv  # as large as what the next keys' pass makes
            ring.add_grad(dkv)
        dk, dv = ring.grad()
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None, None


def _check(q: Tensor, k: Tensor, v: Tensor, strips: _Strips) -> None:
    high = max(strips.blocks_q.block[1], strips.blocks_k.block[1])
    total = strips.blocks_k.grid[1]
    rows = strips.rows
    whole = min(rows) > 0 and sum(rows) == total == strips.blocks_q.grid[1]
    if not whole or len(rows) != dist.get_world_size(strips.group) or any(n % high for n in rows[:-1]):
        raise ValueError(
            f"rows {rows}: each rank's are needed, {total} in all, all but the last a multiple of the blocks' {high}"
        )
    for name, x, grid in (("q", q, strips.blocks_q), ("k", k, strips.blocks_k), ("v", v, strips.blocks_k)):
        tokens = strips.grid(grid, strips.rank).tokens
        if x.ndim != 4 or x.shape[2] != tokens or x.dtype != q.dtype or x.device != q.device:
            raise ValueError(
                f"{name} of shape {tuple(x.shape)}, {x.dtype}: [B, heads, {tokens}, D] like q, {q.dtype}, is needed"
            )
