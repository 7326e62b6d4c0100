"""One rank's optimizer step at full size without GPUs: operators, collectives, bytes, by the trainer's own code.

Tensors have no storage, and the process group of any size has no processes. So this shows what FSDP2, context
parallelism and checkpointing really do, where the planner extrapolates from small networks and formulas.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_leaves

from reelwright.training.budget.live_bytes import LiveBytes
from reelwright.training.budget.operations import operator_flops
from reelwright.training.budget.traced import Shape, TracedRun, made_up_ranks
from reelwright.training.recipe import TrainRecipe

FP32 = 4


@dataclass(frozen=True)
class Collective:
    """A kind of collective operation, and the ranks that take part."""

    kind: str
    ranks: tuple[int, ...]


@dataclass
class Counts:
    """Of a step on one rank.

    operators: how often each ran. flops: of products and attention, those computed again included. moved: bytes that
    operators read and wrote. received: bytes by collective. calls: times each collective ran.
    """

    operators: Counter[str] = field(default_factory=Counter)
    flops: int = 0
    attention_flops: int = 0
    moved: int = 0
    product_moved: int = 0
    received: Counter[Collective] = field(default_factory=Counter)
    calls: Counter[Collective] = field(default_factory=Counter)

    def add(self, other: Counts, times: int = 1) -> None:
        """Add another's, `times` over."""
        for name in ("operators", "received", "calls"):
            for key, value in getattr(other, name).items():
                getattr(self, name)[key] += times * value
        for name in ("flops", "attention_flops", "moved", "product_moved"):
            setattr(self, name, getattr(self, name) + times * getattr(other, name))

    def without(self, kind: str) -> Counts:
        """Return the counts less a kind of collective."""
        kept: dict[str, Any] = {
            name: Counter({of: n for of, n in getattr(self, name).items() if of.kind != kind}) for name in _BY_KIND
        }
        return replace(self, **kept)


_BY_KIND = ("received", "calls")


@dataclass(frozen=True)
class StepTrace:
    """Operations, collectives and memory of a step.

    counts: of the whole step. peak: bytes of the rank that holds most, while it computes. lasting: of them, weights,
    optimizer state and averages.
    """

    counts: Counts
    peak: int
    lasting: int
    micro_batches: int


def trace_step(recipe: TrainRecipe, ranks: int, shape: Shape) -> StepTrace:
    """Trace a step on rank 0 of `ranks`, all of whose micro-batches have one shape.

    Optimizer and clipping are left out: they come when activations are gone.

    Args:
        recipe: of its full depth; nothing is allocated.
        ranks: processes of the run.
        shape: of every micro-batch.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    half = ranks > 1 and recipe.compute.precision == "bf16"
    with made_up_ranks(recipe.parallel, ranks) as world, FakeTensorMode():
        run = TracedRun(recipe, world, shape, half=half)
        return _trace(run, recipe.data.batches_per_step // world.data_size)


def _trace(run: TracedRun, micros: int) -> StepTrace:
    """Trace the first micro-batch and the last; those between equal the last, but for the sum over replicas."""
    lasting, whole = _lasting(run), Counts()
    few = min(micros, 3 if run.recipe.parallel.gradients == "whole" else 2)
    with _Recorder() as recorder:
        for i in range(few):
            run.micro_batch(last=i == few - 1)
            seen = recorder.take()
            whole.add(seen)
            if few == 2 < micros and i == 1:
                whole.add(seen.without("all-reduce"), times=micros - few)
            elif few == 3 and i == 1:
                whole.add(seen, times=micros - few)
    peak = max(size for size, _ in recorder.timeline())
    return StepTrace(whole, lasting + peak, lasting, micros)


def _lasting(run: TracedRun) -> int:
    """Bytes of this rank's weights, of AdamW's two averages, and of averaged weights."""
    copies = 2 + bool(run.recipe.optim.ema)
    sizes = [
        (p.requires_grad, getattr(p, "_local_tensor", p).numel(), p.element_size()) for p in run.model.parameters()
    ]
    return sum(count * (size + trained * copies * FP32) for trained, count, size in sizes)


class _Recorder(LiveBytes):
    """Live bytes, and counts of what ran."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()

    def take(self) -> Counts:
        """Return what ran since the last call."""
        counts, self.counts = self.counts, Counts()
        return counts

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        out = super().run(func, args, kwargs)
        counts = self.counts
        counts.operators[str(func)] += 1
        if (collective := collective_of(func, args)) is not None:
            kind, received = collective
            counts.calls[kind] += 1
            counts.received[kind] += received
        products, attention = operator_flops(func, args, out)
        counts.flops += products + attention
        counts.attention_flops += attention
        moved = 0 if func.is_view else bytes_moved(args, out)
        counts.moved += moved
        counts.product_moved += moved if products or attention else 0
        return out


def collective_of(func: Any, args: Any) -> tuple[Collective, int] | None:
    """Return a collective's kind and ranks, and the bytes that this rank receives; None for other operators.

    A ring's sum of N bytes over n ranks takes 2 N (n - 1) / n.
    """
    name = str(func).rsplit(".", 1)[0]
    if name not in COLLECTIVES:
        return None
    kind, times = COLLECTIVES[name]
    group = next(found for found in map(_group, tree_leaves(args)) if found is not None)
    ranks = tuple(dist.get_process_group_ranks(group))
    sizes = sorted(leaf.nbytes for leaf in tree_leaves(args) if isinstance(leaf, Tensor))
    whole = sizes[-1] * (len(ranks) if name in OF_A_PART else 1)
    return Collective(kind, ranks), round(times * whole * (len(ranks) - 1) / len(ranks))


COLLECTIVES = {
    "c10d._allgather_base_": ("all-gather", 1),
    "c10d._reduce_scatter_base_": ("reduce-scatter", 1),
    "c10d.allreduce_": ("all-reduce", 2),
    "_c10d_functional.all_to_all_single": ("all-to-all", 1),
    "reelwright.ring_attention": ("ring", 2),
    "reelwright.ring_attention_backward": ("ring", 6),
}
"""Kind, and how often the whole travels. A ring sends keys and values round, and in the backward pass their gradients
too, in fp32."""
OF_A_PART = {"reelwright.ring_attention", "reelwright.ring_attention_backward"}
"""Whose tensors are a rank's part of the whole."""


def _group(leaf: Any) -> dist.ProcessGroup | None:
    if isinstance(leaf, str):
        try:
            return dist.distributed_c10d._resolve_process_group(leaf)
        except Exception:
            return None
    if isinstance(leaf, torch.ScriptObject):
        try:
            return dist.ProcessGroup.unbox(leaf)
        except Exception:
            return None
    return leaf if isinstance(leaf, dist.ProcessGroup) else None


def bytes_moved(args: Any, out: Any) -> int:
    """Bytes that an operator reads and writes; a broadcast operand is read once."""
    leaves = [leaf for leaf in tree_leaves((args, out)) if isinstance(leaf, Tensor)]
    return sum(min(leaf.numel() * leaf.element_size(), leaf.untyped_storage().nbytes()) for leaf in leaves)
