"""Strips: parts of the frames of a sample's token grid, dealt out to the ranks of a context group.

A ring deals rows, or rows of whole blocks (`Strips`); where every rank sees every token anyway (Ulysses), tokens are
dealt, so that the parts differ by one token per frame (`TokenStrips`). Three rows of 4 tokens over 2 ranks:

    Strips     0 0 0 0    TokenStrips     0 0 0 0
               0 0 0 0                    0 0 1 1
               1 1 1 1                    1 1 1 1
"""

from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from reelwright.training.batch import Strip, TokenStrip
from reelwright.training.errors import TrainError


@dataclass
class Strips:
    """How many token rows each rank of a context group has of the sample at hand; set by `ContextParallel.share`."""

    group: dist.ProcessGroup
    rank: int
    size: int
    rows: tuple[int, ...] = field(default=())
    multiple: int = 1
    """Of rows, for all strips but the last."""

    def divide(self, rows: int, columns: int = 1) -> Strip:
        """Share out a token grid's rows, the remainder among the first ranks; return this rank's part."""
        multiple = self.multiple
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


@dataclass
class TokenStrips:
    """How many tokens of each frame every rank of a context group has; set by `ContextParallel.share`.

    grid: (rows, columns) of a frame.
    """

    group: dist.ProcessGroup
    rank: int
    size: int
    tokens: tuple[int, ...] = field(default=())
    grid: tuple[int, int] = (0, 0)

    def divide(self, rows: int, columns: int) -> TokenStrip:
        """Share out a frame's tokens, the remainder among the first ranks; return this rank's part."""
        each, more = divmod(rows * columns, self.size)
        if not each:
            raise TrainError(
                f"parallel.context {self.size}: a frame has only {rows * columns} tokens to share; "
                "use fewer context ranks or larger sizes"
            )
        self.tokens = tuple(each + (rank < more) for rank in range(self.size))
        self.grid = (rows, columns)
        return TokenStrip(sum(self.tokens[: self.rank]), self.tokens[self.rank], columns)


def attention_types(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """In the type that attention computes in, before they travel: autocast's, or v's."""
    kind = q.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else v.dtype
    return q.to(dtype), k.to(dtype), v.to(dtype)
