"""Context parallelism: the ranks of a group share a sample, each computing a part of each frame of its token grid.

A part has all frames, so that a rank's condition tokens come first, as in the whole. Only self-attention sees more than
the part: by all-to-all over heads (Ulysses, Jacobs et al., 2023), or by a ring (`training.distributed.ring`).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch._guards import active_fake_mode
from torch.distributed import ProcessGroup, all_reduce
from torch.distributed._functional_collectives import all_to_all_single_autograd, wait_tensor

from reelwright.kernels.attention import permuted
from reelwright.kernels.blocks import REMEMBERED, BlockGrid, constant_for_compile
from reelwright.model.attention import Attend, Layout, dense_attention, set_attention
from reelwright.training.batch import B, Batch, Strip, TokenStrip
from reelwright.training.distributed.partial_attention import piece_backend, whole_backend
from reelwright.training.distributed.strips import Strips, TokenStrips, attention_types
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ParallelConfig, TrainRecipe

STRIPS = "context_strips"
"""Attribute of a DiT: the strips that its attention uses, of the batch shared last."""


class ContextParallel:
    """Deals out the frames of batches to the ranks of a context group."""

    def __init__(self, strips: Strips | TokenStrips) -> None:
        self.strips = strips

    def share(self, batch: B, patch: tuple[int, int, int]) -> B:
        """Return the batch with the part of each frame that this rank computes; the attention uses it until the next.

        Args:
            batch: latents [B, C, T, H, W], whole on every rank.
            patch: latent frames, rows and columns of a token.
        """
        height, width = batch.latents.shape[3:]
        return replace(batch, strip=self.strips.divide(height // patch[1], width // patch[2]))


def share_again(model: nn.Module, batch: Batch, patch: tuple[int, int, int]) -> None:
    """Let a DiT's attention use the strips of a batch that was shared before others; no effect where ranks share none.

    Args:
        model: whose attention `context_parallel` has set.
        batch: that `ContextParallel.share` returned.
        patch: latent frames, rows and columns of a token.
    """
    strips = getattr(model, STRIPS, None)
    if batch.strip is not None and strips is not None:
        ContextParallel(strips).share(batch, patch)


def share_by(model: nn.Module, batch: B, patch: tuple[int, int, int]) -> B:
    """Return a batch with the part that this rank computes, by the strips of a DiT's attention; without, unchanged."""
    strips = getattr(model, STRIPS, None)
    return batch if strips is None else ContextParallel(strips).share(batch, patch)


def joined(
    part: Tensor, strip: Strip | TokenStrip, sides: tuple[int, int], patch: tuple[int, int, int], group: ProcessGroup
) -> Tensor:
    """Return whole latents [..., H, W] on every rank of a context group from the parts that strips cut.

    Args:
        part: this rank's, as `Strip.cut` returned it.
        strip: where it lies.
        sides: (H, W).
        patch: latent frames, rows and columns of a token.
        group: the ranks that have the other parts.
    """
    places = strip.cut(torch.arange(sides[0] * sides[1]).view(sides), patch).flatten().to(part.device)
    whole = part.new_zeros(*part.shape[:-2], sides[0] * sides[1])
    whole[..., places] = part.flatten(-2)
    all_reduce(whole, group=group)
    return whole.unflatten(-1, sides)


