"""Settings of pairs: a clip, and the same clip as a first stage would have made it, from which refinement learns.

The first stage's version is made from the clip: frames dropped, size reduced, a chain of degradations, the codec's
round trip. The degradations of LongCat-Video are not published; kinds and order are Real-ESRGAN's (arXiv 2107.10833:
blur, resize, noise, JPEG), RealBasicVSR's (arXiv 2111.12704: video compression) and SimpleGVR's (arXiv 2506.19838: the
base model's own noise and denoising). The defaults are milder, for the input is a network's picture.
"""

import hashlib
import json
from typing import Literal

from pydantic import Field, model_validator

from reelwright.model.config import Part, Timing

VERSION = 2
"""Of how pairs are made: pairs that were stored by another version are not found, and made again."""

VideoCodec = Literal["libx264", "mpeg4"]
Range = tuple[float, float]


class Degradation(Part):
    """A degradation that a sample gets or not; strengths are drawn evenly from their ranges by the sample's seed."""

    chance: float = Field(0.5, ge=0, le=1, description="share of the samples that get it")

    @model_validator(mode="after")
    def _check(self) -> "Degradation":
        for name, value in self:
            is_range = isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], str)
            if is_range and not 0 <= value[0] <= value[1]:
                raise ValueError(f"{name} is {list(value)}; it must be [least, most], neither below 0")
        return self


class BlurConfig(Degradation):
    """Gaussian blur."""

    sigma: Range = Field((0.2, 1.5), description="pixels of the first stage")


class ResizeConfig(Degradation):
    """Reduced and enlarged again."""

    factor: Range = Field((0.5, 1.0), description="of the sides in between")

    @model_validator(mode="after")
    def _fits(self) -> "ResizeConfig":
        if not 0 < self.factor[0] <= self.factor[1] <= 1:
            raise ValueError(f"resize.factor is {list(self.factor)}; it must be above 0 and at most 1")
        return self


class NoiseConfig(Degradation):
    """Gaussian noise, of each frame by itself."""

    sigma: Range = Field((1.0, 8.0), description="of 255")
    grey: float = Field(0.4, ge=0, le=1, description="share of the noisy samples whose noise is the same in R, G and B")


class JpegConfig(Degradation):
    """JPEG, of each frame by itself."""

    chance: float = Field(0.25, ge=0, le=1, description="share of the samples that get it")
    quality: tuple[int, int] = Field((60, 95), description="1 to 100")

    @model_validator(mode="after")
    def _fits(self) -> "JpegConfig":
        if not 1 <= self.quality[0] <= self.quality[1] <= 100:
            raise ValueError(f"jpeg.quality is {list(self.quality)}; it must lie in 1 to 100")
        return self


class VideoConfig(Degradation):
    """Video compression; single pictures go without."""

    codecs: tuple[VideoCodec, ...] = Field(("libx264", "mpeg4"), min_length=1, description="one is drawn")
    bits_per_pixel: Range = Field((0.05, 0.3), description="of a frame; its logarithm is drawn evenly")

    @model_validator(mode="after")
    def _fits(self) -> "VideoConfig":
        if self.bits_per_pixel[0] <= 0:
            raise ValueError(f"video.bits_per_pixel is {list(self.bits_per_pixel)}; it must be above 0")
        return self


class BaseTripConfig(Degradation):
    """The base model's own noise and denoising, with the empty prompt: the nearest to what refinement gets."""

    path: str = Field(description="checkpoint, or folder of published weights, of the network that `model` describes")
    level: Range = Field((0.1, 0.4), description="noise level, 0 to 1, from which it denoises")
    steps: int = Field(50, ge=1, description="of a whole sampling; those below the level are taken")

    @model_validator(mode="after")
    def _fits(self) -> "BaseTripConfig":
        if not 0 < self.level[0] <= self.level[1] <= 1:
            raise ValueError(f"base.level is {list(self.level)}; it must be above 0 and at most 1")
        return self


class PairConfig(Part):
    """How a clip's first-stage version is made; null for a step is none of it."""

    first_stage: str = Field("480p", description="size class of the first stage, or WIDTHxHEIGHT")
    multiple: int = Field(32, ge=16, multiple_of=16, description="of the first stage's sides, pixels")
    fps: float = Field(15, gt=0, description="frame rate of the first stage; clips have it, or twice as much")
    spatial_only: float = Field(
        0.0, ge=0, le=1, description="share of the samples at twice that rate that keep all their frames"
    )
    timing: Timing = Field("published", description="of the up-sampler; the same is to sample with")
    blur: BlurConfig | None = BlurConfig()
    resize: ResizeConfig | None = ResizeConfig()
    noise: NoiseConfig | None = NoiseConfig()
    jpeg: JpegConfig | None = JpegConfig()
    video: VideoConfig | None = VideoConfig()
    walk: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how far blur, resize, noise and JPEG move from frame to frame, at most, of their ranges; 0: not",
    )
    codec_trip: bool = Field(True, description="encode and decode the first stage by the VAE, as its videos were")
    base: BaseTripConfig | None = Field(None, description="the base model's own noise and denoising; precomputed only")
    seed: int = Field(0, description="of the pairs that are stored; those made at each draw follow the draw's seed")

    @model_validator(mode="after")
    def _check(self) -> "PairConfig":
        if self.base and not self.codec_trip:
            raise ValueError("pair.base works on latents, so it needs pair.codec_trip")
        return self

    def times(self, rate: float) -> int:
        """Return how many times the frame rate grows from the first stage to clips of this rate: 1 or 2.

        Raises:
            ValueError: neither once nor twice.
        """
        times = round(rate / self.fps)
        if times not in (1, 2) or abs(rate - times * self.fps) > 1e-6 * rate:
            raise ValueError(
                f"clips of {rate:g} frames per second are neither once nor twice the first stage's pair.fps "
                f"{self.fps:g}; set data.fps or data.frame_rates to {self.fps:g} or {2 * self.fps:g}"
            )
        return times

    def fingerprint_of(self, base: str = "") -> str:
        """Return 12 hex digits over all that decides a stored pair beside the codec.

        Settings at their defaults are left out.

        Args:
            base: identity of the network at `base.path` (`training.origins`), in place of the path, at which another
                one may lie some day.
        """
        chain = self.model_dump(mode="json", exclude_defaults=True)
        if self.base:
            chain["base"] = {**chain["base"], "path": base}
        return hashlib.sha256(json.dumps([VERSION, chain], sort_keys=True).encode()).hexdigest()[:12]
