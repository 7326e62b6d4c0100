"""Guidance: how far a prediction with the prompt is led away from one without it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Rule = Literal["cfg-zero", "cfg"]


def cfg(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Guide by classifier-free guidance: u + g (c - u)."""
    return uncond + scale * (cond - uncond)


def cfg_zero(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Guide by CFG-zero* (arXiv 2503.18886): u st + g (c - u st), where st = <c,u> / |u|² fits u to c, per sample."""
    c, u = cond.flatten(1).float(), uncond.flatten(1).float()
    fit = (c * u).sum(1) / u.square().sum(1).clamp_min(1e-8)
    return cfg(cond, uncond * fit.view(-1, *[1] * (cond.ndim - 1)), scale)


RULES: dict[Rule, Callable[[Tensor, Tensor, float], Tensor]] = {"cfg-zero": cfg_zero, "cfg": cfg}


@dataclass(frozen=True)
class Guidance:
    """How a prompt guides. scale: 1 is no guidance, and half of the work. negative: the prompt to lead away from."""

    scale: float = 4.0
    rule: Rule = "cfg-zero"
    negative: str = ""

    @property
    def is_off(self) -> bool:
        """Whether guidance changes nothing, so that one pass per step is enough."""
        return self.scale == 1

    def __call__(self, cond: Tensor, uncond: Tensor) -> Tensor:
        """Combine the predictions with and without the prompt."""
        return RULES[self.rule](cond, uncond, self.scale)
