"""Refinement (report 3.4.1, equations 11 to 14): from a noised, enlarged first stage straight to the clip.

Eq 11: x_thr = (1 - T) x_up + T ε, the enlarged first stage x_up at the threshold T. Eq 12: x_t' = x0 + (x_thr - x0)
t'/T for t' in [0, T]. Eq 13: the network predicts v = (x0 - x_thr) / T, mean squared error (eq 14). The noise in x_t'
has the coefficient t', so t' is the network's timestep; and x_t' + t' v = x0, so sampling is Euler's steps from T to 0,
as from pure noise. At T = 1 it is flow matching.

Condition frames are clean and have timestep 0, as they are sampled with; the loss is on the others. The law of t' is
not published: it is uniform on [0, T], or flow matching's, at the shift of the levels that are sampled, cut at T. The
published sampler's list of levels has one shift, 12, for every size, and so has this law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from reelwright.model.config import AttentionConfig
from reelwright.training.batch import PairBatch, draw
from reelwright.training.errors import TrainError
from reelwright.training.objectives.base import Loss, Stateless
from reelwright.training.objectives.flow import Noised, velocity_loss
from reelwright.training.registry import ObjectiveConfig, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reelwright.training.distributed.world import World
    from reelwright.training.recipe import TrainRecipe


@register
class RefinementConfig(ObjectiveConfig):
    """Refinement: from a noised, enlarged first stage to the clip (report 3.4.1)."""

    kind: Literal["refinement"] = Field("refinement", description="name of the objective")
    threshold: float = Field(0.5, gt=0, le=1, description="noise level T that refinement begins at")
    levels: Literal["uniform", "sampled"] = Field(
        "uniform", description="law of t': even on [0, T], or as dense as the levels that are sampled, cut at T"
    )
    shift: float = Field(12.0, gt=0, description="of the levels that are sampled; 12 as published, at every size")

    def build(self, model: nn.Module, recipe: TrainRecipe, world: World) -> Refinement:
        """Build the refinement objective.

        Raises:
            TrainError: as `refuse_recipe` has it.
        """
        self.refuse_recipe(recipe)
        return Refinement(self, model, recipe)

    def refuse_recipe(self, recipe: TrainRecipe) -> None:
        """Raise TrainError where the recipe makes no pairs, or asks for samples from noise."""
        if recipe.data.pair is None:
            raise TrainError(
                "objective refinement learns from pairs, and the recipe makes none; add data.pair, such as "
                "data: {pair: {first_stage: 480p}}"
            )
        if recipe.samples.every:
            raise TrainError(
                "samples.every makes videos from noise, which a refinement expert does not know; set it to 0, and "
                "refine with reel generate --refine"
            )


@dataclass(frozen=True)
class Refinement(Stateless):
    """The objective of a run; see `reelwright.training.objectives.base.Objective`."""

    config: RefinementConfig
    model: nn.Module
    recipe: TrainRecipe

    def loss(self, batch: PairBatch, *, t: Tensor | None = None) -> Loss:
        """Return the refinement loss of a batch; see `refinement_loss`."""
        return refinement_loss(self.model, batch, self.config, t=t, patch=self.recipe.model.patch_size)

    def flops(self, batch: PairBatch, attention: AttentionConfig) -> int:
        """Count the FLOPs of a batch's forward and backward pass."""
        from reelwright.training.budget.throughput import batch_flops

        return batch_flops(self.recipe, batch, attention)


def refinement_loss(
    model: Callable[..., Tensor],
    batch: PairBatch,
    config: RefinementConfig,
    *,
    t: Tensor | None = None,
    patch: tuple[int, int, int] = (1, 2, 2),
) -> Loss:
    """Compute the loss of a batch, or of its strip; the losses of all strips add up to the whole's.

    Args:
        model: the network; called as a `model.dit.DiT` is.
        batch: pairs of latents and text states, on the device of the network.
        config: threshold, and the law of the levels.
        t: levels [B] in 0..1, as parts of the threshold, in place of drawn ones (for validation).
        patch: latent frames, rows and columns of a token.
    """
    return velocity_loss(model, batch, add_noise(batch, config, t=t), patch)


def add_noise(batch: PairBatch, config: RefinementConfig, *, t: Tensor | None = None) -> Noised:
    """Mix a batch's pairs with their noise: one level per sample, 0 for its condition frames."""
    import torch

    x0, upsampled = batch.latents.float(), batch.upsampled.float()
    num, _, frames = x0.shape[:3]
    draws = batch.draws or draw(batch.seeds, x0.shape)
    drawn = levels_of(draws.u, config) if t is None else config.threshold * t
    levels = drawn.float()[:, None].repeat(1, frames)
    levels[:, : batch.cond_frames] = 0.0
    levels, noise = (a.to(x0.device, non_blocking=True) for a in (levels, draws.noise))
    x, target = on_the_way(x0, upsampled, noise, levels[:, None, :, None, None], config.threshold)
    return Noised(x, target, levels, torch.ones(num, device=x0.device))


def on_the_way(x0: Tensor, upsampled: Tensor, noise: Tensor, level: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return x_t' and its target v (eqs 11 to 13).

    Args:
        x0: the clip's latents, [B, C, T, H, W].
        upsampled: of the enlarged first stage, of the same shape.
        noise: of the same shape.
        level: t', broadcast over them, in [0, threshold].
        threshold: T.
    """
    start = (1 - threshold) * upsampled + threshold * noise
    share = level / threshold
    return (1 - share) * x0 + share * start, (x0 - start) / threshold


def levels_of(u: Tensor, config: RefinementConfig) -> Tensor:
    """Return levels t' in [0, T] of even draws u in 0..1.

    The sampled law is that of `shifted(u)` where it is at most T: the draws below the one that T comes from.
    """
    from reelwright.model.sampling.schedules import shifted

    if config.levels == "uniform":
        return config.threshold * u
    shift = config.shift
    cut = config.threshold / (shift - (shift - 1) * config.threshold)
    return shifted(cut * u, shift).clamp_max(config.threshold)
