"""Block-sparse attention on token grids, for any model. It depends on torch, and on triton for its GPU kernels.

from reelwright.kernels import TopR, block_sparse_attention
out = block_sparse_attention(q, k, v, grid_q=(24, 30, 52), grid_k=(24, 30, 52), select=TopR(1 / 16))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reelwright.lazy import lazy

if TYPE_CHECKING:
    from reelwright.kernels.attention import attend as attend
    from reelwright.kernels.attention import block_sparse_attention as block_sparse_attention
    from reelwright.kernels.attention import put_back as put_back
    from reelwright.kernels.attention import put_in_order as put_in_order
    from reelwright.kernels.blocks import BlockGrid as BlockGrid
    from reelwright.kernels.blocks import block_grids as block_grids
    from reelwright.kernels.call import BlockSparseCall as BlockSparseCall
    from reelwright.kernels.lists import BlockLists as BlockLists
    from reelwright.kernels.patterns import causal_by_frame as causal_by_frame
    from reelwright.kernels.patterns import plane_and_time as plane_and_time
    from reelwright.kernels.patterns import sliding_tile as sliding_tile
    from reelwright.kernels.selection import CDF as CDF
    from reelwright.kernels.selection import TopR as TopR
    from reelwright.kernels.selection import select_blocks as select_blocks

_HOME = {
    "CDF": "selection",
    "BlockGrid": "blocks",
    "BlockLists": "lists",
    "BlockSparseCall": "call",
    "TopR": "selection",
    "attend": "attention",
    "block_grids": "blocks",
    "block_sparse_attention": "attention",
    "causal_by_frame": "patterns",
    "plane_and_time": "patterns",
    "put_back": "attention",
    "put_in_order": "attention",
    "select_blocks": "selection",
    "sliding_tile": "patterns",
}

__all__ = list(_HOME)

if not TYPE_CHECKING:  # a checker would take any name for granted
    __getattr__, __dir__ = lazy(__name__, _HOME)
