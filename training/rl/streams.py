"""Random numbers of a rollout, from its sample's seed alone: the same on every rank, device and layout."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def number(seed: int, *words: object) -> int:
    """Return 63 bits that follow from a seed and the use of the number."""
    text = " ".join(str(word) for word in (seed, "rollout", *words))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def critical_step(seed: int, among: int) -> int:
    """Return the stochastic step of a group: one of the first so many."""
    return number(seed, "critical") % among


def first_noise(seeds: Sequence[int], shape: Sequence[int], *use: object) -> Tensor:
    """Return standard normal noise [B, …] in fp32 on the CPU, of one stream per seed."""
    return torch.stack([_normal(number(seed, "noise", *use), shape) for seed in seeds])


def step_noise(seeds: Sequence[int], group: int, shape: Sequence[int]) -> Tensor:
    """Return the noise of the stochastic step, [B, G, …] in fp32 on the CPU."""
    return torch.stack([torch.stack([_normal(number(seed, "step", i), shape) for i in range(group)]) for seed in seeds])


def _normal(seed: int, shape: Sequence[int]) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
