"""A tiny DiT and a few optimizer steps on it, the same on any layout of ranks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reelwright.model.config import DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.text import pack_text
from reelwright.training.batch import Batch, Task
from reelwright.training.distributed.context import context_parallel
from reelwright.training.distributed.parallel import accumulate, autocast, parallelize
from reelwright.training.distributed.world import World
from reelwright.training.objectives.flow import FlowConfig, flow_loss
from reelwright.training.optim import clip_gradients, make_optimizer, optimizer_tensors
from reelwright.training.recipe import ComputeConfig, OptimConfig, ParallelConfig

CONFIG = DiTConfig(
    in_channels=4, out_channels=4, hidden_size=64, depth=2, num_heads=4, caption_channels=16, adaln_tembed_dim=16,
    frequency_embedding_size=16, text_tokens=5,
)  # fmt: skip
SHAPES: tuple[tuple[Task, int, int, int], ...] = (
    ("t2v", 0, 3, 10),
    ("i2v", 1, 3, 10),
    ("continuation", 2, 3, 6),
    ("t2i", 0, 1, 6),
)
"""Task, condition frames, latent frames and rows of a step's micro-batches: 5 and 3 rows of tokens, which 2 ranks do
not divide."""
MICROS = len(SHAPES)
PLAIN = ComputeConfig(precision="fp32")


@dataclass
class Run:
    """A model on its layout, its optimizer, and how to take a step."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: Callable[[int], float]
    """Number of the step → the loss of all its samples."""

    def tensors(self) -> dict[str, torch.Tensor]:
        weights = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        return weights | optimizer_tensors(self.optimizer, dict(self.model.named_parameters()))


def tiny(seed: int = 0, config: DiTConfig = CONFIG) -> DiT:
    """Random in every weight: the real initial one has zeros that hide faults."""
    generator = torch.Generator().manual_seed(seed)
    model = DiT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2, generator=generator)
    return model


def begin(parallel: ParallelConfig, world: World, compute: ComputeConfig = PLAIN, *, seed: int = 0) -> Run:
    model = parallelize(tiny(seed), parallel, compute, world)
    context = context_parallel(model, parallel, world)
    parameters = dict(model.named_parameters())
    optimizer = make_optimizer(parameters, OptimConfig(lr=1e-2))
    objective = FlowConfig()

    def step(number: int) -> float:
        mine = range(world.data_rank, MICROS, world.data_size)
        total = 0.0
        for micro in mine:
            batch = make_batch(number, micro)
            accumulate(model, parallel, last=micro == mine[-1])
            batch = context.share(batch, CONFIG.patch_size) if context else batch
            with autocast(compute, world.device):
                loss = flow_loss(model, batch, objective)
            loss.total.backward()
            total += loss.total.item()
        clip_gradients(parameters, 0.5)
        optimizer.step()
        optimizer.zero_grad()
        return world.sum([total])[0]

    return Run(model, optimizer, step)


def make_batch(step: int, micro: int) -> Batch:
    """One of a step's micro-batches; the first has two samples."""
    task, cond, frames, rows = SHAPES[micro]
    samples = 2 if micro == 0 else 1
    generator = torch.Generator().manual_seed(1000 * step + micro)
    return Batch(
        latents=torch.randn(samples, 4, frames, rows, 4, generator=generator),
        text=pack_text(list(torch.randn(samples, 5, 16, generator=generator)), 3),
        task=task,
        cond_frames=cond,
        seeds=[100 * step + 10 * micro + i for i in range(samples)],
        clip_ids=[str(i) for i in range(samples)],
        samples_in_step=MICROS + 1,
        step=step,
        micro=micro,
    )


def losses(parallel: ParallelConfig, world: World, compute: ComputeConfig = PLAIN, *, steps: int = 3) -> list[float]:
    run = begin(parallel, world, compute)
    return [run.step(i) for i in range(steps)]


def alone(compute: dict[str, Any] | None = None, *, steps: int = 3) -> list[float]:
    given = ComputeConfig.model_validate({"precision": "fp32"} | (compute or {}))
    return losses(ParallelConfig(), World.alone("cpu"), given, steps=steps)
