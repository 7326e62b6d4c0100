"""Batches made up for tests of the loss and the loop."""

import torch

from reelwright.model.text import pack_text
from reelwright.training.batch import Batch, Task


def make_batch(
    samples: int = 2,
    *,
    task: Task = "t2v",
    cond_frames: int = 0,
    frames: int = 3,
    side: int = 4,
    text_dim: int = 8,
    seed: int = 0,
    step: int = 0,
    micro: int = 0,
    samples_in_step: int | None = None,
    channels: int = 16,
) -> Batch:
    """Latents [samples, channels, frames, side, side] of unit variance, from `seed` alone."""
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        latents=torch.randn(samples, channels, frames, side, side, generator=generator),
        text=pack_text(list(torch.randn(samples, 4, text_dim, generator=generator)), 4),
        task=task,
        cond_frames=cond_frames,
        seeds=[seed * 1000 + i for i in range(samples)],
        clip_ids=[f"clip-{seed}-{i}" for i in range(samples)],
        samples_in_step=samples_in_step or samples,
        step=step,
        micro=micro,
    )
