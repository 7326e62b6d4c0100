"""Needs of a recipe on each rank: bytes by kind, floating point operations per step, and time at a utilisation.

Weights, gradients, optimizer and averages follow from counts and the layout of ranks; activations from
`training.budget.activations`. Terms: Rajbhandari et al. 2020 (ZeRO), Korthikanti et al. 2022 (selective recomputation).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from reelwright.model.config import DiTConfig, LoRAConfig
from reelwright.model.dit import DiT
from reelwright.model.lora.adapters import lora_parameters
from reelwright.training.adapters import MODULATION, adapt
from reelwright.training.budget.activations import Activations, trace
from reelwright.training.budget.pairs import pair_bytes
from reelwright.training.budget.sampling import encoder_bytes, rollout_bytes, sampling_bytes, vae_bytes, wants_samples
from reelwright.training.budget.throughput import objective_flops
from reelwright.training.budget.traced import Shape
from reelwright.training.data.buckets import Bucket, buckets_of
from reelwright.training.distributed.parallel import KEPT_KEYS
from reelwright.training.distributed.world import mesh_sizes
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ComputeConfig, DataConfig, TrainRecipe
from reelwright.training.registry import STUDENT, AdapterPart

FP32, BF16 = 4, 2
CUDA_BYTES = 2 << 30
"""CUDA context, cuBLAS and NCCL buffers of a process, about."""
GATHERED_BLOCKS = 2
"""Blocks whose whole weights are there at once: the one that computes and the next, which is being fetched."""

CAPTION_WEIGHT = 0.11
"""Bytes that a caption's token holds over those of a grid's: 90 KB and 840 KB at 13.6 B with full checkpointing. It
says only which buckets are traced."""


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters, and their bytes.

    They are the parameters of the blocks, of the blocks' modulation alone, of the rest, of all that is trained, and of
    the trained ones in the blocks. bytes: of all. optimizers: that share the trained ones evenly, the run's and a
    critic's; one at a time has gradients.
    """

    blocks: int
    modulation: int
    rest: int
    trained: int
    trained_in_blocks: int
    depth: int
    bytes: int
    optimizers: int = 1

    @property
    def all(self) -> int:
        """Parameters in all."""
        return self.blocks + self.rest


@dataclass(frozen=True)
class MemoryEstimate:
    """Of the rank that holds most, in the worst micro-batch. bytes: by kind, in the order to show."""

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
    """Bytes while videos are made, samples or rollouts, 0 if none are; see `budget.sampling`. Validation holds a copy
    of averaged weights too, in the place of the gradients, which are as large."""

    @property
    def total(self) -> int:
        """Bytes at the peak, of training or of sampling."""
        return max(sum(self.bytes.values()), self.sampling)

    @property
    def tokens(self) -> int:
        """Of a step, over all ranks, at most."""
        return max(self.tokens_of(bucket) for bucket in buckets_of(self.recipe.data))

    def tokens_of(self, bucket: Bucket) -> int:
        """Of a step whose micro-batches are all of one bucket."""
        data, model = self.recipe.data, self.recipe.model
        return batch_size(bucket, data, model) * bucket.tokens(model.patch_size) * data.batches_per_step

    def seconds(self, *, mfu: float, peak_flops: float) -> float:
        """Estimate the time of a step. peak_flops: of one rank's device."""
        return self.flops / (mfu * peak_flops * self.ranks)

    def mfu(self, *, seconds: float, peak_flops: float) -> float:
        """Return the utilisation that a step's time needs."""
        return self.flops / (seconds * peak_flops * self.ranks)


