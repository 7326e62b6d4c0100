"""Where the loss weight is taken: at the draw or at the shifted level, in miniature, at the shift of 480p × 93.

    python -m benchmarks.loss_weight [../shared/corpus] [--steps 900] [--seeds 3] [--keep FOLDER]

Trains the network of `benchmarks.train` with `objective.weight_at: draw` and `level`, each with several seeds, at a
shift of 12, which the published sampler has at 480p × 93. Prints means over seeds with their 95 % intervals (Student's
t): the validation loss on held-out clips by band of noise levels, and the PSNR of generated clips against the prompt's.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.train import FOLDER, SNAPSHOT, make_store, recipe_of, write_sheet
from reelwright.curation.store import Store
from reelwright.pipelines.precompute.run import Options, precompute
from reelwright.training.data.prepared import Clips
from reelwright.training.distributed.world import World
from reelwright.training.logs import read_log
from reelwright.training.recipe import TrainRecipe
from reelwright.training.run import run

STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % point, by number of seeds
TOKENS = 3 * 4 * 6  # of 9 frames of 96 × 64: latents of 3 × 8 × 12, tokens of 2 × 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", default="../shared/corpus", type=Path)
    parser.add_argument("--steps", default=900, type=int)
    parser.add_argument("--seeds", default=3, type=int, choices=sorted(STUDENT_T))
    parser.add_argument("--keep", type=Path, help="folder for store and runs; default: a temporary one")
    parser.add_argument("--threads", default=2, type=int, help="of torch; fewer on a busy machine")
    args = parser.parse_args()
    if not (args.corpus / FOLDER).is_dir():
        sys.exit(f"skipped: {args.corpus / FOLDER} is not there; give the corpus' folder")
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        store = make_store(args.corpus, folder / "store")
        precompute(store, SNAPSHOT, recipe_of(args.steps), Options(workers=1, quiet=True))
        for weight_at in ("draw", "level"):
            report(weight_at, [train(store, args.steps, weight_at, seed, folder) for seed in range(args.seeds)])


def train(store: Store, steps: int, weight_at: str, seed: int, folder: Path) -> dict[str, float]:
    """Train one network, or resume it where `folder` has it, and return its figures."""
    changes: dict[str, Any] = {
        "seed": seed,
        "objective": {"kind": "flow", "weight_at": weight_at, "reference_tokens": TOKENS},
    }
    recipe = TrainRecipe.model_validate({**recipe_of(steps).model_dump(exclude_unset=True), **changes})
    where = folder / f"{weight_at}-{seed}"
    run(recipe, Clips(store, SNAPSHOT), where, World.alone("cpu"))
    last = [row for row in read_log(where) if "val/loss" in row][-1]
    bands = {name.removeprefix("val/t2v/"): value for name, value in last.items() if name.startswith("val/t2v/")}
    sheet = where / "sheet.png"
    return {**bands, **write_sheet(store, recipe, where, sheet)}


def report(weight_at: str, runs: list[dict[str, float]]) -> None:
    for name in runs[0]:
        values = np.array([r[name] for r in runs])
        half = STUDENT_T[len(values)] * values.std(ddof=1) / np.sqrt(len(values))
        print(f"{weight_at} {name} {values.mean():.4g} ± {half:.2g}", flush=True)


if __name__ == "__main__":
    main()
