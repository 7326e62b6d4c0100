"""Strips: the rows of a sample's token grid, dealt out to the ranks of a context group.

rows of tokens   0 ┌───────────┐
                   │  rank 0   │   all frames and columns
                 3 ├───────────┤
                   │  rank 1   │
                 5 └───────────┘
"""

from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from reelwright.training.batch import Strip
from reelwright.training.errors import TrainError


@dataclass
class Strips:
    """How many token rows each rank of a context group has of the sample at hand; set by `ContextParallel.share`."""

    group: dist.ProcessGroup
    rank: int
    size: int
    rows: tuple[int, ...] = field(default=())
    multiple: int = 1
    """Of rows, for all strips but the last. strict: of samples that have too few rows for it too, which then fail."""
    strict: bool = False

    @property
    def even(self) -> bool:
        """Whether the strips at hand are of such multiples."""
        return not any(rows % self.multiple for rows in self.rows[:-1])

    def divide(self, rows: int) -> Strip:
        """Share out a token grid's rows, the first ranks getting what does not divide; returns this rank's."""
        multiple = self.multiple if self.strict or rows > self.multiple * (self.size - 1) else 1
        units = -(-rows // multiple)
        if units < self.size:
            of = f" in blocks of {multiple}" if multiple > 1 else ""
            raise TrainError(
                f"parallel.context {self.size}: a sample has only {rows} rows of tokens{of} to share; "
                "use fewer context ranks or larger sizes"
            )
        each, more = divmod(units, self.size)
        shares = [(each + (rank < more)) * multiple for rank in range(self.size)]
        shares[-1] -= sum(shares) - rows
        self.rows = tuple(shares)
        return Strip(sum(self.rows[: self.rank]), self.rows[self.rank])


def attention_types(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """In the type that attention computes in, before they travel: autocast's, or v's."""
    kind = q.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else v.dtype
    return q.to(dtype), k.to(dtype), v.to(dtype)
