"""Means over whole samples where a rank has a strip of each, and losses that are no sums over strips."""

import torch.distributed as dist
from torch import Tensor

from reelwright.training.batch import Batch
from reelwright.training.distributed.world import World


def mean_of(values: Tensor, batch: Batch, group: dist.ProcessGroup | None) -> Tensor:
    """Return the mean over the noisy frames of whole samples, [B] or [B, G].

    The value is the whole's on every rank of the group; gradients flow into this rank's strip alone.

    Args:
        values: [B, C, T, H, W] or [B, G, C, T, H, W] of the batch's strip.
        batch: whose samples they are of.
        group: the ranks that have the other strips; None: `values` are whole.
    """
    clean = batch.cond_frames
    noisy = values.narrow(-3, clean, values.shape[-3] - clean)
    part = noisy.flatten(-4).sum(-1) / batch.latents[0, :, clean:].numel()
    if batch.strip is None or group is None:
        return part
    whole = part.detach().clone()
    dist.all_reduce(whole, group=group)
    return part + (whole - part.detach())


def total_of(per_prompt: Tensor, batch: Batch, world: World) -> Tensor:
    """Return a rank's part of the step's loss, from losses [B] of whole samples.

    The ranks that share samples all have the whole's value: each counts a part of it, so that the parts of all ranks
    add up to the step's loss. Gradients are left whole, as each rank's go through its own strip.
    """
    total = per_prompt.sum() / batch.samples_in_step
    if batch.strip is None:
        return total
    return total - total.detach() * (1 - 1 / world.context_size)
