"""Training: recipes, the samples of each step, objectives, and the loop on one rank or many.

from reelwright.training import Loader, load_recipe, make_schedule
recipe = load_recipe("configs/train/mini/demo.yaml")
loader = Loader(store, "snapshot", make_schedule(store, "snapshot", recipe), recipe)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reelwright.lazy import lazy

if TYPE_CHECKING:
    from reelwright.training.batch import Batch as Batch
    from reelwright.training.data.loader import Loader as Loader
    from reelwright.training.data.loader import Portion as Portion
    from reelwright.training.data.loader import make_schedule as make_schedule
    from reelwright.training.errors import TrainError as TrainError
    from reelwright.training.objectives.base import Loss as Loss
    from reelwright.training.objectives.base import Objective as Objective
    from reelwright.training.recipe import TrainRecipe as TrainRecipe
    from reelwright.training.recipe_file import load_recipe as load_recipe
    from reelwright.training.registry import ObjectiveConfig as ObjectiveConfig

_HOME = {
    "Batch": "batch",
    "Loader": "data.loader",
    "Loss": "objectives.base",
    "Objective": "objectives.base",
    "ObjectiveConfig": "registry",
    "Portion": "data.loader",
    "TrainError": "errors",
    "TrainRecipe": "recipe",
    "load_recipe": "recipe_file",
    "make_schedule": "data.loader",
}

__all__ = list(_HOME)

if not TYPE_CHECKING:  # a checker would take any name for granted
    __getattr__, __dir__ = lazy(__name__, _HOME)
