"""Bytes that a rank holds while its reading threads make pairs on the fly."""

from reelwright.training.data.buckets import buckets_of
from reelwright.training.recipe import TrainRecipe

FP32 = 4
VIDEOS = 3
"""At once, per thread: the clip or its encoder's input, the first stage enlarged in space, and in time too."""


def pair_bytes(recipe: TrainRecipe) -> int:
    """Return the bytes of the frames of pairs, beside the encoders' own; 0 where pairs are stored."""
    if recipe.data.pair is None or recipe.data.encode.latents == "precomputed":
        return 0
    pixels = max(bucket.frames * bucket.height * bucket.width for bucket in buckets_of(recipe.data))
    return VIDEOS * 3 * pixels * FP32 * max(1, recipe.data.workers)
