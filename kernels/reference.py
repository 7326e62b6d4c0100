"""Block-sparse attention in plain PyTorch, for any device and type: batched products over gathered key blocks.

Rows of equal counts are computed together, a bounded number at a time, in fp32 (fp64 of fp64). Where most blocks are
kept, gathering costs more than it saves, and whole keys are used under a mask. Both forms share their
arithmetic. Queries, keys and values are [B, heads, N, D] in block order, and B × heads is one axis below.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

CHUNK_BYTES = 4 << 20
"""Scores held at a time: in a core's cache they are fastest, and the gathered keys grow with them."""
GPU_CHUNK_BYTES = 256 << 20
"""On a GPU: each chunk is some ten launches."""
EXACT_TO = 16.0
"""Scores of fp32 beyond it are computed in fp64: their last digit alone would cost more than 2e-6 of a weight."""
DENSE_FROM = 0.6
"""Share of kept pairs from which whole keys under a mask are faster than gathered ones (2 cores, D = 128)."""


@dataclass(frozen=True)
class Plan:
    """What to compute. indices [B, heads, Mq, R], counts [B, heads, Mq] as in `BlockLists`, offsets in `BlockGrid`."""

    indices: Tensor
    counts: Tensor
    offsets_q: Tensor
    offsets_k: Tensor
    capacity_q: int
    capacity_k: int
    scale: float


