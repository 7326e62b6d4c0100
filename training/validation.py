"""Loss on held-out clips with noise that never changes: per task and band of noise levels, comparable between steps."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from reelwright.training.batch import TASKS, Batch, Task
from reelwright.training.distributed.world import World
from reelwright.training.objectives.flow import Loss
from reelwright.training.recipe import ValidationConfig

LossOf = Callable[[Batch, Tensor], Loss]
"""(batch, t [B]) -> its loss; on a rank that has a strip of each sample, the strip's part of it."""


@torch.no_grad()
def validate(loss_of: LossOf, batches: Sequence[Batch], config: ValidationConfig, world: World) -> dict[str, float]:
    """{"val/loss": …, "val/t2v": …, "val/t2v/0.25-0.50": …}: mean squared errors, every sample counting alike.

    Every rank calls it with the same batches. Data ranks take turns at them; one that runs out computes its last one
    again without counting it, as a sharded model's forward passes need all ranks. Empty without batches.
    """
    names = [(task, band) for task in TASKS for band in range(config.bands)]
    sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    rounds = -(-len(batches) // world.data_size)
    order = [i * world.data_size + world.data_rank for i in range(rounds)]
    for mine, batch in zip(order, _read_ahead(batches, [min(i, len(batches) - 1) for i in order]), strict=True):
        for band in range(config.bands):
            errors = loss_of(batch, timesteps(batch.seeds, band, config.bands)).per_sample
            if mine < len(batches):
                sums[batch.task, band] += errors.double().sum().item()
                counts[batch.task, band] += len(batch.seeds) / world.context_size
    totals = world.sum([*sums.values(), *counts.values()])
    found = {n: (s, c) for n, s, c in zip(names, totals, totals[len(names) :], strict=False) if c}
    return _table(found, config.bands) if found else {}


def _read_ahead(batches: Sequence[Batch], order: Sequence[int]) -> Iterator[Batch]:
    """Yield batches in an order; a thread reads the next one while one is computed."""
    with ThreadPoolExecutor(1, thread_name_prefix="reel-validation") as pool:
        waiting = [pool.submit(batches.__getitem__, i) for i in order[:1]]
        for i in order[1:]:
            waiting.append(pool.submit(batches.__getitem__, i))
            yield waiting.pop(0).result()
        for last in waiting:
            yield last.result()


def timesteps(seeds: Sequence[int], band: int, bands: int) -> Tensor:
    """Return t [B] in the band [band / bands, (band + 1) / bands), each sample at a fixed point of it."""
    draws = [torch.rand((), generator=torch.Generator().manual_seed(seed ^ 1)) for seed in seeds]
    return (band + torch.stack(draws)) / bands


def _table(found: dict[tuple[Task, int], tuple[float, float]], bands: int) -> dict[str, float]:
    """found: (task, band) -> sum of errors and number of samples."""
    out = {"val/loss": _mean(found.values())}
    for task in dict.fromkeys(task for task, _ in found):
        out[f"val/{task}"] = _mean(value for (own, _), value in found.items() if own == task)
    for (task, band), value in found.items():
        out[f"val/{task}/{band / bands:.2f}-{(band + 1) / bands:.2f}"] = _mean([value])
    return out


def _mean(values: Iterable[tuple[float, float]]) -> float:
    sums, counts = zip(*values, strict=True)
    return sum(sums) / sum(counts)
