"""Disk space of a snapshot's latents and text states, before anything is encoded."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reelwright.curation.store import Store
from reelwright.model.codec.base import CHANNELS
from reelwright.model.errors import ModelError
from reelwright.model.text import count_tokens
from reelwright.training.data.encode import item_bytes
from reelwright.training.data.mix_rows import training_rows
from reelwright.training.data.pairs import HALVES
from reelwright.training.data.schedule import Schedule
from reelwright.training.data.windows import wanted_windows
from reelwright.training.recipe import TrainRecipe

COUNTED = 2000
"""Most captions to count tokens of; the others are assumed to have the same mean length."""
TOKENS_PER_WORD = 1.4
"""Of umT5 in English captions, about: where its tokenizer is not there."""


@dataclass(frozen=True)
class Storage:
    """Bytes of a snapshot's latents and text states.

    Args:
        clips: That may be drawn.
        windows: Of them, in all buckets: rows of `latents`.
        latents: Bytes of all.
        captions: Distinct: rows of `texts`.
        states: Bytes of all.
        tokens: Of a caption, in the mean.
        is_estimate: Whether the tokens are guessed from the words, since there is no tokenizer.
    """

    clips: int
    windows: int
    latents: int
    captions: int
    states: int
    tokens: float
    is_estimate: bool


def plan_storage(store: Store, snapshot: str, recipe: TrainRecipe) -> Storage:
    """Count what `precompute` would have stored of a snapshot in the end, whether it is there or not.

    snapshot: empty where the recipe's `data.mix` names several.
    """
    rows = training_rows(store, snapshot, recipe.data)
    plan = Schedule(rows, recipe.data, recipe.tasks, recipe.model, recipe.seed)
    size = item_bytes(recipe.data.store_dtype)
    windows, numbers, halves = 0, 0, HALVES if recipe.data.pair else 1
    for window, clips in wanted_windows(plan):
        windows += len(clips)
        numbers += len(clips) * CHANNELS * halves * math.prod(window.bucket.latent)
    captions = plan.captions()
    tokens, is_estimate = _mean_tokens(captions[:: -(-len(captions) // COUNTED)], recipe)
    states = round(len(captions) * tokens * recipe.model.caption_channels * size)
    clips_used = len(plan.plan.each_once(np.concatenate([plan.train, plan.held_out])))
    return Storage(clips_used, windows, numbers * size, len(captions), states, tokens, is_estimate)


def storage_text(storage: Storage, recipe: TrainRecipe) -> str:
    """Say it to a person: per clip, for the snapshot, and which part is the larger one."""
    return "\n".join(_lines(storage, recipe))


def _lines(s: Storage, recipe: TrainRecipe) -> Iterator[str]:
    encode, dtype = recipe.data.encode, recipe.data.store_dtype
    about = "about " if s.is_estimate else ""
    yield f"{s.clips:,} clips, as {dtype}"
    yield (
        f"latents       {_bytes(s.latents / s.clips)} per clip, {_bytes(s.latents)} for the snapshot: "
        f"{s.windows:,} windows{_where(encode.latents)}"
    )
    yield (
        f"text states   {_bytes(s.states / s.clips)} per clip, {_bytes(s.states)} for the snapshot: "
        f"{s.captions:,} captions of {about}{s.tokens:,.0f} tokens{_where(encode.text)}"
    )
    larger, other = ("text states", "latents") if s.states > s.latents else ("latents", "text states")
    share = max(s.states, s.latents) / max(1, s.states + s.latents)
    yield f"{larger} are the larger part, {share:.0%} of {_bytes(s.states + s.latents)} ({other}: {1 - share:.0%})"
    stored = sum(size for size, kept in zip((s.latents, s.states), encode.stored, strict=True) if kept)
    yield f"to be stored: {_bytes(stored)}"
    if larger == "text states" and encode.text == "precomputed":
        yield "without them:  data.encode: {text: on_the_fly} encodes captions while training (or cached, on its disk)"


def _where(origin: str) -> str:
    return "" if origin == "precomputed" else f"; {origin}, so not in the store"


def _mean_tokens(captions: Sequence[str], recipe: TrainRecipe) -> tuple[float, bool]:
    """(tokens of a caption, whether that is an estimate)."""
    most = recipe.text.tokens
    try:
        counts, is_estimate = count_tokens(recipe.text, captions), False
    except ModelError:
        counts = [math.ceil(TOKENS_PER_WORD * len(caption.split())) + 1 for caption in captions]
        is_estimate = True
    return sum(min(most, count) for count in counts) / len(counts), is_estimate


def _bytes(size: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size / 1e3:,.1f} kB"
