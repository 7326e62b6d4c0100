"""Compiling before the first step: every shape of batch that a run knows, on all ranks at once.

A sharded step waits for a rank that compiles, and shapes come in any order. So each rank computes one made-up batch of
each shape, and compiles nothing after that: batches of another shape (a block's left-overs) run uncompiled.

The compiled code is kept beside the run, one file per rank. PyTorch's artifacts are code that is run, and pickles, so a
rank loads them only from a file that it has written itself: a file of this user that no other user may write.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reelwright.training.batch import Batch, PairBatch, Task
from reelwright.training.data.schedule import MicroBatch, Shape

if TYPE_CHECKING:
    from reelwright.training.recipe import TrainRecipe

FOLDER = "compiled"
SAY_S = 10.0  # seconds between two lines


@dataclass(frozen=True)
class Rehearsal:
    """Shapes to compile. training: forward and backward; validation: forward alone."""

    recipe: TrainRecipe
    training: Sequence[Shape]
    validation: Sequence[Shape] = ()

    @classmethod
    def of(cls, recipe: TrainRecipe, shapes: Sequence[Shape], held_out: Sequence[MicroBatch]) -> Rehearsal:
        """Return that of a run: shapes of its schedule, and of its batches of validation."""
        return cls(recipe, shapes, list(dict.fromkeys(micro.shape for micro in held_out)))

    def batch(self, shape: Shape) -> Batch:
        """Make up a batch of a shape: no latent, and captions of a few tokens, whose lengths are fixed in no graph."""
        import torch

        from reelwright.model.dtypes import DTYPES
        from reelwright.model.text import pack_text

        model, samples = self.recipe.model, shape.samples
        latents = torch.zeros(samples, model.in_channels, *shape.bucket.latent)
        states = torch.zeros(
            min(model.text_tokens, 7), model.caption_channels, dtype=DTYPES[self.recipe.data.store_dtype]
        )
        batch = Batch(
            latents, pack_text([states] * samples, model.text_tokens), _task(shape), shape.cond_frames,
            seeds=list(range(samples)), clip_ids=[""] * samples, samples_in_step=samples, step=-1, micro=0,
            bucket=shape.bucket.key,
        )  # fmt: skip
        return PairBatch.of(batch, torch.zeros_like(latents)) if self.recipe.data.pair else batch


def rehearse(
    rehearsal: Rehearsal,
    compute: Callable[[Batch, bool], None],
    *,
    cache: Path,
    say: Callable[[str], None],
) -> None:
    """Compile all shapes. Every rank calls it.

    Args:
        rehearsal: the shapes.
        compute: forward of a batch, and backward where the flag says so; leaves no gradient.
        cache: file of this rank with compiled code: read if it is there, written at the end.
        say: prints a line.
    """
    known = _load(cache)
    work = [(shape, True) for shape in rehearsal.training] + [(shape, False) for shape in rehearsal.validation]
    began = told = time.monotonic()
    where = "from the run's cache" if known else "nothing is cached yet"
    say(f"compiling for {len(work)} shapes of micro-batches before the first step ({where})")
    for number, (shape, backward) in enumerate(work, start=1):
        compute(rehearsal.batch(shape), backward)
        if time.monotonic() - told >= SAY_S:
            told = time.monotonic()
            say(f"compiled for {number} of {len(work)} shapes")
    say(f"compiled for {len(work)} shapes in {time.monotonic() - began:.0f} s")
    _save(cache)


def compiled_alone(rehearsal: Rehearsal | None) -> AbstractContextManager[object]:
    """Return a context in which nothing is compiled any more; without a rehearsal it changes nothing."""
    if rehearsal is None:
        return nullcontext()
    import torch

    return torch.compiler.set_stance("eager_on_recompile")


def _task(shape: Shape) -> Task:
    if shape.bucket.frames == 1:
        return "t2i"
    return ("t2v", "i2v")[shape.cond_frames] if shape.cond_frames < 2 else "continuation"


def _save(path: Path) -> None:
    """Keep the compiled code in a file that its owner alone can read and write."""
    import torch

    artifacts = torch.compiler.save_cache_artifacts()
    if artifacts is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.unlink(missing_ok=True)
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(artifacts[0])
    os.replace(unfinished, path)


def _load(path: Path) -> bool:
    """Load the code that an earlier start of this run has compiled, if the file is ours; return whether it was."""
    import torch

    handle = open_own(path)
    if handle is None:
        return False
    with os.fdopen(handle, "rb") as file:
        return torch.compiler.load_cache_artifacts(file.read()) is not None


def open_own(path: Path) -> int | None:
    """Open a file to read if it is this user's, no link, and writable by no other user; None if not."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    status = os.fstat(handle)
    if status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return handle
    os.close(handle)
    return None
