"""What it costs a run to keep each clip's loss (`log.clip_loss_bands`): CPU time per step, with and without.

    python -m benchmarks.clip_losses [--pairs 4] [--steps 60]

The closed loop's small DiT and drawn footage, in one process and one thread. Runs with and without take turns, and
which goes first changes from pair to pair; CPU time of the process is counted, which others on the machine change
little.
A run's start is in both, so it is measured too, by runs of one step, and taken off. Prints the ratio per pair, and its
mean with a 95 % interval (Student's t). The network is small and a loss is one number per clip, whatever the network:
on a large one the share is smaller.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t

from benchmarks.closed_loop.footage import build
from benchmarks.closed_loop.study import SQL, recipe_of
from reelwright.curation.store import Store
from reelwright.pipelines.train.run import Job, run_here
from reelwright.training.recipe import TrainRecipe

BANDS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default=4, type=int)
    parser.add_argument("--steps", default=60, type=int)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = build(folder / "store", each=6, starved=2)
        store.snapshots.create("all", SQL)
        cost(store, folder, 0, 1)  # latents are cached, libraries loaded
        ratios = []
        for pair in range(args.pairs):
            order = (0, BANDS) if pair % 2 else (BANDS, 0)
            of = {bands: (cost(store, folder, bands, 1), cost(store, folder, bands, args.steps)) for bands in order}
            per_step = {bands: (whole - start) / (args.steps - 1) for bands, (start, whole) in of.items()}
            ratios.append(per_step[BANDS] / per_step[0])
            print(f"pair {pair}: {1000 * per_step[0]:.1f} ms per step without, {1000 * per_step[BANDS]:.1f} with, "
                  f"ratio {ratios[-1]:.3f}", flush=True)  # fmt: skip
        half = t.ppf(0.975, len(ratios) - 1) * np.std(ratios, ddof=1) / np.sqrt(len(ratios))
        print(f"ratio {np.mean(ratios):.3f} ± {half:.3f}, {len(ratios)} pairs of {args.steps} steps")


def cost(store: Store, folder: Path, bands: int, steps: int) -> float:
    """Return the CPU seconds of a run."""
    settings = recipe_of(0, steps, folder / "cache")
    settings["log"] |= {"clip_loss_bands": bands}
    recipe = TrainRecipe.model_validate(settings)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        began = time.process_time()
        if code := run_here(Job(recipe, "closed", "all", store.uri, out), say=lambda _: None):
            raise SystemExit(code)
        return time.process_time() - began


if __name__ == "__main__":
    main()
