"""How long ranks wait for the costliest of the micro-batches that are computed side by side, from a plan alone.

    python -m benchmarks.rank_balance [RECIPE]                     # configs/train/stage4-all-480p.yaml

Sharded ranks go through a step in lockstep: a round costs what its costliest micro-batch does. Prints `name value`
lines for 8 to 64 data ranks: `idle` is the share of the ranks' time in which they wait, with a step's micro-batches in
the order in which they were drawn and as `Schedule.step` sorts them; `steps_per_s` is the gain. Costs are FLOPs of the
forward pass. The clips are made up: 2 to 20 s (log-uniform), 70 % at 16:9, the rest standing, square and 4:3.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from reelwright.recipe_files import load
from reelwright.training.data.schedule import Schedule
from reelwright.training.recipe import TrainRecipe

CLIPS, STEPS = 20_000, 200
SHAPES = ((1280, 720), (720, 1280), (1080, 1080), (1440, 1080))
SHARES = (0.7, 0.15, 0.05, 0.1)


def main() -> None:
    recipe = load(TrainRecipe, Path(sys.argv[1] if len(sys.argv) > 1 else "configs/train/stage4-all-480p.yaml"))
    plan = Schedule(clips(), recipe.data, recipe.tasks, recipe.model, recipe.seed)
    per_step = recipe.data.batches_per_step
    drawn = [[plan.cost(plan.batch(k)) for k in range(i * per_step, (i + 1) * per_step)] for i in range(STEPS)]
    dealt = [[plan.cost(micro) for micro in plan.step(i)] for i in range(STEPS)]
    for ranks in (ranks for ranks in (8, 16, 32, 64) if per_step % ranks == 0):
        before, after = (sum(lockstep(costs, ranks) for costs in steps) for steps in (drawn, dealt))
        least = sum(map(sum, drawn)) / ranks
        print(f"rank_balance.{ranks}.idle_as_drawn {1 - least / before:.3f}")
        print(f"rank_balance.{ranks}.idle_sorted {1 - least / after:.3f}")
        print(f"rank_balance.{ranks}.steps_per_s {before / after:.3f}")


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
