"""Finished latents made into videos for rewards: by tiles, and shared out where several ranks have the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reelwright.model.codec import Codec, load_codec, pixel_frames
from reelwright.model.sampling.video_file import to_frames
from reelwright.training.batch import Batch
from reelwright.training.rewards.contract import Video
from reelwright.training.sample_shape import SAMPLE_TILE_PX

if TYPE_CHECKING:
    from reelwright.training.distributed.world import World
    from reelwright.training.recipe import TrainRecipe


class Decoder:
    """Decodes the samples of a run's rollouts by its codec."""

    def __init__(self, recipe: TrainRecipe, world: World) -> None:
        self.recipe, self.world = recipe, world

    @cached_property
    def codec(self) -> Codec:
        """The recipe's, by tiles: weights and optimizer are beside it."""
        config = self.recipe.codec
        by_tiles = config.model_copy(update={"tile": config.tile or SAMPLE_TILE_PX})
        return load_codec(by_tiles, device=str(self.world.device))

    def mine(self, samples: int) -> list[int]:
        """Return which samples of a micro-batch this rank decodes: ranks that share them take turns."""
        return list(range(self.world.context_rank, samples, self.world.context_size))

    def videos(self, latents: Tensor, prompts: Sequence[str], batch: Batch) -> list[Video | None]:
        """Decode samples.

        Args:
            latents: [N, C, T, H, W].
            prompts: of the samples.
            batch: of their task and clean frames.

        Returns:
            A video per sample; None for latents that are not finite.
        """
        given = pixel_frames(batch.cond_frames) if batch.cond_frames else 0
        rate = self.recipe.data.rate_of(pixel_frames(latents.shape[2]))
        return [self._video(one, prompt, rate, given) for one, prompt in zip(latents, prompts, strict=True)]

    def _video(self, latents: Tensor, prompt: str, rate: float, given: int) -> Video | None:
        if not torch.isfinite(latents).all():
            return None
        pixels = self.codec.decode(latents[None].to(self.codec.device))[0]
        return Video(to_frames(pixels), rate, prompt, given)
