"""The teacher of a distillation: the frozen base with guidance, or an adapter that has learned it."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch._guards import active_fake_mode

from reelwright.model.dtypes import DTYPES
from reelwright.model.sampling.guidance import Guidance, cfg
from reelwright.model.text import PackedText, load_text_encoder, pack_text
from reelwright.training.batch import Batch
from reelwright.training.data.encode import to_bytes
from reelwright.training.distributed.world import World
from reelwright.training.objectives.distilling.distillation import DistillationConfig
from reelwright.training.objectives.distilling.roles import BASE, Roles
from reelwright.training.recipe import TrainRecipe

SENT_AT_ONCE = 64
"""Texts whose states travel together from the rank that encodes them."""


class Teacher:
    """The velocity that a student learns, without gradients."""

    def __init__(
        self,
        roles: Roles,
        guidance: Guidance,
        negative: PackedText | None,
        *,
        role: str = BASE,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """Take the parts.

        Args:
            roles: of the network.
            guidance: how it is guided; off: one pass.
            negative: states of the negative prompt, on the network's device; None where guidance is off.
            role: that teaches.
            group: the ranks that share a sample's tokens.
        """
        self.roles, self.guidance, self.negative, self.role, self.group = roles, guidance, negative, role, group

    @torch.no_grad()
    def __call__(self, x: Tensor, t: Tensor, batch: Batch) -> Tensor:
        """Return the teacher's velocity, like x; see `Roles.velocity` for the arguments."""
        with self.roles.playing(self.role):
            with_prompt = self.roles.velocity(x, t, batch)
            if self.guidance.is_off or self.negative is None:
                return with_prompt
            without = self.roles.velocity(x, t, batch, text=repeated(self.negative, len(x)))
        return guided(with_prompt, without, self.guidance, clean=batch.cond_frames, group=self.group)


def guided(
    cond: Tensor, uncond: Tensor, guidance: Guidance, *, clean: int, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Guide as the sampler does, on the noisy frames of whole samples: CFG-zero* fits u to c over all strips.

    Gradients flow through both predictions, and not through the fit.

    Args:
        cond: prediction with the prompt, [B, C, T, H, W] of a strip.
        uncond: without it.
        guidance: rule and scale.
        clean: first frames, which do not count.
        group: the ranks that share a sample's tokens.
    """
    if guidance.rule == "cfg":
        return cfg(cond, uncond, guidance.scale)
    c, u = (v.detach()[:, :, clean:].flatten(1) for v in (cond, uncond))
    products = torch.stack(((c * u).sum(1), u.square().sum(1)))
    if group is not None:
        dist.all_reduce(products, group=group)
    fit = products[0] / products[1].clamp_min(1e-8)
    return cfg(cond, uncond * fit.view(-1, 1, 1, 1, 1), guidance.scale)


def make_teacher(config: DistillationConfig, roles: Roles, recipe: TrainRecipe, world: World) -> Teacher:
    """Make the teacher of a recipe's distillation; the negative prompt is encoded here, once."""
    negative = None
    if not config.teaching.is_off:
        states = encode_texts([config.negative], recipe, world)
        negative = states.to(next(roles.model.parameters()).device)
    role = "teacher" if config.teacher else BASE
    return Teacher(roles, config.teaching, negative, role=role, group=world.context_group)


def repeated(text: PackedText, times: int) -> PackedText:
    """Return one caption's states for each of `times` samples."""
    return PackedText(text.states.repeat(times, 1), text.lengths.repeat(times), text.longest)


def encode_texts(texts: Sequence[str], recipe: TrainRecipe, world: World) -> PackedText:
    """Encode texts by the recipe's encoder, in the type that captions are stored in; every rank calls it.

    The first rank loads the encoder, and lets it go again: beside a large network there is no room for it. Where a step
    is planned on tensors without storage, the states are as long as captions may be.
    """
    dtype = DTYPES[recipe.data.store_dtype]
    tokens = min(recipe.text.tokens, recipe.model.text_tokens)
    if active_fake_mode() is not None:
        return pack_text([torch.empty(tokens, recipe.model.caption_channels, dtype=dtype) for _ in texts], tokens)
    encoder = load_text_encoder(recipe.text, device=str(world.device)) if world.is_first else None
    found: list[Tensor] = []
    for first in range(0, len(texts), SENT_AT_ONCE):
        sent = None
        if encoder is not None:
            made = encoder.encode(list(texts[first : first + SENT_AT_ONCE]))
            sent = [
                [list(one.shape), base64.b64encode(to_bytes(one, recipe.data.store_dtype)).decode("ascii")]
                for one in made
            ]
        found += [
            torch.frombuffer(bytearray(base64.b64decode(data)), dtype=dtype).view(shape)
            for shape, data in world.broadcast(sent)
        ]
    return pack_text(found, tokens)
