"""What a forward and backward pass holds in memory, found by running it on tensors without storage.

Two networks of few blocks are traced at their real width and size of batch, and the rest follows: every block holds the
same. So a change of the network, of its checkpointing or of autocast is in the figure without a formula to keep up.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from reelwright.model.config import DiTConfig, LoRAConfig
from reelwright.model.dit import DiT
from reelwright.training.adapters import adapt, blocks_to_bf16
from reelwright.training.budget.live_bytes import LiveBytes
from reelwright.training.distributed.parallel import autocast, parallelize
from reelwright.training.distributed.world import World
from reelwright.training.recipe import ComputeConfig, ParallelConfig

DEPTHS = (2, 3)


@dataclass(frozen=True)
class Shape:
    """A micro-batch on one rank. latent: (frames, rows, columns) of the rank's part; text: tokens of a caption."""

    batch: int
    latent: tuple[int, int, int]
    text: int


@dataclass(frozen=True)
class Activations:
    """Bytes. peak: of all but gradients of parameters, at most; block: what each block adds to it.

    tail: what the last step of the backward pass holds beside gradients that are whole by then.
    """

    peak: int
    block: int
    tail: int


@lru_cache(maxsize=64)
def trace(
    config: DiTConfig,
    shape: Shape,
    compute: ComputeConfig,
    *,
    lora: LoRAConfig | None = None,
    half_blocks: bool = False,
) -> Activations:
    """half_blocks: the blocks' weights are bf16 already, as FSDP gathers them; else autocast makes bf16 copies."""
    few, more = (_trace(config.model_copy(update={"depth": d}), shape, compute, lora, half_blocks) for d in DEPTHS)
    block = max(0, more[0] - few[0])
    return Activations(few[0] + (config.depth - DEPTHS[0]) * block, block, more[1])


def _trace(
    config: DiTConfig, shape: Shape, compute: ComputeConfig, lora: LoRAConfig | None, half_blocks: bool
) -> tuple[int, int]:
    """(peak, tail) of a network of this depth."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model = DiT(config)
        if lora:
            adapt(model, lora, compute)
        if half_blocks:
            blocks_to_bf16(model)
        one = compute.model_copy(update={"compile": False})
        parallelize(model, ParallelConfig(), one, World.alone("cpu"))
        with LiveBytes() as live:
            _step(model, config, shape, one)
        return _peaks(live, [p.grad for p in model.parameters() if p.grad is not None])


def _step(model: nn.Module, config: DiTConfig, shape: Shape, compute: ComputeConfig) -> None:
    """The loop's forward and backward pass, with what `flow_loss` holds meanwhile."""
    size = (shape.batch, config.in_channels, *shape.latent)
    latents, target = torch.empty(size), torch.empty(size)
    text = torch.empty(shape.batch, shape.text, config.caption_channels)
    mask = torch.ones(shape.batch, shape.text, dtype=torch.bool)
    with autocast(compute, torch.device("cpu")):
        predicted = model(latents + target, torch.zeros(shape.batch, shape.latent[0]), text, mask)
        loss = (predicted.float() - target).square().mean()
    loss.backward()


def _peaks(live: LiveBytes, gradients: list[Tensor]) -> tuple[int, int]:
    line = live.timeline(apart=gradients)
    whole = line[-1][1]
    late = [rest + grads - whole for rest, grads in line if grads >= 0.6 * whole]
    return max(rest for rest, _ in line), max(0, *late, 0)
