"""Random numbers of first weights: each rank of a sharded network makes its own part, the same on any layout."""

import hashlib

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

ROWS = 64
"""Rows of a weight that have a generator of their own: a rank makes at most that many beyond its shard."""


@torch.no_grad()
def fill_uniform(weight: Tensor, bound: float, key: str) -> None:
    """Fill a weight, or a rank's shard of it, with numbers from -bound to bound. A meta tensor is left alone.

    Args:
        weight: of one axis at least.
        bound: of the numbers.
        key: that the numbers follow from, with their place in the whole.
    """
    local, offset = weight, (0,) * weight.ndim
    if isinstance(weight, DTensor):
        local, offset = weight.to_local(), tuple(weight.__create_chunk_list__()[0].offsets)
    if not local.is_meta and local.numel():
        fill_rows(local, offset, tuple(weight.shape), bound, key)


def fill_rows(local: Tensor, offset: tuple[int, ...], shape: tuple[int, ...], bound: float, key: str) -> None:
    """Fill a part of a weight as `fill_uniform` fills the whole.

    Args:
        local: the part.
        offset: place of its first number.
        shape: of the whole.
        bound: of the numbers.
        key: that the numbers follow from.
    """
    begin, end = offset[0], offset[0] + local.shape[0]
    others = tuple(slice(o, o + n) for o, n in zip(offset[1:], local.shape[1:], strict=True))
    for first in range(begin // ROWS * ROWS, end, ROWS):
        rows = torch.rand(min(ROWS, shape[0] - first), *shape[1:], generator=_generator(key, first))
        low, high = max(begin, first), min(end, first + ROWS)
        part = rows[(slice(low - first, high - first), *others)] * (2 * bound) - bound
        local[low - begin : high - begin].copy_(part)


def _generator(key: str, first: int) -> torch.Generator:
    digest = hashlib.sha256(f"{key}/{first}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
