"""Low-rank adapters in PEFT's names, merged into the weights that they adapt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from reelwright.training.errors import TrainError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FACTOR = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])(\.default)?\.weight")  # a model's state has the adapter's name


@dataclass(frozen=True)
class Rank:
    """How an adapter was trained. rank, alpha: of PEFT. rank_stabilized: its scale is alpha / √rank (rsLoRA)."""

    rank: int
    alpha: float
    rank_stabilized: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Return it from VideoAlign's `peft_lora_config`."""
        return cls(int(config["lora_r"]), float(config["lora_alpha"]), bool(config.get("use_rslora")))

    @property
    def scale(self) -> float:
        """Factor of B A."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilized else self.rank)


def merge(weights: Mapping[str, Tensor], rank: Rank | None, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the weights without adapters: W + scale · B A in float32, rounded once.

    Args:
        weights: by common names; an adapted layer is `LAYER.base_layer.weight`, or `LAYER.weight`.
        rank: of every adapter, if there are any.
        dtype: of the result.

    Raises:
        TrainError: a factor has another rank, or lacks its partner or its layer.
    """
    factors: dict[str, dict[str, Tensor]] = {}
    merged: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if found := FACTOR.fullmatch(name):
            factors.setdefault(found["layer"], {})[found["side"]] = weight
        else:
            merged[name.replace(".base_layer.", ".")] = weight
    for layer, sides in factors.items():
        name = f"{layer}.weight"
        if sides.keys() != {"A", "B"} or name not in merged:
            raise TrainError(f"the adapter of {layer!r} lacks a factor or its layer; name a complete checkpoint")
        down, up = sides["A"].float(), sides["B"].float()
        if rank is None:
            raise TrainError(f"{layer!r} has an adapter, and the checkpoint's settings say that there is none")
        if down.shape[0] != rank.rank or up.shape[1] != rank.rank:
            ranks = f"{down.shape[0]} and {up.shape[1]}"
            raise TrainError(f"the adapter of {layer!r} has factors of rank {ranks}, and its settings say {rank.rank}")
        merged[name] = (merged[name].float() + rank.scale * (up @ down)).to(dtype)
    return merged
