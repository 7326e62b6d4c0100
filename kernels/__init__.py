"""Block-sparse attention on token grids, for any model. It depends on torch, and on triton for its GPU kernels.

from reelwright.kernels import TopR, block_sparse_attention
out = block_sparse_attention(q, k, v, grid_q=(24, 30, 52), grid_k=(24, 30, 52), select=TopR(1 / 16))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reelwright.kernels.attention import attend, block_sparse_attention, put_back, put_in_order
    from reelwright.kernels.blocks import BlockGrid, block_grids
    from reelwright.kernels.call import BlockSparseCall
    from reelwright.kernels.lists import BlockLists
    from reelwright.kernels.patterns import causal_by_frame, plane_and_time, sliding_tile
    from reelwright.kernels.selection import CDF, TopR, select_blocks

__all__ = [
    "CDF",
    "BlockGrid",
    "BlockLists",
    "BlockSparseCall",
    "TopR",
    "attend",
    "block_grids",
    "block_sparse_attention",
    "causal_by_frame",
    "plane_and_time",
    "put_back",
    "put_in_order",
    "select_blocks",
    "sliding_tile",
]

_HOMES = {
    "attention": ("attend", "block_sparse_attention", "put_back", "put_in_order"),
    "blocks": ("BlockGrid", "block_grids"),
    "call": ("BlockSparseCall",),
    "lists": ("BlockLists",),
    "patterns": ("causal_by_frame", "plane_and_time", "sliding_tile"),
    "selection": ("CDF", "TopR", "select_blocks"),
}


def __getattr__(name: str) -> Any:
    """Load a name, and torch with it, when it is first used: importing the package costs nothing."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"reelwright.kernels.{module}"), name)
    raise AttributeError(f"module 'reelwright.kernels' has no attribute {name!r}")
