"""Shape of the samples that a run's network is shown by, and of the tiles that they are decoded in."""

from reelwright.training.data.buckets import main_bucket
from reelwright.training.recipe import SampleConfig, TrainRecipe

SAMPLE_TILE_PX = 256
"""Side of the tiles that samples and rollouts are decoded in, unless the recipe's codec names another."""


def sample_shape(recipe: TrainRecipe) -> tuple[int, int, int]:
    """Return (width, height, frames) to sample at: the shape of the recipe's samples, else of its largest bucket."""
    asked, default = recipe.samples, SampleConfig()
    if asked.every or (asked.size, asked.frames) != (default.size, default.frames):
        return *asked.size, asked.frames
    bucket = main_bucket(recipe.data)
    return bucket.width, bucket.height, bucket.frames
