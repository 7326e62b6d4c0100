"""The guided velocity of a role, for rollouts and for the trained pass alike: one rule, one shape of pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from reelwright.model.sampling.guidance import Guidance
from reelwright.model.text import PackedText
from reelwright.training.batch import Batch
from reelwright.training.distributed.guidance import guided
from reelwright.training.roles import Roles
from reelwright.training.texts import encode_texts, repeated

if TYPE_CHECKING:
    from reelwright.training.distributed.world import World
    from reelwright.training.recipe import TrainRecipe
    from reelwright.training.rl.config import RolloutConfig


class GuidedVelocity:
    """Velocity of the role that is on. With and without the prompt are one pass of twice the samples.

    So a step of a sharded network makes one forward and one backward pass. Gradients flow through both halves where
    they are enabled.
    """

    def __init__(
        self,
        roles: Roles,
        guidance: Guidance,
        negative: PackedText | None,
        *,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """Take the parts.

        Args:
            roles: of the network.
            guidance: off: one half alone.
            negative: states of the negative prompt, on the network's device; None where guidance is off.
            group: the ranks that share a sample's tokens.
        """
        self.roles, self.guidance, self.negative, self.group = roles, guidance, negative, group

    def __call__(self, x: Tensor, t: Tensor, batch: Batch, *, text: PackedText | None = None) -> Tensor:
        """Predict x0 - noise, fp32, like x.

        Args:
            x: latents [B, C, T, H, W] of the batch's strip, where it has one.
            t: noise levels [B, T] in 0..1.
            batch: whose captions, clean frames and place are the pass's.
            text: of B prompts, in place of the captions.
        """
        text = batch.text if text is None else text
        if self.negative is None:
            return self.roles.velocity(x, t, batch, text=text)
        both = joined_texts(text, repeated(self.negative, len(x)))
        predicted = self.roles.velocity(x.repeat(2, 1, 1, 1, 1), t.repeat(2, 1), batch, text=both)
        cond, uncond = predicted.chunk(2)
        return guided(cond, uncond, self.guidance, clean=batch.cond_frames, group=self.group)


def guided_velocity(config: RolloutConfig, roles: Roles, recipe: TrainRecipe, world: World) -> GuidedVelocity:
    """Make the velocity of a recipe; the negative prompt is encoded here, once. Every rank calls it."""
    guidance = Guidance(config.guidance, config.rule, config.negative)
    negative = None
    if not guidance.is_off:
        states = encode_texts([config.negative], recipe, world)
        negative = states.to(next(roles.model.parameters()).device)
    return GuidedVelocity(roles, guidance, negative, group=world.context_group)


def joined_texts(first: PackedText, second: PackedText) -> PackedText:
    """Return the texts of two passes as those of one."""
    states = torch.cat([first.states, second.states.to(first.states.dtype)])
    return PackedText(states, torch.cat([first.lengths, second.lengths]), max(first.longest, second.longest))


def levels_of(t: Tensor, batch: Batch) -> Tensor:
    """Return noise levels [B, T] of noisy frames at t [B], float64, with clean frames at 0 as the sampler has them."""
    levels = t.double()[:, None].repeat(1, batch.latents.shape[2]).to(batch.latents.device)
    levels[:, : batch.cond_frames] = 0.0
    return levels
