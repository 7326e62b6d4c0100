"""Advantages of samples within their groups, from several rewards (report, eqs 9 and 51).

    (1) μ_gk, σ_gk: mean and population deviation of reward k in group g, over its samples that have a score
    (2) σ_k = the largest σ_gk over all groups of the step, on all ranks
    (3) A_i = Σ_k w_k (R_ik - μ_gk) / (σ_k + e), cut at ± the clip

The largest deviation keeps a group whose samples hardly differ, where a reward shows noise alone, from being blown up.
A failed score counts for nothing: its sample has no part in reward k. A group with fewer than two scores of a reward
has nothing to compare, and gives 0 for it. The report leaves e, the clip and the kind of deviation open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

EPS = 1e-4
"""e of eq. 3, beside the deviation."""

Scale = Literal["largest", "group"]
"""What an advantage is divided by: σ_k of eq. 2, or each group's own σ_gk, as GRPO for language has it."""


@dataclass(frozen=True)
class Advantages:
    """Advantages and what they were made of.

    values: [N], summed over the rewards. means, stds: [groups, K] of eq. 1, nan where a group has no score. largest:
    [K] of eq. 2. left_out: bool [groups, K], groups with fewer than two scores. clipped: share of the values that were
    cut.
    """

    values: Tensor
    means: Tensor
    stds: Tensor
    largest: Tensor
    left_out: Tensor
    clipped: float


def advantages(
    groups: Tensor,
    scores: Tensor,
    scored: Tensor,
    weights: Sequence[float],
    *,
    clip: float = 0.0,
    scale: Scale = "largest",
    eps: float = EPS,
) -> Advantages:
    """Compute the advantages of the samples of a step, of all ranks, in any order.

    Args:
        groups: int64 [N], the id of each sample's group. Not its prompt: two groups may have the same one.
        scores: float64 [N, K] of K rewards; any number where there is no score.
        scored: bool [N, K], where there is one.
        weights: of the rewards, [K].
        clip: largest size of an advantage; 0: any.
        scale: the deviation that is divided by.
        eps: added to it.
    """
    _, place = groups.unique(return_inverse=True)
    count = int(place.max()) + 1
    there = scored.double()
    known = torch.where(scored, scores.double(), 0.0)

    def per_group(values: Tensor) -> Tensor:
        return torch.zeros(count, values.shape[1], dtype=torch.float64).index_add_(0, place, values)

    number = per_group(there)
    means = per_group(known) / number  # 0 / 0 is nan: of a group without a score
    away = torch.where(scored, known - means[place], 0.0)
    stds = (per_group(away.square()) / number).sqrt()
    compared = number >= 2
    largest = torch.where(compared, stds, 0.0).amax(0)
    divisor = (largest if scale == "largest" else stds[place]) + eps
    each = torch.where(scored & compared[place], away / divisor, 0.0)
    total = each @ torch.tensor(list(weights), dtype=torch.float64)
    values = total.clamp(-clip, clip) if clip else total
    return Advantages(values, means, stds, largest, ~compared, (values != total).double().mean().item())
