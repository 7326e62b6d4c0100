"""Communication of attention in a ring of ranks, and the merging of results computed from parts of the keys.

Three ranks; every rank keeps its queries, while keys and values (kv) go round, each step to the next rank:

    step    rank 0     rank 1     rank 2
    0       kv of 0    kv of 1    kv of 2
    1       kv of 2    kv of 0    kv of 1
    2       kv of 1    kv of 2    kv of 0

In the backward pass each kv is followed, a step behind, by its gradient, which gains every rank's share and is sent on
once more at the end, home.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class RingPass:
    """Keys and values on their way round a group of ranks, once. All ranks iterate over theirs.

        for step, kv, source in RingPass(kv, tokens, group):
            ...                                   # kv [2, B, heads, tokens[source], D] is of rank `source`

    The next kv arrives while the loop's body computes. A backward pass calls `add_grad` once in the body, and `grad`
    after the loop.
    """

    def __init__(self, kv: Tensor, tokens: Sequence[int], group: dist.ProcessGroup) -> None:
        """Start with this rank's keys and values; nothing is sent before the loop.

        Args:
            kv: [2, B, heads, N, D].
            tokens: N of each rank of the group.
            group: the ranks, in the ring's order.
        """
        self.kv = kv
        self.tokens = tokens
        self.group = group
        self.rank = dist.get_rank(group)
        self.step = 0
        self._grad: PendingRecv | None = None  # of the kv that is here, from the ranks it has visited

    @property
    def size(self) -> int:
        """Number of ranks."""
        return len(self.tokens)

    def source(self, step: int) -> int:
        """Return the rank that owns the keys held here at a step."""
        return (self.rank - step) % self.size

    def __iter__(self) -> Iterator[tuple[int, Tensor, int]]:
        kv = self.kv
        del self.kv  # a layer's keys and values are large, and these are here at the first step alone
        for step in range(self.size):
            self.step = step
            pending = self._send(kv) if step + 1 < self.size else None
            yield step, kv, self.source(step)
            kv = pending.wait() if pending else kv

    def add_grad(self, dkv: Tensor) -> None:
        """Add this rank's share to the gradient of the kv that is here, and send it on.

        Args:
            dkv: of kv's shape, in the type in which shares are added; the other ranks' are added to it in place.
        """
        if self._grad:
            dkv += self._grad.wait()
            self._grad = None  # what came and what was sent before: both as large
        self._grad = self._send(dkv)

    def grad(self) -> Tensor:
        """Return the gradient of this rank's kv, with every rank's share."""
        assert self._grad is not None
        return self._grad.wait()

    def _send(self, tensor: Tensor) -> "PendingRecv":
        shape = list(tensor.shape)
        shape[3] = self.tokens[self.source(self.step + 1)]
        return send_next(tensor, shape, self.group)


@dataclass
class PendingRecv:
    """A tensor on its way.

    Attributes:
        buffer: the tensor once it has arrived.
        works: the sending and the receiving.
        sent: the tensor that is sent meanwhile, kept until it has left.
    """

    buffer: Tensor
    works: list[Any]
    sent: Tensor

    def wait(self) -> Tensor:
        """Return the tensor when it has arrived."""
        for work in self.works:
            work.wait()
        return self.buffer


def send_next(tensor: Tensor, shape: Sequence[int], group: dist.ProcessGroup) -> PendingRecv:
    """Send to the next rank of the group, and receive from the one before. All ranks call it.

    Args:
        tensor: the tensor to send.
        shape: shape of the received tensor, which has the same type.
        group: the ranks, in the ring's order.
    """
    sent = tensor.contiguous()
    buffer = sent.new_empty(shape)
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    before, after = (dist.get_global_rank(group, (rank + step) % size) for step in (-1, 1))
    operations = [dist.P2POp(dist.isend, sent, after, group), dist.P2POp(dist.irecv, buffer, before, group)]
    return PendingRecv(buffer, dist.batch_isend_irecv(operations), sent)


def merge(out: Tensor, lse: Tensor, part: Tensor, part_lse: Tensor) -> None:
    """Merge, in place, the attention over a further set of keys into the attention so far.

    Args:
        out: [..., N, D].
        lse: [..., N], its log-sum-exp, -inf where no keys are seen. It may be of a wider type than out: the factors are
            computed in its type.
        part: [..., N, D], over the further keys.
        part_lse: [..., N].
    """
    both = torch.logaddexp(lse, part_lse.to(lse.dtype))
    finite = both.masked_fill(both == -torch.inf, 0)
    old, new = (torch.exp(x - finite).to(out.dtype)[..., None] for x in (lse, part_lse))
    out.mul_(old).add_(part * new)
    lse.copy_(both)
