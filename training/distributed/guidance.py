"""Guidance over the strips of a context group, as the sampler has it over whole samples."""

import torch
import torch.distributed as dist
from torch import Tensor

from reelwright.model.sampling.guidance import Guidance, cfg


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
