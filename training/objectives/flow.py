"""Flow matching (report 4.1): x_t = (1 - t) x0 + t ε; the network predicts x0 - ε; mean squared error on noisy frames.

The tasks differ in how many of the first latent frames are clean. All that is random comes from the samples' seeds, on
the CPU: one sample gives one loss, on whichever rank and in whichever batch it is.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelwright.model.sampling.schedules import shifted
from reelwright.training.data.batch import Batch, Draws
from reelwright.training.recipe import ObjectiveConfig

T_SCALE = 1000.0  # the network's timesteps run over 0..1000
EDGE = 1e-5  # u stays this far from 0 and 1, where the logit is infinite and its weight 0


@dataclass(frozen=True)
class Loss:
    """total: weighted, summed over this batch's samples, over the step's samples: backward starts here.

    per_sample [B]: mean squared error over noisy frames, without weight. t [B]: noise level of the noisy frames, 0..1.
    """

    total: Tensor
    per_sample: Tensor
    t: Tensor


@dataclass(frozen=True)
class Noised:
    """A batch on its way to the network, whole in space. x, target [B, C, T, H, W]; t [B, T] in 0..1; weight [B]."""

    x: Tensor
    target: Tensor
    t: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Strip:
    """Rows of the token grid that this rank computes (context parallelism): [first, first + rows)."""

    first: int
    rows: int


def flow_loss(
    model: Callable[..., Tensor],
    batch: Batch,
    config: ObjectiveConfig,
    *,
    t: Tensor | None = None,
    strip: Strip | None = None,
    patch: tuple[int, int, int] = (1, 2, 2),
) -> Loss:
    """The loss of a batch.

    model: called as a `model.dit.DiT` is. t [B] in 0..1: noise levels to take instead of drawn ones, with weight 1 (for
    validation). strip: compute these token rows only; the losses of all strips add up to the whole's. patch: latent
    frames, rows and columns of a token.
    """
    noised = add_noise(batch, config, t=t, patch=patch)
    x, target, origin = noised.x, noised.target, (0, 0, 0)
    if strip is not None:
        rows = slice(strip.first * patch[1], (strip.first + strip.rows) * patch[1])
        x, target, origin = x[..., rows, :], target[..., rows, :], (0, strip.first, 0)
    predicted = model(
        x, noised.t * T_SCALE, batch.text, batch.text_mask, cond_frames=batch.cond_frames, origin=origin
    )  # fmt: skip
    error = (predicted.float() - target)[:, :, batch.cond_frames :].square()
    whole = noised.target[:, :, batch.cond_frames :]
    per_sample = error.flatten(1).sum(1) / whole[0].numel()
    total = (per_sample * noised.weight).sum() / batch.samples_in_step
    return Loss(total, per_sample.detach(), noised.t[:, -1])


def add_noise(
    batch: Batch, config: ObjectiveConfig, *, t: Tensor | None = None, patch: tuple[int, int, int] = (1, 2, 2)
) -> Noised:
    """Noise level and noise of each sample, and of a continuation's condition frames each their own level."""
    x0 = batch.latents.float()
    num, _, frames, height, width = x0.shape
    noisy_tokens = (frames - batch.cond_frames) // patch[0] * (height // patch[1]) * (width // patch[2])
    shift = timestep_shift(noisy_tokens, config)
    draws = batch.draws or draw(batch.seeds, x0.shape)
    levels = (shifted(draws.u, shift) if t is None else t).float()[:, None].repeat(1, frames)
    levels[:, : batch.cond_frames] = 0.0
    if batch.task == "continuation":
        levels[:, : batch.cond_frames] = draws.condition[:, : batch.cond_frames] * config.condition_noise
    weights = loss_weight(draws.u, config).float() if t is None else torch.ones(num)
    levels, weights, noise = (a.to(x0.device, non_blocking=True) for a in (levels, weights, draws.noise))
    at = levels[:, None, :, None, None]
    return Noised((1 - at) * x0 + at * noise, x0 - noise, levels, weights)


def draw(seeds: Sequence[int], shape: Sequence[int]) -> Draws:
    """All that is random of samples [B, C, T, H, W]; it takes a while, so loaders do it ahead."""
    u, condition = torch.empty(len(seeds), dtype=torch.float64), torch.empty(len(seeds), shape[2])
    noise = torch.empty(*shape)
    for i, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        u[i] = torch.rand((), generator=generator, dtype=torch.float64)
        condition[i] = torch.rand(shape[2], generator=generator)
        torch.randn(*shape[1:], generator=generator, out=noise[i])
    return Draws(u, condition, noise)


def timestep_shift(noise_tokens: int, config: ObjectiveConfig) -> float:
    """Shift s that grows with the square root of the noisy tokens, and is at least 1.

    The square root is how the signal-to-noise ratio of a mean over pixels grows with their number (Esser et al., 2024,
    eq. 23). Its size is fixed by one point: 480p × 93 has the published sampler's 12.
    """
    return max(1.0, config.shift_at_reference * math.sqrt(noise_tokens / config.reference_tokens))


def loss_weight(u: Tensor, config: ObjectiveConfig) -> Tensor:
    """Density of logit-normal(mean, std) at u; its mean over uniform u is 1, so losses keep their scale."""
    if config.weighting == "uniform":
        return torch.ones_like(u)
    u = u.clamp(EDGE, 1 - EDGE)
    z = (torch.logit(u) - config.logit_mean) / config.logit_std
    return torch.exp(-0.5 * z.square()) / (config.logit_std * math.sqrt(2 * math.pi) * u * (1 - u))
