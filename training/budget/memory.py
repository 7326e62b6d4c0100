"""What a recipe needs on each rank: bytes by kind, floating point operations a step, and time at a utilisation.

Weights, gradients, optimizer and averages follow from counts and the layout of ranks; activations from
`training.budget.activations`. Terms: Rajbhandari et al. 2020 (ZeRO), Korthikanti et al. 2022 (selective recomputation).
"""

import math
from dataclasses import dataclass

import torch

from reelwright.model.config import DiTConfig, LoRAConfig
from reelwright.model.dit import DiT
from reelwright.training.adapters import MODULATION, adapt
from reelwright.training.budget.activations import Shape, trace
from reelwright.training.budget.throughput import step_flops
from reelwright.training.data.buckets import Bucket, buckets_of
from reelwright.training.distributed.world import mesh_sizes
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ComputeConfig, DataConfig, TrainRecipe

FP32, BF16 = 4, 2
CUDA_BYTES = 2 << 30
"""CUDA context, cuBLAS and NCCL buffers of a process, about."""
GATHERED_BLOCKS = 2
"""Blocks whose whole weights are there at once: the one that computes and the next, which is being fetched."""

WAN_VAE, UMT5_XXL = 127_000_000, 5_680_000_000
"""Parameters of the published VAE and text encoder: files of 508 MB in fp32, of 11.4 GB in bf16."""


@dataclass(frozen=True)
class Counts:
    """Parameters: of the blocks, of their modulation alone, of the rest, those that are trained, and of them in the
    blocks. bytes: of all.
    """

    blocks: int
    modulation: int
    rest: int
    trained: int
    trained_in_blocks: int
    depth: int
    bytes: int

    @property
    def all(self) -> int:
        return self.blocks + self.rest


@dataclass(frozen=True)
class MemoryPlan:
    """Of the rank that holds most, in the largest micro-batch. bytes: by kind, in the order to show."""

    recipe: TrainRecipe
    ranks: int
    layout: tuple[int, int, int]
    """(replicate, shard, context)"""
    counts: Counts
    bucket: Bucket
    batch: int
    micro_batches: int
    bytes: dict[str, int]
    costly: Bucket
    """Whose micro-batch takes most FLOPs: long sequences do for the same tokens."""
    flops: int
    """Of an optimizer step over all ranks, if every micro-batch is of `costly`: forward and backward, without
    recomputation; where attention is sparse, after its `dense_steps`."""
    sampling: int = 0
    """Bytes while the recipe's samples are made, 0 if none are: no gradients and activations, but VAE, text encoder
    and, with averaged weights, the others' copy. What decoding holds is not in it. Validation holds such a copy too, in
    the place of the gradients, which are as large."""

    @property
    def total(self) -> int:
        return max(sum(self.bytes.values()), self.sampling)

    @property
    def tokens(self) -> int:
        """Of a step, over all ranks, at most."""
        return self.tokens_of(self.bucket)

    def tokens_of(self, bucket: Bucket) -> int:
        """Of a step whose micro-batches are all of one bucket."""
        data, model = self.recipe.data, self.recipe.model
        return batch_size(bucket, data, model) * bucket.tokens(model.patch_size) * data.batches_per_step

    def seconds(self, *, mfu: float, peak_flops: float) -> float:
        """A step's time. peak_flops: of one rank's device."""
        return self.flops / (mfu * peak_flops * self.ranks)

    def mfu(self, *, seconds: float, peak_flops: float) -> float:
        """The utilisation that a step's time needs."""
        return self.flops / (seconds * peak_flops * self.ranks)


def plan_memory(
    recipe: TrainRecipe, *, ranks: int = 1, device: str = "cuda", bucket: Bucket | None = None
) -> MemoryPlan:
    """bucket: the one to plan for; the one with most tokens in a micro-batch if none is given.

    Not in it: what the allocator cannot reuse (fragments), and what VAE and text encoder hold while they compute.
    Raises TrainError where the ranks do not fit the recipe's layout.
    """
    replicate, shard, context = mesh_sizes(recipe.parallel, ranks)
    data_ranks = replicate * shard
    if recipe.data.batches_per_step % data_ranks:
        raise TrainError(
            f"data.batches_per_step {recipe.data.batches_per_step} is no multiple of the {data_ranks} ranks that "
            f"take batches; set it to {math.ceil(recipe.data.batches_per_step / data_ranks) * data_ranks}"
        )
    costly = bucket or max(buckets_of(recipe.data), key=lambda b: _flops(recipe, b))
    bucket = bucket or largest_bucket(recipe.data, recipe.model)
    batch = batch_size(bucket, recipe.data, recipe.model)
    micro_batches = recipe.data.batches_per_step // data_ranks
    counts = count_parameters(recipe.model, recipe.lora, recipe.compute)
    sharded = ranks > 1
    half = sharded and device == "cuda" and recipe.compute.precision == "bf16"
    held = trace(
        recipe.model, _shape(recipe, bucket, batch, context), recipe.compute, lora=recipe.lora, half_blocks=half
    )
    pieces = shard * context if sharded else 1
    kinds = _weights(recipe, counts, pieces)
    if sharded:
        kinds |= _sharding(recipe, counts, pieces, half, micro_batches)
        kinds["activations"] = held.peak
    elif micro_batches > 1:
        kinds["activations"] = held.peak  # from the second micro-batch on, beside whole gradients
    else:
        kinds["activations"] = max(held.tail, held.peak - kinds["gradients"])  # as one shrinks the other grows
    latents, states = recipe.data.encode.stored
    if not (latents and states):
        kinds["VAE and text encoder"] = encoder_bytes(recipe, vae=not latents, text=not states)
    if device == "cuda":
        kinds["CUDA and libraries"] = CUDA_BYTES
    flops = _flops(recipe, costly) * recipe.data.batches_per_step
    return MemoryPlan(
        recipe, ranks, (replicate, shard, context), counts, bucket, batch, micro_batches, kinds, costly, flops,
        _sampling(recipe, kinds),
    )  # fmt: skip


