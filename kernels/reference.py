"""Block-sparse attention in plain PyTorch, for any device and type: batched products over gathered key blocks.

Query blocks with equal counts are computed together, a bounded number at a time, in fp32 (fp64 for fp64). Where most
blocks are kept, gathering costs more than it saves: then all keys are used under a mask. Both tilings share their
arithmetic. Queries, keys and values are [B, heads, N, D] in block order; B × heads is one axis below.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from reelwright.kernels.call import BlockSparseCall, acc_dtype, lse_dtype
from reelwright.kernels.lists import BlockLists

CHUNK_BYTES = 4 << 20
"""Bytes of scores per piece: they are fastest in a core's cache, and the gathered keys grow with them."""
GPU_CHUNK_BYTES = 256 << 20
"""Bytes of scores per piece on a GPU: each piece is some ten launches."""
EXACT_TO = 16.0
"""Largest fp32 score that is computed in fp32: beyond it the last digit alone would cost a weight more than 2e-6."""
DENSE_FROM = 0.6
"""Share of kept pairs from which all keys under a mask are faster than gathered ones (2 cores, D = 128)."""


def forward(q: Tensor, k: Tensor, v: Tensor, call: BlockSparseCall) -> tuple[Tensor, Tensor]:
    """Compute attention.

    Args:
        q: [B, heads, Nq, D].
        k: [B, heads, Nk, D].
        v: [B, heads, Nk, D].
        call: lists and blocks.

    Returns:
        out [B, heads, Nq, D] and the log-sum-exp [B, heads, Nq] of `lse_dtype`; 0 and -inf for rows without blocks.
    """
    tiling = choose_tiling(call)
    q_rows = tiling.split_queries(q)
    k_rows = tiling.split_keys(k)
    v_rows = tiling.split_keys(v)
    out = torch.zeros_like(q_rows)
    lse = q_rows.new_full((*q_rows.shape[:2], 1), -torch.inf, dtype=lse_dtype(q.dtype))
    for piece in tiling.pieces():
        tile = piece.take_queries(q_rows), piece.take_keys(k_rows), piece.take_keys(v_rows)
        out_tile, lse_tile = softmax_forward(*tile, piece.hidden, call.scale)
        piece.put_queries(out, out_tile)
        piece.put_queries(lse, lse_tile)
    return tiling.join_queries(out, q), tiling.join_queries(lse, q).squeeze(-1)


def delta(grad: Tensor, out: Tensor) -> Tensor:
    """Sum grad · out over D: [B, heads, Nq, D] twice -> [B, heads, Nq] of `acc_dtype`."""
    dtype = acc_dtype(out.dtype)
    return (grad.to(dtype) * out.to(dtype)).sum(-1)


