"""What block-sparse attention is timed against: PyTorch's dense attention by each backend, and FlexAttention."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from reelwright.kernels import BlockGrid, BlockLists

Run = Callable[[], Any]


def both(attention: Callable[..., Tensor], tensors: list[Tensor]) -> Run:
    """Forward and backward of queries, keys and values, the last of `tensors` being the output's gradient."""
    *leaves, grad = tensors
    return lambda: torch.autograd.grad(attention(*leaves), leaves, grad.detach())


def dense_kernels(cuda: bool) -> dict[str, Callable[..., Tensor]]:
    """Return PyTorch's dense attention by each fused kernel of a device, by name; on a CPU there is one."""
    if not cuda:
        return {"": F.scaled_dot_product_attention}
    return {name: partial(_dense, name) for name in ("CUDNN_ATTENTION", "FLASH_ATTENTION")}


def dense_runs(tensors: list[Tensor]) -> dict[str, Run]:
    """By name: "dense f CUDNN_ATTENTION" and so on, f a forward pass, b both; on a CPU there is one backend."""
    plain = [x.detach() for x in tensors[:3]]
    runs: dict[str, Run] = {}
    for backend in ("CUDNN_ATTENTION", "FLASH_ATTENTION") if plain[0].is_cuda else ("",):
        runs[f"dense f {backend}"] = lambda b=backend: _dense(b, *plain)
        runs[f"dense b {backend}"] = both(lambda *x, b=backend: _dense(b, *x), tensors)
    return runs


def _dense(backend: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(getattr(SDPBackend, backend)) if backend else nullcontext():
        return F.scaled_dot_product_attention(q, k, v)


def flex_runs(
    tensors: list[Tensor], lists: BlockLists, grids: tuple[BlockGrid, BlockGrid], *, plain_torch: bool = False
) -> dict[str, Run]:
    """FlexAttention on the same blocks; tensors in block order. It has no backward pass on a CPU.

    plain_torch: uncompiled, for a walk through.

    Its default tiles on Hopper are larger than 64-token blocks, and refused: the search finds those that divide them.
    """
    from torch.nn.attention.flex_attention import flex_attention

    plain = [x.detach() for x in tensors[:3]]
    mode = "max-autotune-no-cudagraphs" if plain[0].is_cuda else None
    compiled = flex_attention if plain_torch else torch.compile(flex_attention, mode=mode, dynamic=False)
    mask = cache(lambda: _flex_mask(lists, *grids, plain[0].device))  # made in the run that is not counted
    runs: dict[str, Run] = {"flex f": lambda: compiled(*plain, block_mask=mask())}
    if plain[0].is_cuda:
        runs["flex b"] = both(lambda *x: compiled(*x, block_mask=mask()), tensors)
    return runs


def other_runs(tensors: list[Tensor], lists: BlockLists, grids: tuple[BlockGrid, BlockGrid]) -> dict[str, Run]:
    """Return other libraries' block-sparse kernels, where they are installed; all blocks must be full, 64 tokens each.

    FastVideo's selects by itself, and its time has the selection in it; FlashInfer's takes one mask for all heads, the
    first head's, and has no backward pass. Both are called as their documentation says, and have not run here.
    """
    runs: dict[str, Run] = {}
    plain = [x.detach() for x in tensors[:3]]
    if not plain[0].is_cuda:
        return runs
    if find_spec("fastvideo_kernel"):
        attention = partial(
            import_module("fastvideo_kernel").video_sparse_attn,
            variable_block_sizes=grids[0].offsets(plain[0].device).diff(), topk=int(lists.counts.max()),
        )  # fmt: skip
        runs |= {"FastVideo f": lambda: attention(*plain), "FastVideo b": both(attention, tensors)}
    if find_spec("flashinfer"):
        wrapper = cache(lambda: _flashinfer(plain[0], lists, grids))
        rows = cache(lambda: [x[0].transpose(0, 1).contiguous() for x in plain])  # [N, heads, D]
        runs["FlashInfer f"] = lambda: wrapper().run(*rows())
    return runs


def _flashinfer(q: Tensor, lists: BlockLists, grids: tuple[BlockGrid, BlockGrid]) -> Any:
    """Plan FlashInfer's kernel on the first head's blocks, as rows of compressed sparse blocks."""
    flashinfer = import_module("flashinfer")
    indices, counts = lists.indices[0, 0], lists.counts[0, 0]
    starts = F.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))
    workspace = torch.empty(128 << 20, dtype=torch.uint8, device=q.device)
    wrapper = flashinfer.BlockSparseAttentionWrapper(workspace)
    heads, dim = q.shape[1], q.shape[3]
    wrapper.plan(
        starts, indices[indices >= 0], grids[0].tokens, grids[1].tokens, grids[0].capacity, grids[1].capacity,
        heads, heads, dim, q_data_type=q.dtype,
    )  # fmt: skip
    return wrapper


def _flex_mask(lists: BlockLists, grid_q: BlockGrid, grid_k: BlockGrid, device: torch.device) -> Any:
    """Whole blocks where they are alike; else a mask of tokens, whose blocks Flex finds by itself."""
    from torch.nn.attention.flex_attention import BlockMask, create_block_mask

    kept = lists.mask(grid_k.count)
    if all(g.count * g.capacity == g.tokens for g in (grid_q, grid_k)):
        order = (~kept).to(torch.int8).argsort(dim=-1, stable=True).to(torch.int32)
        none = torch.zeros_like(lists.counts)
        sizes = (grid_q.capacity, grid_k.capacity)
        return BlockMask.from_kv_blocks(none, torch.zeros_like(order), lists.counts, order, BLOCK_SIZE=sizes)
    owner_q, owner_k = (
        torch.arange(g.count, device=device).repeat_interleave(g.offsets(device).diff()) for g in (grid_q, grid_k)
    )
    sizes = (*kept.shape[:2], grid_q.tokens, grid_k.tokens)
    # not compiled, it would hold heads × tokens² of mask
    return torch.compile(create_block_mask, dynamic=False)(
        lambda b, h, i, j: kept[b, h, owner_q[i], owner_k[j]], *sizes, device=device
    )
