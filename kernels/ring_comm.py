"""What travels round a group of ranks, and how what was computed from its parts becomes one: for rings of attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass
class Arriving:
    """A tensor on its way. sent: kept until it has left."""

    buffer: Tensor
    works: list[Any]
    sent: Tensor

    def wait(self) -> Tensor:
        for work in self.works:
            work.wait()
        return self.buffer


def pass_on(tensor: Tensor, shape: Sequence[int], group: dist.ProcessGroup) -> Arriving:
    """Send to the next rank of the group, and take from the one before what is of `shape`. All ranks call it."""
    sent = tensor.contiguous()
    buffer = sent.new_empty(shape)
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    before, after = (dist.get_global_rank(group, (rank + step) % size) for step in (-1, 1))
    operations = [dist.P2POp(dist.isend, sent, after, group), dist.P2POp(dist.irecv, buffer, before, group)]
    return Arriving(buffer, dist.batch_isend_irecv(operations), sent)


def merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """out [..., N, D] ← the attention over both sets of keys, in place; lse [..., N] likewise; -inf: no keys seen.

    lse may be wider than out: what is weighed with is computed in its type.
    """
    both = torch.logaddexp(lse, part_lse.to(lse.dtype))
    level = both.masked_fill(both == -torch.inf, 0)
    old, new = (torch.exp(x - level).to(out.dtype)[..., None] for x in (lse, part_lse))
    out.mul_(old).add_(part * new)
    lse.copy_(both)