def backward(
    grad: Tensor, delta: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Tensor, call: BlockSparseCall
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of q, k and v.

    Args:
        grad: [B, heads, Nq, D], the gradient of out.
        delta: [B, heads, Nq], `delta` less the log-sum-exp's gradient.
        q: as in `forward`, and so are k and v.
        k: [B, heads, Nk, D].
        v: [B, heads, Nk, D].
        lse: [B, heads, Nq], of the forward pass.
        call: lists and blocks.
    """
    tiling = choose_tiling(call)
    q_rows = tiling.split_queries(q)
    grad_rows = tiling.split_queries(grad)
    lse_rows = tiling.split_queries(lse.masked_fill(lse == -torch.inf, 0)[..., None])
    delta_rows = tiling.split_queries(delta[..., None])
    k_rows = tiling.split_keys(k)
    v_rows = tiling.split_keys(v)
    dq, dk, dv = (torch.zeros_like(x, dtype=acc_dtype(q.dtype)) for x in (q_rows, k_rows, v_rows))
    for piece in tiling.pieces():
        tile = _Tile(
            q=piece.take_queries(q_rows),
            grad=piece.take_queries(grad_rows),
            lse=piece.take_queries(lse_rows),
            delta=piece.take_queries(delta_rows),
            k=piece.take_keys(k_rows),
            v=piece.take_keys(v_rows),
            hidden=piece.hidden,
        )
        dq_tile, dk_tile, dv_tile = softmax_backward(tile, call.scale)
        piece.put_queries(dq, dq_tile)
        piece.add_keys(dk, dk_tile)
        piece.add_keys(dv, dv_tile)
    return (
        tiling.join_queries(dq, q).to(q.dtype),
        tiling.join_keys(dk, k).to(k.dtype),
        tiling.join_keys(dv, v).to(v.dtype),
    )


def too_large(scores: Tensor, q: Tensor) -> bool:
    """Tell whether fp32 queries have scores, or log-sum-exps of them, too far from 0 for fp32; -inf is hidden."""
    return q.dtype == torch.float32 and bool((scores.abs() > EXACT_TO).logical_and_(scores > -torch.inf).any())


# --- arithmetic of one piece: g groups of n queries and m keys ------------------------------------------------------


class _Tile(NamedTuple):
    """Input of one piece's backward pass: q, grad [g, n, D], lse, delta [g, n, 1], k and v [g, m, D] in acc_dtype."""

    q: Tensor
    grad: Tensor
    lse: Tensor
    delta: Tensor
    k: Tensor
    v: Tensor
    hidden: Tensor | None


def softmax_forward(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Attend within one piece.

    Args:
        q: [g, n, D].
        k: [g, m, D] in `acc_dtype`.
        v: [g, m, D] in `acc_dtype`.
        hidden: bool [g, n or 1, m], keys that are not seen; None: all are.
        scale: factor of the scores.

    Returns:
        out [g, n, D] and the log-sum-exp [g, n, 1].
    """
    p = _scores(q, k, hidden, scale)
    m_i = p.amax(-1, keepdim=True)
    if too_large(m_i, q):
        out, lse = softmax_forward(q.double(), k.double(), v.double(), hidden, scale)
        return out.float(), lse
    m_i.clamp_(min=torch.finfo(p.dtype).min)
    p.sub_(m_i).exp_()
    l_i = p.sum(-1, keepdim=True)
    out = (p @ v).div_(l_i.clamp(min=torch.finfo(l_i.dtype).tiny))
    return out, l_i.to(lse_dtype(q.dtype)).log().add_(m_i)


def softmax_backward(tile: _Tile, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Compute one piece's gradients of q [g, n, D], k [g, m, D] and v [g, m, D] (Dao, FlashAttention-2, 2023)."""
    q, grad, lse, delta, k, v, hidden = tile
    if too_large(lse, q):
        q, k, v = q.double(), k.double(), v.double()
    p = _scores(q, k, hidden, scale)
    grad, lse, delta = (x.to(p.dtype) for x in (grad, lse, delta))
    p.sub_(lse).exp_()
    dv = p.mT @ grad
    ds = (grad @ v.mT).sub_(delta).mul_(p)
    return (ds @ k).mul_(scale), ds.mT @ q.to(k.dtype).mul(scale), dv


def _scores(q: Tensor, k: Tensor, hidden: Tensor | None, scale: float) -> Tensor:
    scores = q.to(k.dtype).mul(scale) @ k.mT
    return scores if hidden is None else scores.masked_fill_(hidden, -torch.inf)


# --- tilings: how the work is cut into pieces -----------------------------------------------------------------------


class Piece(Protocol):
    """Queries and keys that are computed at once.

    Attributes:
        hidden: bool [g, n or 1, m], keys that are not seen; None: all are.
    """

    @property
    def hidden(self) -> Tensor | None:
        """Keys that are not seen, bool [g, n or 1, m]; None: all are."""

    def take_queries(self, rows: Tensor) -> Tensor:
        """Return this piece's rows [g, n, D] of a tiling's query rows."""

    def take_keys(self, rows: Tensor) -> Tensor:
        """Return this piece's rows [g, m, D] of a tiling's key rows, in `acc_dtype`."""

    def put_queries(self, rows: Tensor, values: Tensor) -> None:
        """Write values [g, n, D] to this piece's query rows, which no other piece has."""

    def add_keys(self, rows: Tensor, values: Tensor) -> None:
        """Add values [g, m, D] to this piece's key rows, in a fixed order."""


class Tiling(Protocol):
    """A way to cut a call into pieces, and the layout of the rows that its pieces take from."""

    def split_queries(self, tokens: Tensor) -> Tensor:
        """Lay [B, heads, Nq, D] out in rows."""

    def split_keys(self, tokens: Tensor) -> Tensor:
        """Lay [B, heads, Nk, D] out in rows."""

    def join_queries(self, rows: Tensor, like: Tensor) -> Tensor:
        """Undo `split_queries`; like: a tensor of the tokens' shape, D apart."""

    def join_keys(self, rows: Tensor, like: Tensor) -> Tensor:
        """Undo `split_keys`."""

    def pieces(self) -> Iterator[Piece]:
        """Yield every query row that has keys, once."""


def choose_tiling(call: BlockSparseCall) -> Tiling:
    """Return the faster tiling for the share of pairs that a call keeps."""
    pairs = call.counts.numel() * call.key_blocks
    return MaskTiling(call) if int(call.counts.sum()) >= DENSE_FROM * pairs else GatherTiling(call)


class GatherTiling:
    """Some query blocks, of any heads, each over the key blocks of its list.

    Rows are [B × heads × blocks, capacity, D]: a query block and its gathered keys are one entry of a batched product.
    """

    def __init__(self, call: BlockSparseCall) -> None:
        self.call = call
        self.query_blocks = call.counts.shape[-1]
        self.lengths_k = call.offsets_k.diff()
        self.ragged_k = call.key_blocks * call.capacity_k != int(call.offsets_k[-1])

    def split_queries(self, tokens: Tensor) -> Tensor:
        """Return query blocks of all heads, [B × heads × blocks, capacity, D]."""
        return _to_blocks(tokens, self.call.offsets_q, self.call.capacity_q)

    def split_keys(self, tokens: Tensor) -> Tensor:
        """Return key blocks of all heads, [B × heads × blocks, capacity, D]."""
        return _to_blocks(tokens, self.call.offsets_k, self.call.capacity_k)

    def join_queries(self, rows: Tensor, like: Tensor) -> Tensor:
        """Return query blocks in the order of tokens, in the shape of `like`."""
        return _to_tokens(rows, self.call.offsets_q, like)

    def join_keys(self, rows: Tensor, like: Tensor) -> Tensor:
        """Return key blocks in the order of tokens, in the shape of `like`."""
        return _to_tokens(rows, self.call.offsets_k, like)

    def pieces(self) -> Iterator[Piece]:
        """Take query blocks in order of falling counts, so that those computed together waste little."""
        call = self.call
        counts, order = call.counts.flatten().sort(descending=True, stable=True)
        indices = call.indices.flatten(0, 2)
        widths = counts.tolist()
        first = 0
        while first < len(widths) and widths[first]:
            width = widths[first]
            last = first + max(1, _chunk_bytes(call) // (width * call.capacity_k * call.capacity_q * 4))
            blocks = order[first:last][counts[first:last] > 0]
            keys = indices[blocks, :width].long()
            hidden = self._hidden(keys, even=widths[first + len(blocks) - 1] == width)
            first_of_head = blocks[:, None] // self.query_blocks * call.key_blocks
            yield _GatheredPiece(blocks, keys.clamp(min=0) + first_of_head, hidden)
            first += len(blocks)

    def _hidden(self, keys: Tensor, *, even: bool) -> Tensor | None:
        """Hide tokens past a short block's end and, unless all lists are `even`, those of unused entries (-1)."""
        if even and not self.ragged_k:
            return None
        lengths = self.lengths_k[keys.clamp(min=0)]
        past_end = torch.arange(self.call.capacity_k, device=keys.device) >= lengths[..., None]
        return (past_end | (keys < 0)[..., None]).flatten(1)[:, None]


@dataclass(frozen=True)
class _GatheredPiece:
    """Query blocks [g] and their key blocks [g, r], both numbered through all heads."""

    query_blocks: Tensor
    key_blocks: Tensor
    hidden: Tensor | None

    def take_queries(self, rows: Tensor) -> Tensor:
        return rows.index_select(0, self.query_blocks)

    def take_keys(self, rows: Tensor) -> Tensor:
        gathered = rows.index_select(0, self.key_blocks.flatten())
        return gathered.view(len(self.query_blocks), -1, rows.shape[-1]).to(acc_dtype(rows.dtype))

    def put_queries(self, rows: Tensor, values: Tensor) -> None:
        rows.index_copy_(0, self.query_blocks, values.to(rows.dtype))

    def add_keys(self, rows: Tensor, values: Tensor) -> None:
        blocks = self.key_blocks.flatten()
        values = values.to(rows.dtype).reshape(-1, *rows.shape[1:])
        if rows.is_cuda:  # sorts, and adds in a fixed order; index_add_ adds atomically there
            rows.index_put_((blocks,), values, accumulate=True)
        else:
            rows.index_add_(0, blocks, values)


class MaskTiling:
    """Some query blocks of one head over all its keys, under a mask. Rows are [B × heads, N, D]."""

    def __init__(self, call: BlockSparseCall) -> None:
        self.call = call

    def split_queries(self, tokens: Tensor) -> Tensor:
        """Return the queries of all heads, [B × heads, N, D]."""
        return tokens.flatten(0, 1)

    def split_keys(self, tokens: Tensor) -> Tensor:
        """Return the keys of all heads, [B × heads, N, D]."""
        return tokens.flatten(0, 1)

    def join_queries(self, rows: Tensor, like: Tensor) -> Tensor:
        """Return rows of queries in the shape of `like`, [B, heads, N, D]."""
        return rows.view(*like.shape[:3], rows.shape[-1])

    def join_keys(self, rows: Tensor, like: Tensor) -> Tensor:
        """Return rows of keys in the shape of `like`, [B, heads, N, D]."""
        return rows.view(*like.shape[:3], rows.shape[-1])

    def pieces(self) -> Iterator[Piece]:
        """Yield some query blocks of one head at a time, with all its keys and the mask of its lists."""
        call = self.call
        lengths_k = call.offsets_k.diff()
        kept = BlockLists(call.indices, call.counts).mask(call.key_blocks).flatten(0, 1)
        owner = torch.arange(call.key_blocks, device=kept.device).repeat_interleave(lengths_k)
        step = max(1, _chunk_bytes(call) // (4 * owner.numel() * call.capacity_q))  # query blocks
        offsets = call.offsets_q.tolist()
        firsts = [*range(0, len(offsets) - 1, step), len(offsets) - 1]
        for head in range(kept.shape[0]):
            for first, last in pairwise(firsts):
                seen = kept[head, first:last]
                hidden = None
                if not seen.all():
                    lengths_q = call.offsets_q[first : last + 1].diff()
                    hidden = ~seen[:, owner].repeat_interleave(lengths_q, dim=0)[None]
                yield _SpanPiece(head, offsets[first], offsets[last], hidden)


@dataclass(frozen=True)
class _SpanPiece:
    """Queries [first, last) of one head, and all its keys."""

    head: int
    first: int
    last: int
    hidden: Tensor | None

    def take_queries(self, rows: Tensor) -> Tensor:
        return rows[self.head, self.first : self.last][None]

    def take_keys(self, rows: Tensor) -> Tensor:
        return rows[self.head][None].to(acc_dtype(rows.dtype))

    def put_queries(self, rows: Tensor, values: Tensor) -> None:
        rows[self.head, self.first : self.last] = values[0].to(rows.dtype)

    def add_keys(self, rows: Tensor, values: Tensor) -> None:
        rows[self.head] += values[0]


def _chunk_bytes(call: BlockSparseCall) -> int:
    return GPU_CHUNK_BYTES if call.indices.is_cuda else CHUNK_BYTES


def _to_blocks(tokens: Tensor, offsets: Tensor, capacity: int) -> Tensor:
    """Pad blocks: [B, heads, N, D] -> [B × heads × blocks, capacity, D], zeros past a block's last token."""
    count = offsets.numel() - 1
    tokens = tokens.flatten(0, 1)
    if count * capacity == tokens.shape[1]:
        return tokens.reshape(tokens.shape[0] * count, capacity, tokens.shape[-1])
    blocks = tokens.new_zeros(tokens.shape[0], count * capacity, tokens.shape[-1])
    blocks[:, _padded_places(offsets, capacity)] = tokens
    return blocks.view(tokens.shape[0] * count, capacity, tokens.shape[-1])


def _to_tokens(blocks: Tensor, offsets: Tensor, like: Tensor) -> Tensor:
    """Undo `_to_blocks`; like [B, heads, N, any]."""
    capacity, tokens = blocks.shape[1], like.shape[2]
    count = offsets.numel() - 1
    flat = blocks.view(like.shape[0], like.shape[1], count * capacity, blocks.shape[-1])
    if count * capacity != tokens:
        flat = flat[:, :, _padded_places(offsets, capacity)]
    return flat


def _padded_places(offsets: Tensor, capacity: int) -> Tensor:
    """Return each token's place among padded blocks.

    Blocks of 3, 4 and 2 tokens, capacity 4:

        tokens   0 1 2   3 4 5 6   7 8
        places   0 1 2 . 4 5 6 7   8 9 . .
    """
    lengths = offsets.diff()
    starts = torch.arange(lengths.numel(), device=offsets.device) * capacity - offsets[:-1]
    return torch.arange(int(offsets[-1]), device=offsets.device) + starts.repeat_interleave(lengths)