def plan_memory(
    recipe: TrainRecipe, *, ranks: int = 1, device: str = "cuda", bucket: Bucket | None = None
) -> MemoryEstimate:
    """Plan the memory of a rank, without the allocator's fragments.

    Args:
        recipe: the run's.
        ranks: its processes.
        device: cuda or cpu.
        bucket: the one to plan for; None: the worst of the recipe's.

    Raises:
        TrainError: the ranks do not fit the recipe's layout.
    """
    replicate, shard, context = mesh_sizes(recipe.parallel, ranks)
    micro_batches = micro_batches_of(recipe, ranks)
    costly = bucket or max(buckets_of(recipe.data), key=lambda b: _flops(recipe, b))
    counts = count_parameters(recipe.model, recipe.lora, recipe.compute, recipe.objective.adapters)
    half = ranks > 1 and device == "cuda" and recipe.compute.precision == "bf16"
    held = {b: trace(recipe, shape_of(recipe, b), half=half) for b in ([bucket] if bucket else heaviest(recipe))}
    bucket = max(held, key=lambda b: held[b].peak)
    pieces = shard * context if ranks > 1 else 1
    kinds = _weights(recipe, counts, pieces)
    if ranks > 1:
        kinds |= {"gathered weights": _gathered(recipe, counts, half)}
        kinds |= {"gradients being reduced": _being_reduced(recipe, counts, held[bucket], micro_batches)}
    if ranks > 1 or micro_batches > 1:
        kinds["activations"] = held[bucket].peak  # from the second micro-batch on, beside whole gradients
    else:  # as one shrinks the other grows
        kinds["activations"] = max(max(a.tail, a.peak - kinds["gradients"]) for a in held.values())
    if context > 1 and recipe.parallel.context_form == "ring":
        kinds["ring's buffers"] = _ring_bytes(recipe, bucket, context)
    latents, states = recipe.data.encode.stored
    if not (latents and states):
        kinds["VAE and text encoder"] = encoder_bytes(recipe, vae=not latents, text=not states)
    if frames := pair_bytes(recipe):
        kinds["frames of pairs"] = frames
    if latents and (wants_samples(recipe) or recipe.objective.makes_videos):
        kinds["VAE of samples"] = vae_bytes(recipe)
    if device == "cuda":
        kinds["CUDA and libraries"] = CUDA_BYTES
    gathered = kinds.get("gathered weights", 0)
    batch, flops = batch_size(bucket, recipe.data, recipe.model), _flops(recipe, costly) * recipe.data.batches_per_step
    return MemoryEstimate(
        recipe, ranks, (replicate, shard, context), counts, bucket, batch, micro_batches, kinds, costly, flops,
        max(
            sampling_bytes(recipe, kinds, whole=gathered, half=half),
            rollout_bytes(recipe, kinds, bucket.latent, batch=batch, whole=gathered, half=half),
        ),
    )  # fmt: skip


def micro_batches_of(recipe: TrainRecipe, ranks: int) -> int:
    """Count the micro-batches of a rank's step. TrainError where they do not come out even."""
    replicate, shard, _ = mesh_sizes(recipe.parallel, ranks)
    if recipe.data.batches_per_step % (replicate * shard):
        raise TrainError(
            f"data.batches_per_step {recipe.data.batches_per_step} is no multiple of the {replicate * shard} ranks "
            f"that take batches; set it to {even_batches(recipe, ranks)}"
        )
    return recipe.data.batches_per_step // (replicate * shard)


def even_batches(recipe: TrainRecipe, ranks: int) -> int:
    """Return the next number of micro-batches per step that is a multiple of the ranks."""
    replicate, shard, _ = mesh_sizes(recipe.parallel, ranks)
    return math.ceil(recipe.data.batches_per_step / (replicate * shard)) * replicate * shard


def heaviest(recipe: TrainRecipe) -> list[Bucket]:
    """Return the buckets whose micro-batches hold most: of images, each of which brings a caption, and of videos.

    Bytes follow from tokens of grids and of captions, a caption's token at `CAPTION_WEIGHT`. Where long attention alone
    is kept, samples that are long enough for it hold more for the same tokens, so there the heaviest of both are told.
    """
    keeps = recipe.compute.checkpointing == "attention"

    def weight(bucket: Bucket) -> float:
        one = bucket.tokens(recipe.model.patch_size)
        return batch_size(bucket, recipe.data, recipe.model) * (one + CAPTION_WEIGHT * recipe.text.tokens)

    def kind(bucket: Bucket) -> tuple[bool, bool]:
        return bucket.frames > 1, keeps and bucket.tokens(recipe.model.patch_size) >= KEPT_KEYS

    found: dict[tuple[bool, bool], Bucket] = {}
    for bucket in sorted(buckets_of(recipe.data), key=weight, reverse=True):
        found.setdefault(kind(bucket), bucket)
    return [found[one] for one in sorted(found)]


