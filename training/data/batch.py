"""What the loop gets: a micro-batch of samples of one shape and one task."""

from dataclasses import dataclass

from torch import Tensor

from reelwright.training.recipe import Task


@dataclass(frozen=True)
class Draws:
    """What is random of a batch, on the CPU: u float64 [B] in 0..1, from which noise levels follow; condition [B, T] in
    0..1, for those of clean frames; noise [B, C, T, H, W].
    """

    u: Tensor
    condition: Tensor
    noise: Tensor


@dataclass
class Batch:
    """B samples. Their randomness (noise, timestep) comes from `seeds`, so it does not depend on which rank has them.

    latents: float32 [B, C, T, H, W]. text: float32 [B, L, D], padded with zeros. text_mask: bool [B, L].
    cond_frames: the first latent frames are clean. samples_in_step: of all ranks; the denominator of the loss.
    micro: index of the micro-batch in its step, over all ranks. wait_s: how long the loop waited for it.
    dropped: which samples have the empty caption in place of their own. draws: of the seeds, where somebody has drawn
    ahead.
    """

    latents: Tensor
    text: Tensor
    text_mask: Tensor
    task: Task
    cond_frames: int
    seeds: list[int]
    clip_ids: list[str]
    samples_in_step: int
    step: int
    micro: int
    wait_s: float = 0.0
    dropped: tuple[bool, ...] = ()
    bucket: str = ""
    draws: Draws | None = None
