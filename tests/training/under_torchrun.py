"""A rank of the loop on made-up clips: torchrun … -m tests.training.under_torchrun FOLDER STEPS PARALLEL_JSON."""

import json
import sys
from pathlib import Path

import torch

from model.dit import DiT
from tests.training.made_up import ABOUT, MadeUp, recipe_of
from training.loop import train
from training.parallel import parallelize
from training.world import started


def be_a_rank(folder: str, steps: int, parallel: str) -> None:
    recipe = recipe_of(parallel=json.loads(parallel), steps=steps)
    with started(recipe.parallel, device="cpu") as world:
        model = parallelize(DiT(recipe.model).init_weights(recipe.seed), recipe.parallel, recipe.compute, world)
        train(recipe, MadeUp(recipe, world), world, Path(folder), model=model, about=ABOUT)


if __name__ == "__main__":
    torch.set_num_threads(1)
    be_a_rank(sys.argv[1], int(sys.argv[2]), sys.argv[3])
