"""Flow matching (report 4.1): x_t = (1 - t) x0 + t ε; the network predicts x0 - ε; mean squared error on noisy frames.

The tasks differ in how many of the first latent frames are clean. All randomness comes from the samples' seeds, on the
CPU: a sample gives the same loss on every rank and in every batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from reelwright.model.config import AttentionConfig, TimestepShift
from reelwright.training.batch import Batch, draw
from reelwright.training.objectives.base import Loss, Stateless, reduced
from reelwright.training.registry import ObjectiveConfig, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reelwright.training.distributed.world import World
    from reelwright.training.recipe import TrainRecipe

T_SCALE = 1000.0  # the network's timesteps run over 0..1000
EDGE = 1e-5  # the density is taken this far from 0 and 1, where the logit is infinite and the density 0
NORMAL_REACH, NORMAL_POINTS = 9.0, 2001  # standard deviations and points of an integral over a normal density


@register
class FlowConfig(TimestepShift, ObjectiveConfig):
    """Flow matching: x_t = (1-t) x0 + t ε, target x0 - ε (report 4.1)."""

    kind: Literal["flow"] = Field("flow", description="name of the objective")
    weighting: Literal["logit_normal", "uniform"] = Field("logit_normal", description="of the loss over t")
    logit_mean: float = Field(0.0, description="of the logit of t, for logit_normal")
    logit_std: float = Field(1.0, gt=0, description="of the logit of t, for logit_normal")
    weight_at: Literal["draw", "level"] = Field(
        "draw", description="where the density is taken: at the uniform draw, or at t, which is the draw shifted"
    )
    condition_noise: float = Field(0.1, ge=0, le=1, description="largest t of a continuation's clean frames")

    def build(self, model: nn.Module, recipe: TrainRecipe, world: World) -> Flow:
        """Build the flow objective."""
        return Flow(self, model, recipe)


@dataclass(frozen=True)
class Flow(Stateless):
    """The objective of a run; see `reelwright.training.objectives.base.Objective`."""

    config: FlowConfig
    model: nn.Module
    recipe: TrainRecipe

    def loss(self, batch: Batch, *, t: Tensor | None = None) -> Loss:
        """Return the flow-matching loss of a batch; see `flow_loss`."""
        return flow_loss(self.model, batch, self.config, t=t, patch=self.recipe.model.patch_size)

    def flops(self, batch: Batch, attention: AttentionConfig) -> int:
        """Count the FLOPs of a batch's forward and backward pass."""
        from reelwright.training.budget.throughput import batch_flops

        return batch_flops(self.recipe, batch, attention)


def drift_loss(
    model: Callable[..., Tensor],
    batch: Batch,
    shift: TimestepShift,
    t: Tensor,
    *,
    patch: tuple[int, int, int],
) -> Loss:
    """Compute the flow-matching loss of held-out clips: how far a policy has drifted from the data that it began as.

    Args:
        model: the network, without guidance; called as a `model.dit.DiT` is.
        batch: latents and text states, on the device of the network; clean frames are noised as in base training.
        shift: the policy's shift of timesteps.
        t: noise levels [B] in 0..1.
        patch: latent frames, rows and columns of a token.
    """
    shifts = {name: getattr(shift, name) for name in TimestepShift.model_fields}
    return flow_loss(model, batch, FlowConfig(**shifts), t=t, patch=patch)


@dataclass(frozen=True)
class Noised:
    """A batch on its way to the network, whole in space. x, target [B, C, T, H, W]; t [B, T] in 0..1; weight [B]."""

    x: Tensor
    target: Tensor
    t: Tensor
    weight: Tensor


def flow_loss(
    model: Callable[..., Tensor],
    batch: Batch,
    config: FlowConfig,
    *,
    t: Tensor | None = None,
    patch: tuple[int, int, int] = (1, 2, 2),
) -> Loss:
    """Compute the loss of a batch, or of its strip; the losses of all strips add up to the whole's.

    Args:
        model: the network; called as a `model.dit.DiT` is.
        batch: latents and text states, on the device of the network.
        config: weights of the loss and the shift of timesteps.
        t: noise levels [B] in 0..1 in place of drawn ones, with weight 1 (for validation).
        patch: latent frames, rows and columns of a token.
    """
    return velocity_loss(model, batch, add_noise(batch, config, t=t, patch=patch), patch)


