"""Context parallelism: the ranks of a group share a sample, each computing a strip of rows of its token grid.

A strip has all frames, so that a rank's condition tokens come first, as in the whole. Only self-attention sees more
than the strip: by all-to-all over heads (Ulysses, Jacobs et al., 2023), or by a ring (`training.distributed.ring`).
"""

import math
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_to_all_single_autograd, wait_tensor

from reelwright.model.attention import Attend, Layout, dense_attention, set_attention
from reelwright.model.sparse import SparseAttention
from reelwright.training.batch import B
from reelwright.training.distributed.strips import Strips, attention_types
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ParallelConfig


class ContextParallel:
    """Deals out the rows of batches to the ranks of a context group."""

    def __init__(self, strips: Strips) -> None:
        self.strips = strips

    def share(self, batch: B, patch: tuple[int, int, int]) -> B:
        """Return the batch with the strip of token rows that this rank computes; the attention uses it until the next.

        Args:
            batch: latents [B, C, T, H, W], whole on every rank.
            patch: latent frames, rows and columns of a token.
        """
        return replace(batch, strip=self.strips.divide(batch.latents.shape[3] // patch[1]))


def context_parallel(
    model: nn.Module, parallel: ParallelConfig, world: World, inner: Attend = dense_attention
) -> ContextParallel | None:
    """Set the attention of a DiT to the recipe's form of context parallelism; None where each rank has its own samples.

    inner: what a rank computes by, dense or a `SparseAttention` (which a ring changes). TrainError where Ulysses cannot
    divide the heads. Call it before or after `parallelize`.
    """
    from reelwright.training.distributed.ring import ring_attention

    group = world.context_group
    if group is None:
        return None
    heads = model.config.num_heads
    if parallel.context_form == "ulysses" and heads % world.context_size:
        raise TrainError(
            f"parallel.context {world.context_size} does not divide the model's {heads} heads; "
            "choose a divisor, or parallel.context_form: ring"
        )
    strips = Strips(group, world.context_rank, world.context_size)
    attend = UlyssesAttention(strips, inner) if parallel.context_form == "ulysses" else ring_attention(strips, inner)
    set_attention(model, attend)
    return ContextParallel(strips)


class UlyssesAttention:
    """An `Attend`: from strips with all heads to whole samples with some heads, and back after the inner attention.

    The inner attention sees the whole token grid in its order, so any will do: in block order too, a strip's runs of
    frames are parts of the whole's, if strips are cut between blocks. q, k, v [B, heads, N of the strip, D].
    """

    def __init__(self, strips: Strips, inner: Attend = dense_attention) -> None:
        self.strips, self.inner = strips, inner
        if isinstance(inner, SparseAttention):
            strips.multiple = max(high for _, high, _ in inner.block)

    def arrange(self, layout: Layout) -> Layout:
        """As the inner attention wants it, of strips that are cut between blocks."""
        arrange = getattr(self.inner, "arrange", None)
        return arrange(layout) if arrange and self.strips.even else layout

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        whole = replace(layout, rows=sum(self.strips.rows))
        queries, keys = ([d * layout.columns for d in depths] for depths in layout.depths)
        q, k, v = attention_types(q, k, v)
        out = self.inner(self._gather(q, queries), self._gather(k, keys), self._gather(v, keys), whole)
        return self._scatter(out, queries)

    def _gather(self, x: Tensor, runs: list[int]) -> Tensor:
        """[B, heads, N of the strip, D] → [B, heads / size, N, D]. runs: tokens of each run of frames, of a row."""
        strips = self.strips
        batch, heads, _, dim = x.shape
        send = x.unflatten(1, (strips.size, heads // strips.size)).movedim(1, 0)
        sizes = [[batch, heads // strips.size, rows * sum(runs), dim] for rows in strips.rows]
        taken = _exchange(list(send), sizes, strips.group)
        parts = [part.split([run * rows for run in runs], dim=2) for part, rows in zip(taken, strips.rows, strict=True)]
        return torch.cat([piece for run in zip(*parts, strict=True) for piece in run], dim=2)

    def _scatter(self, x: Tensor, runs: list[int]) -> Tensor:
        """[B, heads / size, N, D] → [B, heads, N of the strip, D]."""
        strips = self.strips
        pieces = x.split([run * rows for run in runs for rows in strips.rows], dim=2)
        send = [torch.cat(pieces[rank :: strips.size], dim=2) for rank in range(strips.size)]
        return torch.cat(_exchange(send, [list(send[strips.rank].shape)] * strips.size, strips.group), dim=1)


def _exchange(send: list[Tensor], sizes: list[list[int]], group: dist.ProcessGroup) -> list[Tensor]:
    """Piece r goes to rank r of the group; what comes back is of `sizes`, one from each rank."""
    flat = torch.cat([piece.reshape(-1) for piece in send])
    given, taken = [piece.numel() for piece in send], [math.prod(size) for size in sizes]
    received = wait_tensor(all_to_all_single_autograd(flat, taken, given, group))
    return [piece.view(size) for piece, size in zip(received.split(taken), sizes, strict=True)]
