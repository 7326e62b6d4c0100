"""How long ranks wait for the costliest of the micro-batches that are computed side by side, from a plan alone.

    python -m benchmarks.rank_balance [RECIPE …]                   # stages 2 to 5 of configs/train

Sharded ranks go through a step in lockstep: a round costs as much as its costliest micro-batch. Prints `name value`
lines: `idle_RANKS` is the share of the ranks' time in which they wait, for 8 to 64 data ranks; `shares_off` is how far
the samples of a step are from the tasks' expected shares, at most over the tasks, in the median step, in the one that
95 of 100 stay below, and in the worst; `lacking` is steps without a task; `samples` is the samples of a step (5th, 50th
and 95th of 100); `shapes` are compiled.
Costs are FLOPs of the forward pass. The clips are made up: 2 to 20 s (log-uniform), 70 % at 16:9, the rest standing,
square and 4:3. All steps of two blocks of draws are counted, also where blocks end.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from reelwright.training.data.schedule import Schedule
from reelwright.training.recipe_file import load_recipe

CLIPS, BLOCKS = 20_000, 2
STAGES = ("stage2-t2v-256p", "stage3-all-256p", "stage4-all-480p", "stage5-all-720p")
SHAPES = ((1280, 720), (720, 1280), (1080, 1080), (1440, 1080))
SHARES = (0.7, 0.15, 0.05, 0.1)


def main() -> None:
    for path in map(Path, sys.argv[1:] or [f"configs/train/{stage}.yaml" for stage in STAGES]):
        recipe = load_recipe(path)
        plan = Schedule(clips(), recipe.data, recipe.tasks, recipe.model, recipe.seed)
        measure(f"rank_balance.{path.stem}", plan)


def measure(name: str, plan: Schedule) -> None:
    per_step = plan.data.batches_per_step
    steps = [plan.step(i) for i in range(plan.block_batches(BLOCKS - 1).stop // per_step)]
    costs = [[plan.cost(micro) for micro in step] for step in steps]
    for ranks in (ranks for ranks in (8, 16, 32, 64) if per_step % ranks == 0):
        idle = 1 - sum(map(sum, costs)) / ranks / sum(lockstep(of, ranks) for of in costs)
        print(f"{name}.idle_{ranks} {idle:.3f}")
    drawn = np.array([[sum(len(m.samples) for m in step if m.task == t) for t in plan.names] for step in steps], float)
    expected = np.array(plan.plan.facts.expected).sum(0)
    off = abs(drawn / drawn.sum(1, keepdims=True) - expected / expected.sum()).max(1)
    print(f"{name}.shares_off {np.median(off):.3f} {np.quantile(off, 0.95):.3f} {off.max():.3f}")
    print(f"{name}.lacking {(drawn == 0).any(1).sum()} of {len(steps)}")
    print(f"{name}.samples", *np.quantile(drawn.sum(1), (0.05, 0.5, 0.95)).astype(int))
    print(f"{name}.shapes {len(plan.shapes())} bands {plan.mixture.bands}", flush=True)


def lockstep(costs: Sequence[int], ranks: int) -> int:
    """A step's cost, each round of `ranks` micro-batches as long as its longest."""
    return sum(max(costs[i : i + ranks]) for i in range(0, len(costs), ranks))


def clips() -> pa.Table:
    rng = np.random.default_rng(0)
    sizes = np.array(SHAPES)[rng.choice(len(SHAPES), CLIPS, p=SHARES)]
    seconds = np.exp(rng.uniform(np.log(2), np.log(20), CLIPS))
    return pa.table({
        "clip_id": [f"{i:06}" for i in range(CLIPS)], "source_md5": [f"{i}" for i in range(CLIPS)],
        "width": sizes[:, 0], "height": sizes[:, 1], "weight": np.ones(CLIPS), "fps": np.full(CLIPS, 24.0),
        "num_frames": np.rint(24 * seconds).astype(int),
    })  # fmt: skip


if __name__ == "__main__":
    main()
