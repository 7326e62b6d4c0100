"""Guidance: how far a prediction with the prompt is led away from one without it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reelwright.model.sampling.solvers import TIMESTEPS

Rule = Literal["cfg-zero", "cfg"]


def cfg(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Guide by classifier-free guidance: u + g (c - u)."""
    return uncond + scale * (cond - uncond)


def cfg_zero(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Guide by CFG-zero* (arXiv 2503.18886): u st + g (c - u st), where st = <c,u> / |u|² fits u to c, per sample."""
    c, u = cond.flatten(1).float(), uncond.flatten(1).float()
    fit = (c * u).sum(1) / u.square().sum(1).clamp_min(1e-8)
    return cfg(cond, uncond * fit.view(-1, *[1] * (cond.ndim - 1)), scale)


NEGATIVE = (
    "blurry, out of focus, low resolution, compression blocks, noise, flicker, ghosting, washed-out colours, wrong "
    "exposure, subtitles, captions, logo, watermark, still picture, frozen frame, jerky motion, jump cut, distorted "
    "face, malformed hands, extra fingers, extra limbs, fused bodies, melting objects, crooked lines, crowded clutter"
)
"""Unwanted traits, in our own words: the default negative prompt of `reel generate`."""

RULES: dict[Rule, Callable[[Tensor, Tensor, float], Tensor]] = {"cfg-zero": cfg_zero, "cfg": cfg}


@dataclass(frozen=True)
class Guidance:
    """How a prompt guides.

    scale: 1 is no guidance, and half of the work. negative: the prompt to lead away from. zero_init: share of the
    steps, from the first, that CFG-zero* leaves out (its paper: 0.04; published: 0).
    """

    scale: float = 4.0
    rule: Rule = "cfg-zero"
    negative: str = ""
    zero_init: float = 0.0

    @property
    def is_off(self) -> bool:
        """Whether guidance changes nothing, so that one pass per step is enough."""
        return self.scale == 1

    def __call__(self, cond: Tensor, uncond: Tensor) -> Tensor:
        """Combine the predictions with and without the prompt."""
        return RULES[self.rule](cond, uncond, self.scale)


def without_first(
    predict: Callable[[Tensor, Tensor], Tensor], sigmas: Tensor, guidance: Guidance
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a guided prediction that is zero, without asking the network, in the first steps (zero-init).

    Source: CFG-zero* (arXiv 2503.18886), section 4: early guided predictions of an underfitted network are worse than
    none.

    Args:
        predict: the guided network.
        sigmas: noise levels of the steps, falling, [steps + 1].
        guidance: its `zero_init` is the share of steps; nothing changes where it is off.
    """
    count = round(guidance.zero_init * (len(sigmas) - 1))
    if guidance.is_off or not count:
        return predict
    last = float(sigmas[count - 1]) * (1 - 1e-6) * TIMESTEPS

    def predict_later(x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x) if float(t.max()) >= last else predict(x, t)

    return predict_later