def shape_of(recipe: TrainRecipe, bucket: Bucket) -> Shape:
    """Return the shape of a whole micro-batch; with a clean frame where a task has one, which takes copies."""
    clean = bucket.frames > 1 and (recipe.tasks.i2v or recipe.tasks.continuation)
    return Shape(batch_size(bucket, recipe.data, recipe.model), bucket.latent, 1 if clean else 0)


def batch_size(bucket: Bucket, data: DataConfig, config: DiTConfig) -> int:
    """Return the samples of a micro-batch, as `reelwright.training.data.schedule` has them."""
    return max(1, data.tokens_per_batch // bucket.tokens(config.patch_size))


@lru_cache(maxsize=64)
def count_parameters(
    config: DiTConfig,
    lora: LoRAConfig | None,
    compute: ComputeConfig,
    adapters: tuple[AdapterPart, ...] = (AdapterPart(STUDENT),),
) -> Counts:
    """Count the parameters of a network on tensors without storage; adapters: of an objective, where there is lora."""
    with torch.device("meta"):
        model = DiT(config)
    if lora:
        for part in adapters:
            adapt(model, lora, compute, name=part.name)
        for part in adapters:
            for parameter in lora_parameters(model, part.name):
                parameter.requires_grad_(part.trained)
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
        optimizers=sum(part.trained for part in adapters) if lora else 1,
    )


def _flops(recipe: TrainRecipe, bucket: Bucket) -> int:
    """Of a micro-batch."""
    patch, batch = recipe.model.patch_size, batch_size(bucket, recipe.data, recipe.model)
    grid = (bucket.latent[0], bucket.latent[1] // patch[1], bucket.latent[2] // patch[2])
    tokens = recipe.text.tokens
    sizes = {"batch": batch, "cond_frames": 0, "text_tokens": tokens}
    return objective_flops(recipe, grid, recipe.attention, **sizes)


def _weights(recipe: TrainRecipe, counts: Counts, pieces: int) -> dict[str, int]:
    """Count the bytes that lie on a rank throughout, trained weights in fp32; gradients after the backward pass.

    Gradients and averages are of one optimizer's weights: the student's gradients are gone before a critic has its own,
    and a critic is not averaged.
    """
    mine = math.ceil(counts.trained / pieces)
    at_once = math.ceil(mine / counts.optimizers)
    averages = {"averaged weights": at_once * FP32} if recipe.optim.ema else {}
    return {
        "parameters": math.ceil(counts.bytes / pieces),
        "gradients": at_once * FP32,
        "optimizer (AdamW)": 2 * mine * FP32,
        **averages,
    }


def _ring_bytes(recipe: TrainRecipe, bucket: Bucket, context: int) -> int:
    """Count the bytes that a ring's backward pass holds while it runs.

    They are two pairs of keys and values; three of their gradients in fp32, the one that is computed, the one that is
    sent and the one that comes; and the queries' in fp32. A trace sees an operator's results alone.
    """
    size = BF16 if recipe.compute.precision == "bf16" else FP32
    numbers = batch_size(bucket, recipe.data, recipe.model) * bucket.tokens(recipe.model.patch_size)
    return math.ceil(numbers / context) * recipe.model.hidden_size * (4 * size + 7 * FP32)


def _gathered(recipe: TrainRecipe, counts: Counts, half: bool) -> int:
    """Whole weights of the blocks at work and of the rest, as FSDP2 gathers them."""
    size = BF16 if half else FP32
    blocks = GATHERED_BLOCKS if recipe.parallel.reshard_after_forward else counts.depth
    a_block = ((counts.blocks - counts.modulation) * size + counts.modulation * FP32) // counts.depth
    return min(blocks, counts.depth) * a_block + counts.rest * FP32


def _being_reduced(recipe: TrainRecipe, counts: Counts, held: Activations, micro_batches: int) -> int:
    """Count the bytes of gradients on their way to shards.

    They are a block's own, and the gradients of the block before in the backward pass, in fp32, which FSDP2 keeps until
    the next block's are whole. That block's activations are gone by then.
    """
    if recipe.parallel.gradients == "whole" and micro_batches > 1:
        return math.ceil(counts.trained / counts.optimizers) * FP32
    before = math.ceil(counts.trained_in_blocks / counts.depth / counts.optimizers) * FP32
    return held.growing + max(0, before - held.block)
