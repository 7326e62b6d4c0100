"""Pairs: a window of a clip in latents, and the same window as a first stage would have made it, enlarged again.

The way down: frames dropped and size reduced, degradations, the codec's round trip. The way up is the up-sampler that
sampling uses, and the codec. Both latents lie behind one another along the channels, in one row of the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reelwright.model.refinement.sizes import Size, refined_size
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.degrade import between, degrade, generator, reduced
from reelwright.training.errors import TrainError
from reelwright.training.pair_config import BaseTripConfig, PairConfig

if TYPE_CHECKING:
    from torch import Tensor

    from reelwright.model.codec import Codec
    from reelwright.model.dit import DiT
    from reelwright.model.text import PackedText
    from reelwright.training.recipe import DataConfig, TrainRecipe

HALVES = 2
"""Latents of a pair: the clip's own, and those of the enlarged first stage."""

BaseTrip = Callable[["Tensor", float, int], "Tensor"]
"""(latents [1, C, T, h, w], noise level, seed) -> the latents that the base model makes of them."""


@dataclass(frozen=True)
class FirstStage:
    """A sample's frames as the first stage would have made them.

    frames: uint8 [F, h, w, 3]. seed: of the sample. times: how many times the frame rate is to grow.
    """

    frames: np.ndarray
    seed: int
    times: int


@dataclass(frozen=True)
class PairMaker:
    """Makes pairs of a recipe. base: noise and denoising by the base model, where the recipe has it."""

    config: PairConfig
    data: DataConfig
    base: BaseTrip | None = None

    def first_stage(self, frames: np.ndarray, bucket: Bucket, seed: int) -> FirstStage:
        """Make the first stage's frames of a window, on the CPU.

        Args:
            frames: uint8 [F, H, W, 3], the window.
            bucket: of the window.
            seed: of the sample; the degradations follow from it alone.

        Raises:
            TrainError: the first stage would not be smaller than the bucket.
        """
        size = first_stage_size(self.config, bucket)
        times = times_of(self.data, bucket)
        if times > 1 and generator(seed, "spatial_only").random() < self.config.spatial_only:
            times = 1
        low = reduced(frames, height=size.height, width=size.width, times=times)
        return FirstStage(degrade(low, self.config, seed), seed, times)

    def encode(self, frames: np.ndarray, low: FirstStage, bucket: Bucket, codec: Codec) -> Tensor:
        """Encode a pair.

        Args:
            frames: uint8 [F, H, W, 3], the window.
            low: its first stage.
            bucket: of the window.
            codec: turns both into latents.

        Returns:
            float32 [2 C, T, H/8, W/8] on the codec's device: the clip's channels, then the enlarged first stage's.
        """
        import torch

        from reelwright.training.data.pixels import encode_frames

        enlarged = codec.encode(self.enlarge(low, bucket, codec))[0].float()
        return torch.cat([encode_frames(frames, codec), enlarged])

    def enlarge(self, low: FirstStage, bucket: Bucket, codec: Codec) -> Tensor:
        """Send a first stage through the codec, and enlarge it: float32 [1, 3, F, H, W] in -1..1, on its device."""
        from reelwright.model.refinement.upsample import upsample
        from reelwright.training.data.pixels import video_of

        video = video_of(low.frames, codec.device)
        if self.config.codec_trip:
            video = self._through(codec, video, low.seed)
        return upsample(
            video.to(codec.device),
            frames=bucket.frames, height=bucket.height, width=bucket.width,
            times=low.times, timing=self.config.timing,
        )  # fmt: skip

    def _through(self, codec: Codec, video: Tensor, seed: int) -> Tensor:
        """Encode and decode; in between, the base model's own noise and denoising for the samples that get it."""
        import torch

        from reelwright.model.config import STRIDE

        count = video.shape[2]
        rest = -(count - 1) % STRIDE[0]  # 95 frames, half of 189, are no 4k + 1
        latents = codec.encode(torch.cat([video, video[:, :, -1:].expand(-1, -1, rest, -1, -1)], 2))
        config = self.config.base
        if config is not None:
            rng = generator(seed, "base")
            if rng.random() < config.chance:
                if self.base is None:
                    raise TrainError("data.pair.base needs the base model; make the pairs with reel precompute")
                latents = self.base(latents, between(rng, *config.level), seed)
        return codec.decode(latents)[:, :, :count]


def pair_maker(recipe: TrainRecipe, base: BaseTrip | None = None) -> PairMaker | None:
    """Return the maker of a recipe's pairs; None where its samples are clips alone."""
    return PairMaker(recipe.data.pair, recipe.data, base) if recipe.data.pair else None


def times_of(data: DataConfig, bucket: Bucket) -> int:
    """Return how many times the frame rate grows from the first stage to a bucket: 1 for pictures."""
    assert data.pair is not None
    return 1 if bucket.frames == 1 else data.pair.times(data.rate_of(bucket.frames))


def first_stage_size(config: PairConfig, bucket: Bucket) -> Size:
    """Return the size of the first stage whose videos are refined to a bucket's.

    It is the size class' own at the nearest ratio, as it is sampled, so sides are stretched as sampling stretches them.

    Raises:
        TrainError: it would not be smaller.
    """
    size = refined_size(bucket.height, bucket.width, config.first_stage, multiple=config.multiple)
    if size.height * size.width >= bucket.height * bucket.width:
        raise TrainError(
            f"data.pair.first_stage {config.first_stage} is {size.width}x{size.height} for the bucket {bucket.key}, "
            "which is not larger; name a smaller first stage"
        )
    return size


def stored_seed(config: PairConfig, clip_id: str, window: str) -> int:
    """Return the seed of a stored pair: of the clip and its window, the same in every run and on every worker."""
    told = hashlib.blake2b(f"{config.seed} {clip_id} {window}".encode(), digest_size=8).digest()
    return int.from_bytes(told, "big") >> 1


@dataclass(frozen=True)
class Denoiser:
    """A `BaseTrip`: a frozen network and the states of the empty prompt."""

    model: DiT
    text: PackedText
    config: BaseTripConfig

    def __call__(self, latents: Tensor, level: float, seed: int) -> Tensor:
        """Noise latents to a level, and sample from there down without guidance."""
        import torch

        from reelwright.model.refinement.noise import noised_start, refinement_sigmas
        from reelwright.model.sampling.schedules import Schedule
        from reelwright.model.sampling.solvers import euler

        weight = next(self.model.parameters())
        rng = torch.Generator("cpu").manual_seed(seed)
        noise = torch.randn(latents.shape, generator=rng).to(weight.device)
        start = noised_start(latents.to(weight.device), noise, level)
        text = self.text.to(weight.device, weight.dtype)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return self.model(x.to(weight.dtype), t, text).float()

        with torch.no_grad():
            found = euler(predict, start, refinement_sigmas(level, Schedule(steps=self.config.steps)))
        return found.latents.to(latents.device)
