"""Memory of a rank while it makes the recipe's samples: weights, a copy of averaged ones, encoders, a decoded tile.

Gradients and activations are gone then. Every rank computes whole videos, also where ranks share a sample's tokens in
training.
"""

import math
from functools import lru_cache

import torch

from reelwright.model.config import STRIDE, DiTConfig
from reelwright.model.dit import DiT
from reelwright.training.adapters import blocks_to_bf16
from reelwright.training.budget.live_bytes import LiveBytes
from reelwright.training.distributed.parallel import autocast
from reelwright.training.recipe import ComputeConfig, TrainRecipe
from reelwright.training.sample_shape import SAMPLE_TILE_PX

FP32, BF16 = 4, 2
WAN_VAE, UMT5_XXL = 127_000_000, 5_680_000_000
"""Parameters of the published VAE and text encoder: files of 508 MB in fp32, of 11.4 GB in bf16."""
DECODED_NUMBERS_PER_PX = 5100
"""Of Wan 2.1's decoder at its peak, per pixel of a tile: features of four frames, and its cache of the frames before.
Traced on diffusers' AutoencoderKLWan over 17 frames of a tile (`python -m benchmarks.trace --vae`: 5,063)."""
COPIES_OF_A_VIDEO = 3
"""Joined rows of tiles, the joined picture, and it clamped; as many of the stand-in's."""
TILES_OF_A_VIDEO = 16 / 9
"""Decoded tiles over the video: they overlap by a quarter of their sides."""
LATENT_COPIES = 3
"""Of a group's latents while it is rolled out: now, next, and the state at the step where its ways part."""
GONE = {"gradients", "gradients being reduced", "gathered weights", "activations", "VAE of samples"}
"""Kinds that are not there, or counted apart. Encoders of `encode: on_the_fly` stay, beside those of samples."""


def wants_samples(recipe: TrainRecipe) -> bool:
    """Whether a run makes videos."""
    return bool(recipe.samples.every and recipe.samples.prompts)


def sampling_bytes(recipe: TrainRecipe, kinds: dict[str, int], *, whole: int, half: bool) -> int:
    """Bytes at the worst of three times: captions are encoded, the network runs, a video is decoded.

    Args:
        recipe: the run's.
        kinds: bytes that a rank holds while it trains.
        whole: bytes of gathered weights while the network runs.
        half: blocks are gathered in bf16.
    """
    if not wants_samples(recipe):
        return 0
    lasting = sum(size for kind, size in kinds.items() if kind not in GONE)
    copy = kinds["gradients"] if recipe.optim.ema else 0  # of the trained weights, as the gradients are
    encoding = encoder_bytes(recipe)
    network = vae_bytes(recipe) + whole + _network_bytes(recipe, half)
    return lasting + copy + max(encoding, network, vae_bytes(recipe) + decoded_bytes(recipe))


def vae_bytes(recipe: TrainRecipe) -> int:
    """Of the VAE's weights; the stand-in has none."""
    return WAN_VAE * _size(recipe.codec.dtype) if recipe.codec.kind == "wan" else 0


def encoder_bytes(recipe: TrainRecipe, *, vae: bool = True, text: bool = True) -> int:
    """Of the recipe's VAE and text encoder, or of one of them; the stand-ins have no weights."""
    of_text = UMT5_XXL * _size(recipe.text.dtype) if text and recipe.text.kind == "umt5" else 0
    return (vae_bytes(recipe) if vae else 0) + of_text


def decoded_bytes(recipe: TrainRecipe, size: tuple[int, int] | None = None, frames: int = 0) -> int:
    """While a video is decoded, tile by tile; of the recipe's samples, or of another (width, height) and frames."""
    width, height = size or recipe.samples.size
    video = 3 * (frames or recipe.samples.frames) * width * height
    if recipe.codec.kind != "wan":
        return video * FP32 * COPIES_OF_A_VIDEO
    tile = recipe.codec.tile or SAMPLE_TILE_PX
    of_a_tile = DECODED_NUMBERS_PER_PX * min(tile, width) * min(tile, height)
    return round(video * (COPIES_OF_A_VIDEO + TILES_OF_A_VIDEO) + of_a_tile) * _size(recipe.codec.dtype)


def rollout_bytes(
    recipe: TrainRecipe, kinds: dict[str, int], latent: tuple[int, int, int], *, batch: int, whole: int, half: bool
) -> int:
    """Bytes at the worse of two times of a rollout: the network runs over whole groups, and a video is decoded.

    Args:
        recipe: the run's.
        kinds: bytes that a rank holds while it trains.
        latent: (frames, rows, columns) of a video.
        batch: prompts of a micro-batch.
        whole: bytes of gathered weights while the network runs.
        half: blocks are gathered in bf16.
    """
    made = recipe.objective.videos_made
    if made is None:
        return 0
    lasting = sum(size for kind, size in kinds.items() if kind not in GONE) + vae_bytes(recipe)
    together = batch * made.group
    at_once = min(together, made.at_once or together) * made.guided_passes
    network = _pass(recipe.model, latent, at_once, recipe.text.tokens, recipe.compute, half) / recipe.parallel.context
    kept = LATENT_COPIES * together * recipe.model.in_channels * math.prod(latent) * FP32
    frames, height, width = (latent[0] - 1) * STRIDE[0] + 1, latent[1] * STRIDE[1], latent[2] * STRIDE[2]
    return lasting + kept + max(whole + round(network), decoded_bytes(recipe, (width, height), frames))


def _network_bytes(recipe: TrainRecipe, half: bool) -> int:
    """Of a pass over a whole video, and over it with the empty caption beside it where there is guidance."""
    width, height = recipe.samples.size
    latent = ((recipe.samples.frames - 1) // STRIDE[0] + 1, height // STRIDE[1], width // STRIDE[2])
    copies = 1 if recipe.samples.guidance == 1 else 2
    return _pass(recipe.model, latent, copies, recipe.text.tokens, recipe.compute, half)


@lru_cache(maxsize=64)
def _pass(
    config: DiTConfig, latent: tuple[int, int, int], batch: int, text: int, compute: ComputeConfig, half: bool
) -> int:
    """At the peak of a forward pass without gradients; blocks follow one another, so one is enough."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), torch.no_grad():
        model = DiT(config.model_copy(update={"depth": 1}))
        if half:
            blocks_to_bf16(model)
        size = (batch, config.in_channels, *latent)
        with LiveBytes() as live, autocast(compute, torch.device("cpu")):
            states = torch.empty(batch, text, config.caption_channels)
            model(torch.empty(size), torch.zeros(batch), states, torch.ones(batch, text, dtype=torch.bool))
    return max(held for held, _ in live.timeline())


def _size(dtype: str) -> int:
    return {"fp32": FP32, "bf16": BF16}[dtype]
