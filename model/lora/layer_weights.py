"""A LoRA's weights for one layer, as files hold them."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class LayerWeights:
    """A file's tensors for one layer: down [blocks · rank, in], ups of [out / blocks, rank], scale = alpha / rank."""

    down: Tensor
    ups: list[Tensor] = field(default_factory=list)
    scale: Tensor = field(default_factory=lambda: torch.tensor(1.0))

    @property
    def rank(self) -> int:
        """Rank of each up matrix."""
        return self.down.shape[0] // len(self.ups)

    @property
    def alpha(self) -> float:
        """Alpha: scale times rank."""
        return float(self.scale) * self.rank