def forward(q: Tensor, k: Tensor, v: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """-> out [B, heads, Nq, D], log-sum-exp [B, heads, Nq] of `lse_type`; 0 and -inf where a row has no blocks."""
    work = _work(plan)
    (rows,), (keys, values) = work.queries(q), work.keys(k, v)
    out, lse = torch.zeros_like(rows), rows.new_full((*rows.shape[:2], 1), -torch.inf, dtype=lse_type(q.dtype))
    for piece in work.pieces():
        part, total = _attend(piece.take_queries(rows), *piece.take_keys(keys, values), piece.hidden, plan.scale)
        piece.put_queries(out, part)
        piece.put_queries(lse, total)
    return work.tokens_q(out, q), work.tokens_q(lse, q).squeeze(-1)


def levels(grad: Tensor, out: Tensor) -> Tensor:
    """[B, heads, Nq], fp32 (fp64 of fp64): the sums of grad · out over D."""
    wide = torch.promote_types(out.dtype, torch.float32)
    return (grad.to(wide) * out.to(wide)).sum(-1)


def backward(
    grad: Tensor, level: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Tensor, plan: Plan
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v from that of out; level [B, heads, Nq]: `levels`, less the log-sum-exp's gradient."""
    wide = torch.promote_types(q.dtype, torch.float32)
    work = _work(plan)
    rows = work.queries(q, grad, lse[..., None].masked_fill(lse[..., None] == -torch.inf, 0), level[..., None])
    keys, values = work.keys(k, v)
    dq, dk, dv = (torch.zeros_like(x, dtype=wide) for x in (rows[0], keys, values))
    for piece in work.pieces():
        queries, grads, total, mean = (piece.take_queries(x) for x in rows)
        pair = piece.take_keys(keys, values)
        slopes = _slopes(queries, grads, total, mean, *pair, hidden=piece.hidden, scale=plan.scale)
        piece.put_queries(dq, slopes[0])
        piece.add_keys(dk, slopes[1])
        piece.add_keys(dv, slopes[2])
    return work.tokens_q(dq, q).to(q.dtype), work.tokens_k(dk, k).to(k.dtype), work.tokens_k(dv, v).to(v.dtype)


def lse_type(dtype: torch.dtype) -> torch.dtype:
    """Of the log-sum-exp. Of fp32 it is fp64: rounded to fp32, one of 100 would cost each weight 4e-6, and every piece
    of a ring its own."""
    return torch.float32 if dtype.itemsize < 4 else torch.float64


def _attend(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """q [g, n, D], k and v [g, m, D], wide, hidden [g, n or 1, m] bool -> out [g, n, D], log-sum-exp [g, n, 1]."""
    weights = _scores(q, k, hidden, scale)
    top = weights.amax(-1, keepdim=True)
    if too_large(top, q):
        out, total = _attend(q.double(), k.double(), v.double(), hidden, scale)
        return out.float(), total
    top.clamp_(min=torch.finfo(weights.dtype).min)
    weights.sub_(top).exp_()
    total = weights.sum(-1, keepdim=True)
    out = (weights @ v).div_(total.clamp(min=torch.finfo(total.dtype).tiny))
    return out, total.to(lse_type(q.dtype)).log().add_(top)


def _slopes(
    q: Tensor, grad: Tensor, lse: Tensor, mean: Tensor, k: Tensor, v: Tensor, *, hidden: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v of a piece (Dao, 2023). mean [g, n, 1]: of grad · out, less the log-sum-exp's gradient."""
    if too_large(lse, q):
        q, k, v = q.double(), k.double(), v.double()
    weights = _scores(q, k, hidden, scale)
    grad, lse, mean = (x.to(weights.dtype) for x in (grad, lse, mean))
    weights.sub_(lse).exp_()
    value = weights.mT @ grad
    slope = (grad @ v.mT).sub_(mean).mul_(weights)
    return (slope @ k).mul_(scale), slope.mT @ q.to(k.dtype).mul(scale), value


def too_large(scores: Tensor, q: Tensor) -> bool:
    """Whether scores, or log-sum-exps of them, of fp32 queries are too far from 0 for fp32. -inf: nothing is seen."""
    return q.dtype == torch.float32 and bool((scores.abs() > EXACT_TO).logical_and_(scores > -torch.inf).any())


def _scores(q: Tensor, k: Tensor, hidden: Tensor | None, scale: float) -> Tensor:
    scores = q.to(k.dtype).mul(scale) @ k.mT
    return scores if hidden is None else scores.masked_fill_(hidden, -torch.inf)


class _Blocks:
    """How pieces are cut: by rows of the lists, over gathered key blocks."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rows = plan.counts.shape[-1]
        self.key_blocks = plan.offsets_k.numel() - 1

    def queries(self, *tensors: Tensor) -> list[Tensor]:
        return [_to_blocks(x, self.plan.offsets_q, self.plan.capacity_q) for x in tensors]

    def keys(self, *tensors: Tensor) -> list[Tensor]:
        return [_to_blocks(x, self.plan.offsets_k, self.plan.capacity_k) for x in tensors]

    def tokens_q(self, blocks: Tensor, like: Tensor) -> Tensor:
        return _to_tokens(blocks, self.plan.offsets_q, like)

    def tokens_k(self, blocks: Tensor, like: Tensor) -> Tensor:
        return _to_tokens(blocks, self.plan.offsets_k, like)

    def pieces(self) -> Iterator["_Gathered"]:
        """Rows in order of falling counts, so that those computed together waste little."""
        plan, lengths = self.plan, self.plan.offsets_k.diff()
        ragged = self.key_blocks * plan.capacity_k != int(plan.offsets_k[-1])
        counts, order = plan.counts.flatten().sort(descending=True, stable=True)
        indices, known = plan.indices.flatten(0, 2), counts.tolist()
        first = 0
        while first < len(known) and known[first]:
            width = known[first]
            last = first + max(1, _chunk_bytes(plan) // (width * plan.capacity_k * plan.capacity_q * 4))
            rows = order[first:last][counts[first:last] > 0]
            keys = indices[rows, :width].long()
            unused = keys < 0
            keys = keys.masked_fill(unused, 0)
            hidden = None
            if ragged or known[first + len(rows) - 1] < width:
                past = torch.arange(plan.capacity_k, device=keys.device) >= lengths[keys][..., None]
                hidden = (past | unused[..., None]).flatten(1)[:, None]
            yield _Gathered(rows, (keys + rows[:, None] // self.rows * self.key_blocks), hidden)
            first += len(rows)


@dataclass(frozen=True)
class _Gathered:
    """rows [g] of query blocks, keys [g, r] of key blocks, both numbered through all heads."""

    rows: Tensor
    keys: Tensor
    hidden: Tensor | None

    def take_queries(self, blocks: Tensor) -> Tensor:
        return blocks.index_select(0, self.rows)

    def take_keys(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self._take(k), self._take(v)

    def _take(self, blocks: Tensor) -> Tensor:
        wide = torch.promote_types(blocks.dtype, torch.float32)
        gathered = blocks.index_select(0, self.keys.flatten())
        return gathered.view(len(self.rows), -1, blocks.shape[-1]).to(wide)

    def put_queries(self, blocks: Tensor, values: Tensor) -> None:
        blocks.index_copy_(0, self.rows, values.to(blocks.dtype))

    def add_keys(self, blocks: Tensor, values: Tensor) -> None:
        keys, values = self.keys.flatten(), values.to(blocks.dtype).reshape(-1, *blocks.shape[1:])
        if blocks.is_cuda:  # sorts, and adds in a fixed order; index_add_ adds atomically there
            blocks.index_put_((keys,), values, accumulate=True)
        else:
            blocks.index_add_(0, keys, values)


class _Whole:
    """How pieces are cut where most is kept: some query blocks of one head, over all its keys under a mask."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.heads = plan.counts.shape[0] * plan.counts.shape[1]

    def queries(self, *tensors: Tensor) -> list[Tensor]:
        return [x.flatten(0, 1) for x in tensors]

    keys = queries

    def tokens_q(self, rows: Tensor, like: Tensor) -> Tensor:
        return rows.view(*like.shape[:3], rows.shape[-1])

    tokens_k = tokens_q

    def pieces(self) -> Iterator["_Span"]:
        from reelwright.kernels.lists import BlockLists

        plan, lengths = self.plan, self.plan.offsets_k.diff()
        kept = BlockLists(plan.indices, plan.counts).mask(lengths.numel()).flatten(0, 1)
        owner = torch.arange(lengths.numel(), device=lengths.device).repeat_interleave(lengths)
        budget = max(1, _chunk_bytes(plan) // (4 * owner.numel() * plan.capacity_q))  # query blocks
        offsets = plan.offsets_q.tolist()
        firsts = [*range(0, len(offsets) - 1, budget), len(offsets) - 1]
        for head in range(self.heads):
            for first, last in pairwise(firsts):
                shown = kept[head, first:last]
                hidden = None
                if not shown.all():
                    each = plan.offsets_q[first : last + 1].diff()
                    hidden = ~shown[:, owner].repeat_interleave(each, dim=0)[None]
                yield _Span(head, offsets[first], offsets[last], hidden)


@dataclass(frozen=True)
class _Span:
    """Queries [first, last) of a head, and all its keys."""

    head: int
    first: int
    last: int
    hidden: Tensor | None

    def take_queries(self, tokens: Tensor) -> Tensor:
        return tokens[self.head, self.first : self.last][None]

    def take_keys(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(k.dtype, torch.float32)
        return k[self.head][None].to(wide), v[self.head][None].to(wide)

    def put_queries(self, tokens: Tensor, values: Tensor) -> None:
        tokens[self.head, self.first : self.last] = values[0].to(tokens.dtype)

    def add_keys(self, tokens: Tensor, values: Tensor) -> None:
        tokens[self.head] += values[0]


def _chunk_bytes(plan: Plan) -> int:
    return GPU_CHUNK_BYTES if plan.indices.is_cuda else CHUNK_BYTES


def _work(plan: Plan) -> _Blocks | _Whole:
    possible = plan.counts.numel() * (plan.offsets_k.numel() - 1)
    return _Whole(plan) if int(plan.counts.sum()) >= DENSE_FROM * possible else _Blocks(plan)


def _to_blocks(x: Tensor, offsets: Tensor, capacity: int) -> Tensor:
    """[B, heads, N, D] -> [B × heads × blocks, capacity, D], zeros past a block's last token."""
    count = offsets.numel() - 1
    x = x.flatten(0, 1)
    if count * capacity == x.shape[1]:
        return x.reshape(x.shape[0] * count, capacity, x.shape[-1])
    blocks = x.new_zeros(x.shape[0], count * capacity, x.shape[-1])
    blocks[:, _places(offsets, capacity)] = x
    return blocks.view(x.shape[0] * count, capacity, x.shape[-1])


def _to_tokens(blocks: Tensor, offsets: Tensor, like: Tensor) -> Tensor:
    capacity, tokens = blocks.shape[1], like.shape[2]
    count = offsets.numel() - 1
    flat = blocks.view(like.shape[0], like.shape[1], count * capacity, blocks.shape[-1])
    if count * capacity != tokens:
        flat = flat[:, :, _places(offsets, capacity)]
    return flat


def _places(offsets: Tensor, capacity: int) -> Tensor:
    """Where each token lies among blocks of `capacity`."""
    lengths = offsets.diff()
    starts = torch.arange(lengths.numel(), device=offsets.device) * capacity - offsets[:-1]
    return torch.arange(int(offsets[-1]), device=offsets.device) + starts.repeat_interleave(lengths)
