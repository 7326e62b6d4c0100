"""The type in which blocks are averaged and means are multiplied: fp64, where a device has it."""

import re
from functools import lru_cache

import torch
from torch import Tensor

FP64_UNITS = re.compile(r"\b(V100|A100|A800|H100|H200|GH200|B100|B200|GB200|MI\d+\w*)\b")
"""GPUs whose fp64 is at least a third of their fp32. Others, H800, H20 and B300 among them, have a 30th to a 64th."""


def means_dtype(x: Tensor) -> torch.dtype:
    """Return the type of blocks' means and of their products, the scores: fp64 where the device has it.

    On a GPU that has none to speak of it is fp32, for halves: their sums over a block are exact in it, so that equal
    keys have equal means, and scores are right to some 2⁻²⁰ of their size.
    """
    halves = x.dtype in {torch.float16, torch.bfloat16}
    return torch.float32 if halves and not _has_fp64(x.device) else torch.float64


def _has_fp64(device: torch.device) -> bool:
    return device.type != "cuda" or FP64_UNITS.search(_name(device)) is not None


@lru_cache(maxsize=64)
def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)


def products(means_q: Tensor, means_k: Tensor) -> Tensor:
    """Multiply means; fp32 without TF32, which has ten digits, whatever the process allows."""
    if not means_q.is_cuda or means_q.dtype != torch.float32:
        return means_q @ means_k.mT
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return means_q @ means_k.mT
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
