"""States of a run's own texts, such as a negative prompt: encoded once, by the first rank."""

import base64
from collections.abc import Sequence

import torch
from torch import Tensor
from torch._guards import active_fake_mode

from reelwright.model.dtypes import DTYPES
from reelwright.model.text import PackedText, load_text_encoder, pack_text
from reelwright.training.data.encode import to_bytes
from reelwright.training.distributed.world import World
from reelwright.training.recipe import TrainRecipe

SENT_AT_ONCE = 64
"""Texts whose states travel together from the rank that encodes them."""


def repeated(text: PackedText, times: int) -> PackedText:
    """Return one caption's states for each of `times` samples."""
    return PackedText(text.states.repeat(times, 1), text.lengths.repeat(times), text.longest)


def encode_texts(texts: Sequence[str], recipe: TrainRecipe, world: World) -> PackedText:
    """Encode texts by the recipe's encoder, in the type that captions are stored in; every rank calls it.

    The first rank loads the encoder, and lets it go again: beside a large network there is no room for it. Where a step
    is planned on tensors without storage, the states are as long as captions may be.
    """
    dtype = DTYPES[recipe.data.store_dtype]
    tokens = min(recipe.text.tokens, recipe.model.text_tokens)
    if active_fake_mode() is not None:
        return pack_text([torch.empty(tokens, recipe.model.caption_channels, dtype=dtype) for _ in texts], tokens)
    encoder = load_text_encoder(recipe.text, device=str(world.device)) if world.is_first else None
    found: list[Tensor] = []
    for first in range(0, len(texts), SENT_AT_ONCE):
        sent = None
        if encoder is not None:
            made = encoder.encode(list(texts[first : first + SENT_AT_ONCE]))
            sent = [
                [list(one.shape), base64.b64encode(to_bytes(one, recipe.data.store_dtype)).decode("ascii")]
                for one in made
            ]
        found += [
            torch.frombuffer(bytearray(base64.b64decode(data)), dtype=dtype).view(shape)
            for shape, data in world.broadcast(sent)
        ]
    return pack_text(found, tokens)
