"""A rank's network and its micro-batches by the trainer's own code, on tensors without storage and absent ranks.

Within FakeTensorMode nothing is computed or allocated; outside it, this is a real pass over empty tensors.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reelwright.kernels.blocks import BlockGrid
from reelwright.model.attention import Layout, dense_attention, set_attention
from reelwright.model.config import AttentionConfig
from reelwright.model.dit import DiT
from reelwright.model.sparse import SparseAttention
from reelwright.model.text import PackedText
from reelwright.training.adapters import adapt_all, blocks_to_bf16
from reelwright.training.batch import Batch, Draws, PairBatch, Task
from reelwright.training.distributed.context import context_parallel
from reelwright.training.distributed.parallel import accumulate, autocast, parallelize
from reelwright.training.distributed.world import World, start
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ParallelConfig, TrainRecipe


@dataclass(frozen=True)
class Shape:
    """A micro-batch, whole in space. latent: (frames, rows, columns); cond_frames: of them, clean ones."""

    batch: int
    latent: tuple[int, int, int]
    cond_frames: int = 0


@contextmanager
def made_up_ranks(parallel: ParallelConfig, size: int) -> Iterator[World]:
    """Rank 0 of a run of `size` ranks that are not there: collectives give tensors of the right shapes.

    Raises:
        TrainError: this process is a rank of a real run.
    """
    if size == 1:
        yield World.alone("cpu")
        return
    if dist.is_initialized():
        raise TrainError("ranks cannot be made up in a process that is a rank of a run; plan in a process of its own")
    from torch.testing._internal.distributed.fake_pg import FakeStore

    told = sys.excepthook  # a process group puts its rank before every line of later errors
    dist.init_process_group("fake", rank=0, world_size=size, store=FakeStore())
    try:
        yield start(parallel, device="cpu")
    finally:
        dist.destroy_process_group()
        sys.excepthook = told


@dataclass
class TracedRun:
    """Rank 0's network and how to compute a micro-batch on it.

    world: of the run; where `sharded` is false, of the context group alone, and weights are whole. half: the blocks'
    weights are bf16 when they are used, as FSDP2 gathers them on GPUs.
    """

    recipe: TrainRecipe
    world: World
    shape: Shape
    sharded: bool = True
    half: bool = False
    model: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.compute = recipe.compute.model_copy(update={"compile": False})
        self.model = DiT(recipe.model)
        if recipe.lora:
            adapt_all(self.model, recipe)
        if self.half and not self.sharded:
            blocks_to_bf16(self.model)
        of_weights = self.world if self.sharded else World.alone("cpu")
        parallelize(
            self.model, recipe.parallel, self.compute, of_weights, half=self.half, regions=recipe.in_regions
        )  # fmt: skip
        attention = shaped_attention(recipe.attention)
        set_attention(self.model, attention)
        self.context = context_parallel(self.model, _traceable(recipe), self.world, attention)
        self.objective = recipe.objective.build(self.model, recipe, self.world)

    def micro_batch(self, *, last: bool = True) -> None:
        """Compute forward and backward pass of one micro-batch. last: of its step."""
        accumulate(self.model, self.recipe.parallel, last=last)
        batch = self.batch()
        if self.context:
            batch = self.context.share(batch, self.recipe.model.patch_size)
        with autocast(self.compute, torch.device("cpu")):
            loss = self.objective.loss(batch).total
        loss.backward()

    def batch(self) -> Batch:
        """Make an empty batch, with captions of the recipe's longest."""
        num, config = self.shape.batch, self.recipe.model
        size, tokens = (num, config.in_channels, *self.shape.latent), self.recipe.text.tokens
        states = torch.empty(num * tokens, config.caption_channels)
        draws = Draws(torch.empty(num, dtype=torch.float64), torch.empty(num, size[2]), torch.empty(size))
        task: Task = "i2v" if self.shape.cond_frames else "t2v"
        batch = Batch(
            torch.empty(size), PackedText(states, torch.full((num,), tokens), tokens), task, self.shape.cond_frames,
            list(range(num)), [""] * num, num, step=0, micro=0, draws=draws,
        )  # fmt: skip
        return PairBatch.of(batch, torch.empty(size)) if self.recipe.data.pair else batch


def _traceable(recipe: TrainRecipe) -> ParallelConfig:
    """Return the layout to trace: Ulysses in place of a ring of sparse attention, which chooses blocks by numbers.

    Ulysses' strips hold as much.
    """
    sparse_ring = recipe.parallel.context_form == "ring" and recipe.attention.form == "sparse"
    return recipe.parallel.model_copy(update={"context_form": "ulysses"}) if sparse_ring else recipe.parallel


def shaped_attention(config: AttentionConfig) -> Callable[..., Tensor]:
    """Return a recipe's attention for tensors without storage.

    The choice of blocks follows from numbers that do not exist here, so lists of the right size stand for them.
    """
    return dense_attention if config.form == "dense" else _Shaped(config, sparse=partial(_shaped, config))


class _Shaped(SparseAttention):
    """In (t, h, w) order: blocks have the same sizes in any."""

    def arrange(self, layout: Layout) -> Layout:
        return layout


def _shaped(config: AttentionConfig, q: Tensor, k: Tensor, v: Tensor, **call: Any) -> Tensor:
    """`kernels.block_sparse_attention` without choosing blocks."""
    import reelwright.kernels.operator  # noqa: F401  # it makes the operator known

    (of_q, of_k), clean = call["block"], call["cond_frames"]
    rows, columns = (
        BlockGrid(grid, block, clean).count for grid, block in ((call["grid_q"], of_q), (call["grid_k"], of_k))
    )
    width = columns if config.cdf is not None else max(1, math.ceil(columns * config.keep - 1e-6))
    lists = [q.new_empty(*q.shape[:2], rows, width, dtype=torch.int32), q.new_empty(*q.shape[:2], rows).int()]
    offsets = [q.new_empty(count + 1, dtype=torch.int32) for count in (rows, columns)]
    sizes = [of[0] * of[1] * of[2] for of in (of_q, of_k)]
    out, _ = torch.ops.reelwright.block_sparse(q, k, v, *lists, *offsets, *sizes, q.shape[-1] ** -0.5, "torch")
    return out
