"""Block-sparse attention over ranks that each hold a strip of rows: keys and values travel round the group.

Each rank pools its keys, the pooled keys are gathered, and lists are built from the global grid, so that what is chosen
does not depend on the number of ranks (LongCat-Video technical report, A.2). A rank then attends to the blocks of one
strip at a time while the next arrives; partial outputs are merged by their log-sum-exp. In the backward pass keys and
values travel again, followed by their gradients.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from reelwright.kernels.attention import Block, autocast_types, put_back, put_in_order
from reelwright.kernels.blocks import REMEMBERED, BlockGrid, Triple, block_grids
from reelwright.kernels.lists import BlockLists
from reelwright.kernels.operator import block_sparse, block_sparse_backward, block_sparse_levels, choose_backend
from reelwright.kernels.reference import lse_type
from reelwright.kernels.ring_comm import Arriving, merge, pass_on
from reelwright.kernels.selection import Select, choose, pooled, visible


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
    """As `block_sparse_attention`, of this rank's strip: q, k, v [B, heads, N of the strip, D], in (t, h, w) order or,
    in_block_order, in the strip's own block order.

    rows: of tokens, of each rank of the group; all but the last a multiple of the blocks' rows, or ValueError. grid_q,
    grid_k: of the whole. A mask or lists given as `select` are of the whole too. All ranks call it.
    """
    whole = block_grids(grid_q, grid_k, block, cond_frames)
    route = _Route(group, dist.get_rank(group), rows, *whole)
    _check(q, k, v, route)
    ours_q, ours_k = route.strip(whole[0], route.rank), route.strip(whole[1], route.rank)
    if not in_block_order:
        q, k, v = put_in_order(q, ours_q), put_in_order(k, ours_k), put_in_order(v, ours_k)
    q, k, v = autocast_types(q, k, v)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    lists = _lists(_chosen(q, k, route, select, scale), route)
    out = _Ring.apply(q, k, v, lists, route, scale)
    return out if in_block_order else put_back(out, ours_q)


@dataclass
class _Route:
    group: dist.ProcessGroup
    rank: int
    rows: tuple[int, ...]
    grid_q: BlockGrid
    grid_k: BlockGrid

    @property
    def size(self) -> int:
        return len(self.rows)

    def source(self, step: int) -> int:
        """Whose keys are here at a step."""
        return (self.rank - step) % self.size

    def strip(self, whole: BlockGrid, rank: int) -> BlockGrid:
        frames, _, columns = whole.grid
        return BlockGrid((frames, self.rows[rank], columns), whole.block, whole.split, whole.other)

    def blocks(self, whole: BlockGrid, rank: int, device: torch.device) -> Tensor:
        """int64: the whole's numbers of the blocks of a rank's strip."""
        return _numbers(whole, self.strip(whole, rank), sum(self.rows[:rank]), device)


@lru_cache(maxsize=REMEMBERED)
def _numbers(whole: BlockGrid, strip: BlockGrid, row: int, device: torch.device) -> Tensor:
    """int64: the whole's numbers of the blocks of a strip that begins at a row; made once, not in every layer."""
    with torch.inference_mode(False):
        first = strip.bounds()[:, :, 0] + torch.tensor([0, row, 0])
        known = {tuple(place): i for i, place in enumerate(whole.bounds()[:, :, 0].tolist())}
        return torch.tensor([known[tuple(place)] for place in first.tolist()]).to(device)


@torch.no_grad()
def _chosen(q: Tensor, k: Tensor, route: _Route, select: Select, scale: float) -> Tensor:
    """bool [B, heads, this rank's query blocks, all key blocks]."""
    mine = route.blocks(route.grid_q, route.rank, q.device)
    seen = visible(route.grid_q, route.grid_k, q.device)
    seen = None if seen is None else seen[mine]
    if isinstance(select, BlockLists | Tensor):
        whole = select.mask(route.grid_k.count) if isinstance(select, BlockLists) else select
        given = whole.to(q.device)[..., mine, :]
        given = given if seen is None or isinstance(select, BlockLists) else given & seen
        return given.expand(*q.shape[:2], -1, -1)
    means = pooled(q, route.strip(route.grid_q, route.rank))
    chosen = choose(means, _all_means(k, route), scale, seen, select, choose_backend("auto", q))
    return chosen.mask(route.grid_k.count)


