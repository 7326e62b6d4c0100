"""Prompts of rollouts: the snapshot's captions, or the lines of a file, drawn without state as samples are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from reelwright.model.text import PackedText, pack_text
from reelwright.training.batch import Batch
from reelwright.training.data.draws import PROMPT, key_of, mix, permuted
from reelwright.training.errors import TrainError
from reelwright.training.texts import encode_texts

if TYPE_CHECKING:
    from reelwright.training.distributed.world import World
    from reelwright.training.recipe import TrainRecipe


class Prompts(Protocol):
    """Gives each sample of a batch its prompt."""

    def of(self, batch: Batch) -> Batch:
        """Return the batch, on the CPU, with its prompts as `captions`, and their states as `text`."""


class Captions:
    """The captions of the snapshot's clips, as the loader draws them."""

    def of(self, batch: Batch) -> Batch:
        """Return the batch as it is.

        Raises:
            TrainError: it does not tell its captions.
        """
        if len(batch.captions) != len(batch.seeds):
            raise TrainError(f"a batch of {len(batch.seeds)} clips tells {len(batch.captions)} captions; this is a bug")
        return batch


class PromptFile:
    """Prompts of a file. A pass over it takes each once, in an order of its own, however many a micro-batch holds."""

    def __init__(self, prompts: list[str], text: PackedText, recipe: TrainRecipe) -> None:
        """Take the prompts and their states, on the CPU."""
        self.prompts, self.states, self.recipe = prompts, text.unpacked(), recipe

    def of(self, batch: Batch) -> Batch:
        """Return the batch with prompts that follow from the recipe's seed and its place in the run."""
        which = self.drawn(np.arange(batch.place, batch.place + len(batch.seeds)))
        text = pack_text([self.states[i] for i in which], self.recipe.model.text_tokens)
        return replace(batch, captions=tuple(self.prompts[i] for i in which), text=text, dropped=())

    def drawn(self, serials: np.ndarray) -> list[int]:
        """Return the prompt of each draw, by the draws' numbers since step 0, int64 [N]."""
        number, position = np.divmod(serials, len(self.prompts))
        keys = mix(number.astype(np.uint64)) ^ key_of(self.recipe.seed, PROMPT)
        return permuted(position, len(self.prompts), keys).tolist()


def prompts_of(path: str, recipe: TrainRecipe, world: World) -> Prompts:
    """Return the prompts of a recipe; states of a file's are made here, once. Every rank calls it.

    Args:
        path: of the file; empty: the snapshot's captions.
        recipe: of the run.
        world: this rank and the others.

    Raises:
        TrainError: the recipe drops captions, the file has no prompts, or a task begins with frames of a clip.
    """
    if recipe.data.caption_dropout:
        raise TrainError(
            f"data.caption_dropout is {recipe.data.caption_dropout:g}, but a rollout without a prompt cannot be "
            "scored against it; set data.caption_dropout: 0"
        )
    if not path:
        return Captions()
    if recipe.tasks.i2v or recipe.tasks.continuation:
        raise TrainError(
            f"objective.prompts {path!r} is for videos from text alone: i2v and continuation begin with frames of a "
            "clip, which another clip's words do not fit; set tasks: {t2v: 1}, or leave prompts empty"
        )
    prompts = read_prompts(Path(path))
    return PromptFile(prompts, encode_texts(prompts, recipe, world), recipe)


def read_prompts(path: Path) -> list[str]:
    """Return the lines of a file that are not empty.

    Raises:
        TrainError: it cannot be read, or has none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainError(f"objective.prompts: {path} cannot be read as UTF-8 text ({error})") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise TrainError(f"objective.prompts: {path} has no prompts; write one per line")
    return prompts