def context_parallel(
    model: nn.Module, parallel: ParallelConfig, world: World, inner: Attend = dense_attention
) -> ContextParallel | None:
    """Set the attention of a DiT to the recipe's form of context parallelism; None where each rank has its own samples.

    inner: the attention of a rank, dense or a `SparseAttention` (which a ring changes). TrainError where Ulysses cannot
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
    if parallel.context_form == "ulysses":
        tokens = TokenStrips(group, world.context_rank, world.context_size)
        setattr(model, STRIPS, tokens)
        set_attention(model, UlyssesAttention(tokens, inner))
        return ContextParallel(tokens)
    rows = Strips(group, world.context_rank, world.context_size)
    setattr(model, STRIPS, rows)
    set_attention(model, ring_attention(rows, inner))
    return ContextParallel(rows)


def attention_kernel(recipe: TrainRecipe, world: World) -> str:
    """Name the kernel of a run's dense attention on its device: a ring's pieces have their own choice."""
    dtype = torch.bfloat16 if recipe.compute.precision == "bf16" else torch.float32
    ring = recipe.parallel.context > 1 and recipe.parallel.context_form == "ring"
    name = (piece_backend if ring else whole_backend)(world.device, dtype, recipe.model.head_dim)
    return f"{name}, in a ring" if ring else name


class UlyssesAttention:
    """An `Attend`: from parts of frames with all heads to whole samples with some heads, and back afterwards.

    v travels while q and k are normed and turned; q and k travel together. What arrives is put into the order that the
    inner attention wants (blocks, or (t, h, w)) by one gather, so a part need not be cut between blocks.
    q, k, v [B, heads, N of the part, D]; v may be what `send` returned.
    """

    def __init__(self, strips: TokenStrips, inner: Attend = dense_attention) -> None:
        self.strips, self.inner = strips, inner

    def send(self, v: Tensor) -> Tensor:
        """Begin the values' way: [B, heads, N of the part, D] -> [N, 1, B, heads / size, D], to be waited for."""
        return self._send([attention_types(v, v, v)[2]])

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """Attend to the whole sample: each rank takes some heads of all tokens, and gives back its strip."""
        rows, columns = self.strips.grid
        whole = replace(layout, rows=rows, columns=columns)
        arrange = getattr(self.inner, "arrange", None)
        whole = whole if arrange is None else arrange(whole)
        v = v if v.ndim == 5 else self.send(v)
        q, k, _ = attention_types(q, k, v)
        order_q, order_k = self._orders(whole, q.device)
        together = [[q, k]] if layout.query_frames == layout.frames else [[q], [k]]
        sent = [self._send(parts) for parts in together]
        orders = [order_q, order_k][: len(sent)]
        queries, keys = (x for parts, order in zip(sent, orders, strict=True) for x in self._arrived(parts, order))
        (values,) = self._arrived(v, order_k)
        out = self.inner(queries, keys, values, whole)
        return self._send_back(out, order_q)

    def _orders(self, whole: Layout, device: torch.device) -> tuple["Order", "Order"]:
        shares = self.strips.tokens
        if whole.block is None:
            return (exchange_order(whole.query_frames, shares, None, str(device)),
                    exchange_order(whole.frames, shares, None, str(device)))  # fmt: skip
        queries, keys = whole.grids
        return (exchange_order(whole.query_frames, shares, _plain(queries), str(device)),
                exchange_order(whole.frames, shares, _plain(keys), str(device)))  # fmt: skip

    def _send(self, parts: Sequence[Tensor]) -> Tensor:
        """P tensors [B, heads, N of the part, D] -> [N, P, B, heads / size, D], a rank's tokens after another's."""
        strips, size = self.strips, self.strips.size
        n = parts[0].shape[2]
        frames = n // strips.tokens[strips.rank]
        by_rank = [x.unflatten(1, (size, -1)).permute(1, 3, 0, 2, 4) for x in parts]
        message = torch.stack(by_rank, dim=2).flatten(0, 1)
        return all_to_all_single_autograd(message, [frames * t for t in strips.tokens], [n] * size, strips.group)

    def _arrived(self, sent: Tensor, order: "Order") -> list[Tensor]:
        """Wait for the tensors that `_send` began, in its order: P tensors [B, heads / size, N, D]."""
        return list(permuted(wait_tensor(sent), *order, 0).permute(1, 2, 3, 0, 4).unbind(0))

    def _send_back(self, x: Tensor, order: "Order") -> Tensor:
        """[B, heads / size, N, D] -> [B, heads, N of the part, D]."""
        strips = self.strips
        frames = x.shape[2] // sum(strips.tokens)
        n = frames * strips.tokens[strips.rank]
        message = permuted(x.permute(2, 0, 1, 3), order[1], order[0], 0)
        taken = [n] * strips.size
        came = wait_tensor(
            all_to_all_single_autograd(message, taken, [frames * t for t in strips.tokens], strips.group)
        )
        return came.unflatten(0, (strips.size, n)).permute(2, 0, 3, 1, 4).flatten(1, 2)


Order = tuple[Tensor, Tensor]
"""Places in the message, a rank's tokens after another's, of the tokens as they are wanted; and the inverse."""
Blocks = tuple[tuple[int, int, int], tuple[int, int, int], int, tuple[int, int, int] | None]
"""A `BlockGrid`'s fields, which a compiler takes for constants."""


@constant_for_compile
def exchange_order(frames: int, shares: tuple[int, ...], blocks: Blocks | None, device: str) -> Order:
    """Return where each token of the whole lies among those that ranks send, and the inverse; int64 [N] each.

    Args:
        frames: of the grid.
        shares: tokens of each frame, by rank.
        blocks: of the order that is wanted; None: (t, h, w).
        device: of the tensors.
    """
    if active_fake_mode() is not None:  # tensors without storage are not to be remembered
        return _exchange_order(frames, shares, blocks, device)
    return _remembered_order(frames, shares, blocks, device)


def _exchange_order(frames: int, shares: tuple[int, ...], blocks: Blocks | None, device: str) -> Order:
    first, parts = 0, []
    for share in shares:
        parts.append(frames * first + share * torch.arange(frames)[:, None] + torch.arange(share))
        first += share
    order = torch.cat(parts, dim=1).flatten()
    if blocks is not None:
        order = order[BlockGrid(*blocks).order()]
    return order.to(device), order.argsort().to(device)


@lru_cache(maxsize=REMEMBERED)
def _remembered_order(frames: int, shares: tuple[int, ...], blocks: Blocks | None, device: str) -> Order:
    with torch.inference_mode(False), torch.device("cpu"):
        return _exchange_order(frames, shares, blocks, device)


def _plain(grid: BlockGrid) -> Blocks:
    return grid.grid, grid.block, grid.split, grid.other