def _all_means(k: Tensor, route: _Route) -> Tensor:
    """fp64 [B, heads, key blocks, D]: the pooled keys of all ranks, as if they had been pooled in one place."""
    own = pooled(k, route.strip(route.grid_k, route.rank))
    strips = [route.blocks(route.grid_k, rank, k.device) for rank in range(route.size)]
    most = max(map(len, strips))
    sent = torch.nn.functional.pad(own, (0, 0, 0, most - own.shape[2])).contiguous()
    parts = [torch.empty_like(sent) for _ in route.rows]
    dist.all_gather(parts, sent, group=route.group)
    means = own.new_empty(*own.shape[:2], route.grid_k.count, own.shape[-1])
    for numbers, part in zip(strips, parts, strict=True):
        means[:, :, numbers] = part[:, :, : len(numbers)]
    return means


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, lists: "_Lists", route: _Route, scale: float) -> Tensor:
        wide = torch.promote_types(q.dtype, torch.float32)
        out, lse = torch.zeros_like(q, dtype=wide), q.new_full(q.shape[:3], -torch.inf, dtype=lse_type(q.dtype))
        kv = torch.stack([k, v])
        for step in range(route.size):
            arriving = _pass_on(kv, route, step) if step + 1 < route.size else None
            merge(out, lse, *block_sparse(q, kv[0], kv[1], *lists[step], scale, "auto"))
            kv = arriving.wait() if arriving else kv
        result = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, result, lse)
        ctx.lists, ctx.route, ctx.scale = lists, route, scale
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        route, wide = ctx.route, torch.promote_types(q.dtype, torch.float32)
        dq, kv = torch.zeros_like(q, dtype=wide), torch.stack([k, v])
        level = block_sparse_levels(grad, out, "auto")
        following: Arriving | None = None  # the gradient of the keys that are here, from the ranks they have visited
        for step in range(route.size):
            arriving = _pass_on(kv, route, step) if step + 1 < route.size else None
            slopes = block_sparse_backward(grad, level, q, kv[0], kv[1], lse, *ctx.lists[step], ctx.scale, "auto")
            dq += slopes[0]
            dkv = torch.stack(slopes[1:]).to(wide)
            dkv = dkv + following.wait() if following else dkv
            following = _pass_on(dkv, route, step)
            kv = arriving.wait() if arriving else kv
        assert following is not None
        home = following.wait()
        return dq.to(q.dtype), home[0].to(k.dtype), home[1].to(v.dtype), None, None, None


_Lists: TypeAlias = list[tuple[Any, ...]]


def _lists(mask: Tensor, route: _Route) -> _Lists:
    """What the operator takes for the strip of keys that is here at each step; of one width, for which a GPU is waited
    for once."""
    device, sources = mask.device, [route.source(step) for step in range(route.size)]
    parts = [mask[..., route.blocks(route.grid_k, source, device)] for source in sources]
    width = int(torch.stack([part.sum(-1).max() for part in parts]).max()) if mask.numel() else 0
    ours = route.strip(route.grid_q, route.rank)
    found = []
    for source, part in zip(sources, parts, strict=True):
        theirs, lists = route.strip(route.grid_k, source), BlockLists.of_mask(part, width)
        offsets = ours.offsets(device), theirs.offsets(device)
        found.append((lists.indices, lists.counts, *offsets, ours.capacity, theirs.capacity))
    return found


def _pass_on(tensor: Tensor, route: _Route, step: int) -> Arriving:
    """Send [2, B, heads, N, D] to the next rank, and take what the rank before has at `step`."""
    shape = list(tensor.shape)
    shape[3] = route.strip(route.grid_k, route.source(step + 1)).tokens
    return pass_on(tensor, shape, route.group)


def _check(q: Tensor, k: Tensor, v: Tensor, route: _Route) -> None:
    high = max(route.grid_q.block[1], route.grid_k.block[1])
    total = route.grid_k.grid[1]
    whole = min(route.rows) > 0 and sum(route.rows) == total == route.grid_q.grid[1]
    if not whole or len(route.rows) != dist.get_world_size(route.group) or any(n % high for n in route.rows[:-1]):
        raise ValueError(
            f"rows {route.rows}: each rank's are needed, {total} in all, "
            f"all but the last a multiple of the blocks' {high}"
        )
    for name, x, grid in (("q", q, route.grid_q), ("k", k, route.grid_k), ("v", v, route.grid_k)):
        tokens = route.strip(grid, route.rank).tokens
        if x.ndim != 4 or x.shape[2] != tokens or x.dtype != q.dtype or x.device != q.device:
            raise ValueError(
                f"{name} of shape {tuple(x.shape)}, {x.dtype}: [B, heads, {tokens}, D] like q, {q.dtype}, is needed"
            )
