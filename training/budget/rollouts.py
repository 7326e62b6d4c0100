"""Needs of an update by rollouts: calls of the network, videos and rewards, operations and time, memory of a rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reelwright.model.flops import forward_flops
from reelwright.training.budget.memory import batch_size
from reelwright.training.budget.throughput import step_flops
from reelwright.training.data.buckets import Bucket, buckets_of
from reelwright.training.recipe import TrainRecipe

DECODER_FLOPS_PER_PX = 8.5e6
"""Of Wan 2.1's decoder per pixel of a decoded frame: counted on diffusers' AutoencoderKLWan over 33 frames (8.51e6)."""


@dataclass(frozen=True)
class RolloutPlan:
    """An update whose videos are all of one bucket, over all ranks.

    prompts: groups of an update. videos: that are made and decoded; each reward is asked about all at most. calls:
    guided predictions of one sample, for one prompt, and alone: without sharing. passes: of the network over one
    sample, of rollouts. flops: of `rollouts`, `decoding`, `reference` and `training`, without recomputation.
    """

    bucket: Bucket
    prompts: int
    videos: int
    calls: float
    alone: int
    passes: float
    flops: Mapping[str, float]

    def seconds(self, *, mfu: float, peak_flops: float, ranks: int) -> dict[str, float]:
        """Estimate the time of each part of an update. peak_flops: of one rank's device."""
        return {name: flops / (mfu * peak_flops * ranks) for name, flops in self.flops.items()}

    @property
    def video_bytes(self) -> int:
        """Bytes of a decoded video, as rewards get it."""
        return 3 * self.bucket.frames * self.bucket.height * self.bucket.width


def plan_rollouts(recipe: TrainRecipe, bucket: Bucket) -> RolloutPlan | None:
    """Plan an update of a recipe whose videos are all of one bucket; None where its objective makes no videos."""
    made = recipe.objective.videos_made
    if made is None:
        return None
    patch, micros = recipe.model.patch_size, recipe.data.batches_per_step
    batch = batch_size(bucket, recipe.data, recipe.model)
    grid = (bucket.latent[0], bucket.latent[1] // patch[1], bucket.latent[2] // patch[2])
    one = forward_flops(
        recipe.model, grid, batch=1, cond_frames=0, text_tokens=recipe.text.tokens, attention=recipe.attention
    )
    trained = step_flops(
        recipe.model, recipe.lora, grid, batch=1, cond_frames=0, text_tokens=recipe.text.tokens,
        attention=recipe.attention,
    )  # fmt: skip
    prompts = batch * micros
    videos, passes = prompts * made.group, prompts * made.guided_passes * made.calls
    also = recipe.objective.passes
    pixels = bucket.frames * bucket.height * bucket.width
    flops = {
        "rollouts": passes * one,
        "decoding": videos * pixels * DECODER_FLOPS_PER_PX if recipe.codec.kind == "wan" else 0.0,
        "reference": (prompts * also.forward - passes) * one,
        "training": prompts * (1 + also.trained) * trained,
    }
    return RolloutPlan(bucket, prompts, videos, made.calls, made.alone, passes, flops)


def plan_all(recipe: TrainRecipe) -> list[RolloutPlan]:
    """Plan an update of each of a recipe's classes of size, in the shape that takes most; none without videos."""
    costliest: dict[tuple[int, int], Bucket] = {}
    for bucket in buckets_of(recipe.data):
        pixels = bucket.height * bucket.width
        size = (bucket.frames, round(pixels**0.5 / 100))  # ratios of a class have about the same pixels
        if size not in costliest or pixels > costliest[size].height * costliest[size].width:
            costliest[size] = bucket
    plans = (plan_rollouts(recipe, bucket) for bucket in costliest.values())
    return [plan for plan in plans if plan is not None]
