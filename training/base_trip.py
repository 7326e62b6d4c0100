"""The base model that a first stage's latents are noised and denoised by, loaded for precomputing alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reelwright.training.pair_config import BaseTripConfig

if TYPE_CHECKING:
    from reelwright.training.data.pairs import Denoiser
    from reelwright.training.recipe import TrainRecipe


def load_denoiser(recipe: TrainRecipe, config: BaseTripConfig, *, device: str) -> Denoiser:
    """Load the network and the states of the empty prompt; the text encoder is let go before the network comes.

    Args:
        recipe: of the network, its precision and its text encoder.
        config: where the weights are.
        device: to compute on.

    Raises:
        TrainError, ModelError: the weights are not there or do not fit.
    """
    import torch

    from reelwright.model.dit import DiT
    from reelwright.model.dtypes import DTYPES
    from reelwright.model.text import load_text_encoder, pack_text
    from reelwright.training.data.pairs import Denoiser
    from reelwright.training.run import start_from

    states = load_text_encoder(recipe.text, device=device).encode([""])
    text = pack_text([s.cpu() for s in states], recipe.model.text_tokens)
    with torch.device("meta"):
        model = DiT(recipe.model)
    model.to_empty(device=device)
    start_from(model, Path(config.path))
    return Denoiser(model.to(DTYPES[recipe.compute.precision]).eval().requires_grad_(False), text, config)