def largest_bucket(data: DataConfig, config: DiTConfig) -> Bucket:
    """The bucket whose micro-batch has most tokens; of those, the longest sequence."""

    def tokens(bucket: Bucket) -> tuple[int, int]:
        one = bucket.tokens(config.patch_size)
        return batch_size(bucket, data, config) * one, one

    return max(buckets_of(data), key=tokens)


def batch_size(bucket: Bucket, data: DataConfig, config: DiTConfig) -> int:
    """Samples of a micro-batch, as `reelwright.training.data.schedule` has them."""
    return max(1, data.tokens_per_batch // bucket.tokens(config.patch_size))


def count_parameters(config: DiTConfig, lora: LoRAConfig | None, compute: ComputeConfig) -> Counts:
    with torch.device("meta"):
        model = DiT(config)
    if lora:
        adapt(model, lora, compute)
    blocks = list(model.blocks.parameters())
    everything = list(model.parameters())
    in_blocks = sum(p.numel() for p in blocks)
    return Counts(
        blocks=in_blocks,
        modulation=sum(p.numel() for name, p in model.blocks.named_parameters() if MODULATION in name),
        rest=sum(p.numel() for p in everything) - in_blocks,
        trained=sum(p.numel() for p in everything if p.requires_grad),
        trained_in_blocks=sum(p.numel() for p in blocks if p.requires_grad),
        depth=config.depth,
        bytes=sum(p.numel() * p.element_size() for p in everything),
    )


def encoder_bytes(recipe: TrainRecipe, *, vae: bool = True, text: bool = True) -> int:
    """Of the recipe's VAE and text encoder, or of one of them; the stand-ins have no weights."""
    size = {"fp32": FP32, "bf16": BF16}
    of_vae = WAN_VAE * size[recipe.codec.dtype] if vae and recipe.codec.kind == "wan" else 0
    return of_vae + (UMT5_XXL * size[recipe.text.dtype] if text and recipe.text.kind == "umt5" else 0)


def _sampling(recipe: TrainRecipe, kinds: dict[str, int]) -> int:
    if not recipe.samples.every or not recipe.samples.prompts:
        return 0
    gone = {"gradients", "gradients being reduced", "activations", "VAE and text encoder"}
    copy = kinds["gradients"] if recipe.optim.ema else 0  # of what is trained, as the gradients are
    return sum(size for kind, size in kinds.items() if kind not in gone) + copy + encoder_bytes(recipe)


def _flops(recipe: TrainRecipe, bucket: Bucket) -> int:
    """Of a micro-batch."""
    patch, batch = recipe.model.patch_size, batch_size(bucket, recipe.data, recipe.model)
    grid = (bucket.latent[0], bucket.latent[1] // patch[1], bucket.latent[2] // patch[2])
    tokens = recipe.text.tokens
    sizes = {"batch": batch, "cond_frames": 0, "text_tokens": tokens}
    return step_flops(recipe.model, recipe.lora, grid, **sizes, attention=recipe.attention)


def _weights(recipe: TrainRecipe, counts: Counts, pieces: int) -> dict[str, int]:
    """What lies on a rank throughout; all that is trained in fp32. Gradients: after the backward pass."""
    mine = math.ceil(counts.trained / pieces)
    averages = {"averaged weights": mine * FP32} if recipe.optim.ema else {}
    return {
        "parameters": math.ceil(counts.bytes / pieces),
        "gradients": mine * FP32,
        "optimizer (AdamW)": 2 * mine * FP32,
        **averages,
    }


def _sharding(recipe: TrainRecipe, counts: Counts, pieces: int, half: bool, micro_batches: int) -> dict[str, int]:
    """What FSDP2 adds: whole weights of the blocks at work and of the rest, and gradients on their way to shards."""
    size = BF16 if half else FP32
    blocks = GATHERED_BLOCKS if recipe.parallel.reshard_after_forward else counts.depth
    a_block = ((counts.blocks - counts.modulation) * size + counts.modulation * FP32) // counts.depth
    gathered = min(blocks, counts.depth) * a_block + counts.rest * FP32
    whole = recipe.parallel.gradients == "whole" and micro_batches > 1
    trained = math.ceil(counts.trained_in_blocks / counts.depth)
    on_the_way = counts.trained * FP32 if whole else trained * (size + FP32)
    return {"gathered weights": gathered, "gradients being reduced": on_the_way}


def _shape(recipe: TrainRecipe, bucket: Bucket, batch: int, context: int) -> Shape:
    """The largest strip of token rows that a rank of a context group has."""
    frames, rows, columns = bucket.latent
    patch = recipe.model.patch_size[1]
    return Shape(batch, (frames, math.ceil(rows // patch / context) * patch, columns), recipe.text.tokens)
