"""Settings of a sampler, in groups; the defaults are the published ones."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from reelwright.model.codec import latent_size
from reelwright.model.config import STRIDE
from reelwright.model.errors import ModelError
from reelwright.model.sampling.guidance import Guidance
from reelwright.model.sampling.schedules import Schedule


@dataclass(frozen=True)
class Shape:
    """Size of a segment, in pixels.

    frames: including the given ones. overlap: last frames of a segment that the next one continues.
    """

    width: int = 832
    height: int = 480
    frames: int = 93
    overlap: int = 13

    @property
    def latent(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns. Raises ModelError for a size that does not divide."""
        return latent_size(self.frames, self.height, self.width)

    def check(self, patch: tuple[int, int, int]) -> None:
        """Raise ModelError for a size that does not divide. patch: the network's."""
        down, across = STRIDE[1] * patch[1], STRIDE[2] * patch[2]
        if self.height % down or self.width % across or not self.height or not self.width:
            raise ModelError(
                f"{self.width} wide × {self.height} high does not fit: the width must be a multiple of {across}, "
                f"the height of {down}"
            )
        latent_size(self.frames, self.height, self.width)


@dataclass(frozen=True)
class Memory:
    """Values kept in memory to save time.

    cache: keys and values of the condition, computed once. batched: with and without the prompt in one pass, at twice
    the memory. offload: the cache lies in the host's memory.
    """

    cache: bool = True
    batched: bool = True
    offload: bool = False


@dataclass(frozen=True)
class Parity:
    """Details in which the published sampler differs from ours; `reel generate --published` turns all on.

    posterior: condition latents are drawn from the VAE's posterior; ours are its mode. cut_levels: frames that a
    segment goes on from are cut down to whole levels of 0..255. fit_condition: of a video from an image, CFG-zero* fits
    the scale over the image's latents too. bf16_noise: noise of a continuation is rounded to bf16.
    """

    posterior: bool = False
    cut_levels: bool = False
    fit_condition: bool = False
    bf16_noise: bool = False


@dataclass(frozen=True)
class Settings:
    """How to sample."""

    shape: Shape = field(default_factory=Shape)
    schedule: Schedule = field(default_factory=Schedule)
    guidance: Guidance = field(default_factory=Guidance)
    memory: Memory = field(default_factory=Memory)
    parity: Parity = field(default_factory=Parity)

    @classmethod
    def of(cls, **flat: Any) -> "Settings":
        """Build settings from names of all groups: `Settings.of(width=64, steps=8, guidance=1.0)`."""
        return cls().changed(**flat)

    def changed(self, **flat: Any) -> "Settings":
        """Return the settings with some changed, by name.

        Raises:
            TypeError: a name that no group has.
        """
        groups: dict[str, dict[str, Any]] = {}
        for name, value in flat.items():
            if name not in _GROUP:
                raise TypeError(f"{name!r} is not a setting of sampling; settings are {', '.join(_GROUP)}")
            groups.setdefault(_GROUP[name], {})["scale" if name == "guidance" else name] = value
        return replace(self, **{group: replace(getattr(self, group), **new) for group, new in groups.items()})

    def flat(self) -> dict[str, Any]:
        """Return all settings by name, as files that are made by them carry them."""
        guidance = asdict(self.guidance)
        guidance["guidance"] = guidance.pop("scale")
        groups = (self.shape, self.schedule, self.memory, self.parity)
        return {name: value for group in groups for name, value in asdict(group).items()} | guidance

    def check(self, patch: tuple[int, int, int]) -> None:
        """Raise ModelError for a size that does not divide, or an impossible number of steps. patch: the network's."""
        self.shape.check(patch)
        self.schedule.sigmas()


_GROUP = {
    **dict.fromkeys(asdict(Shape()), "shape"),
    **dict.fromkeys(asdict(Schedule()), "schedule"),
    **dict.fromkeys(["guidance", "rule", "negative", "zero_init"], "guidance"),
    **dict.fromkeys(asdict(Memory()), "memory"),
    **dict.fromkeys(asdict(Parity()), "parity"),
}
"""The group of each setting."""
