"""Which snapshots a command trains on: those that it names, else those of the recipe's `data.mix`."""

from __future__ import annotations

from collections.abc import Sequence

from reelwright.errors import UserError
from reelwright.training.mix import parse_snapshots
from reelwright.training.recipe import TrainRecipe


def choose_snapshots(recipe: TrainRecipe, words: Sequence[str]) -> tuple[TrainRecipe, str]:
    """Return (the recipe with its mix, the snapshot's name: empty where the mix names several).

    Args:
        recipe: its `data.mix` counts where no snapshot is named.
        words: NAME, or NAME:SHARE of each of several, as `--snapshot` gives them.

    Raises:
        UserError: no snapshot is named, or the names and shares make no mix.
    """
    named = list(words) or [f"{name}:{share!r}" for name, share in recipe.data.mix.items()]
    try:
        snapshot, mix = parse_snapshots(named)
    except ValueError as error:
        raise UserError(str(error)) from None
    if not snapshot and not mix:
        raise UserError("no snapshot was named; add --snapshot NAME (see: reel snapshot list)")
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"mix": mix})}), snapshot
