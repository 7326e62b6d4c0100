"""Read a training recipe from its YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelwright.recipe_files import load
from reelwright.training.recipe import TrainRecipe


def load_recipe(path: Path | str | None = None, overrides: Mapping[str, Any] | None = None) -> TrainRecipe:
    """Read a training recipe and set `overrides` over it.

    Args:
        path: the YAML file; without one, the defaults.
        overrides: values by dotted name, such as {"optim.lr": 1e-4}.

    Raises:
        RecipeError: the file cannot be read, or a setting is unknown or out of range; a sentence about the first.
    """
    return load(TrainRecipe, None if path is None else Path(path), overrides, example="steps: 1000")