def velocity_loss(
    model: Callable[..., Tensor], batch: Batch, noised: Noised, patch: tuple[int, int, int] = (1, 2, 2)
) -> Loss:
    """Compute the mean squared error of the network's velocity on the noisy frames of a batch, or of its strip.

    Args:
        model: the network; called as a `model.dit.DiT` is.
        batch: latents and text states, on the device of the network.
        noised: the batch mixed with its noise, whole in space.
        patch: latent frames, rows and columns of a token.
    """
    x, target = noised.x, noised.target
    if batch.strip is not None:
        x, target = batch.strip.cut(x, patch), batch.strip.cut(target, patch)
    origin = batch.strip.origin if batch.strip is not None else (0, 0, 0)
    predicted = model(x, noised.t * T_SCALE, batch.text, cond_frames=batch.cond_frames, origin=origin)
    return reduced((predicted.float() - target).square(), batch, noised.t[:, -1], noised.weight)


def add_noise(
    batch: Batch, config: FlowConfig, *, t: Tensor | None = None, patch: tuple[int, int, int] = (1, 2, 2)
) -> Noised:
    """Mix a batch with its noise: one level per sample, and one per condition frame of a continuation."""
    import torch

    from reelwright.model.sampling.schedules import shifted

    x0 = batch.latents.float()
    num, _, frames, height, width = x0.shape
    noisy_tokens = (frames - batch.cond_frames) // patch[0] * (height // patch[1]) * (width // patch[2])
    shift = config.timestep_shift(noisy_tokens)
    draws = batch.draws or draw(batch.seeds, x0.shape)
    levels = (shifted(draws.u, shift) if t is None else t).float()[:, None].repeat(1, frames)
    levels[:, : batch.cond_frames] = 0.0
    if batch.task == "continuation":
        levels[:, : batch.cond_frames] = draws.condition[:, : batch.cond_frames] * config.condition_noise
    weights = loss_weight(draws.u, config, shift).float() if t is None else torch.ones(num)
    levels, weights, noise = (a.to(x0.device, non_blocking=True) for a in (levels, weights, draws.noise))
    at = levels[:, None, :, None, None]
    return Noised((1 - at) * x0 + at * noise, x0 - noise, levels, weights)


def loss_weight(u: Tensor, config: FlowConfig, shift: float = 1.0) -> Tensor:
    """Return the weight of the loss at draws u; its mean over uniform u is 1, so that losses keep their scale.

    The density at the draw is "logit-normal, then shifted" (SD3): the shift moves the weight with the levels. Taken at
    the level, the weight stays around the middle levels and the shift decides only how often they are visited.

    Args:
        u: uniform draws in 0..1, of any shape.
        config: which density, and where it is taken.
        shift: of the levels; it matters only for `weight_at: level`.
    """
    import torch

    from reelwright.model.sampling.schedules import shifted

    if config.weighting == "uniform":
        return torch.ones_like(u)
    if config.weight_at == "draw":
        return logit_normal_density(u, config)
    return logit_normal_density(shifted(u, shift), config) / mean_density(config, shift)


def logit_normal_density(t: Tensor, config: FlowConfig) -> Tensor:
    """Return the density of logit-normal(mean, std) at t in 0..1."""
    import torch

    t = t.clamp(EDGE, 1 - EDGE)
    z = (torch.logit(t) - config.logit_mean) / config.logit_std
    return torch.exp(-0.5 * z.square()) / (config.logit_std * math.sqrt(2 * math.pi) * t * (1 - t))


@lru_cache
def mean_density(config: FlowConfig, shift: float) -> float:
    """Return the mean, over uniform draws, of the density at the shifted draw.

    A level t comes from the draw u = t / (s - (s - 1) t), and du/dt = s / (s - (s - 1) t)². So the mean over draws is
    the mean of du/dt over t ~ logit-normal: a smooth integral over z = (logit t - mean) / std.
    """
    import numpy as np  # numbers also where a step is planned on tensors without storage

    z = np.linspace(-NORMAL_REACH, NORMAL_REACH, NORMAL_POINTS)
    t = 1 / (1 + np.exp(-(config.logit_mean + config.logit_std * z)))
    per_level = shift / np.square(shift - (shift - 1) * t)
    return float(np.trapezoid(per_level * np.exp(-0.5 * np.square(z)) / math.sqrt(2 * math.pi), z))
