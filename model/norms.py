"""Normalisation in fp32, whatever the type around it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last dim, in fp32, given back in x's type. Without weights unless `affine`."""

    def __init__(self, dim: int, *, affine: bool = False) -> None:
        super().__init__(dim, eps=EPS, elementwise_affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        weight = None if self.weight is None else self.weight.float()
        bias = None if self.bias is None else self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class HeadNorm(nn.Module):
    """RMS norm over the head dim: in fp32, cast back, then times weight."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D]."""
        return F.rms_norm(x.float(), x.shape[-1:], None, EPS).to(x.dtype) * self.weight.to(x.dtype)
