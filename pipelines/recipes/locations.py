"""Local paths of a training recipe made absolute: workers on Ray run in folders of their own."""

from pathlib import Path
from typing import TypeVar

from reelwright.model.config import CodecConfig, TextConfig
from reelwright.training.recipe import TrainRecipe

Encoder = TypeVar("Encoder", CodecConfig, TextConfig)


def with_absolute_paths(recipe: TrainRecipe) -> TrainRecipe:
    """Return the recipe with absolute paths: `init`, `cache_dir`, and `codec.path` and `text.path` if they exist.

    A path that does not exist is a hub id, or will be refused by its name as it was written.
    """
    init = str(Path(recipe.init).expanduser().absolute()) if recipe.init else ""
    cache = recipe.data.encode.cache_dir and str(Path(recipe.data.encode.cache_dir).expanduser().absolute())
    encode = recipe.data.encode.model_copy(update={"cache_dir": cache})
    return recipe.model_copy(
        update={
            "init": init,
            "codec": _located(recipe.codec),
            "text": _located(recipe.text),
            "data": recipe.data.model_copy(update={"encode": encode}),
        }
    )


def _located(encoder: Encoder) -> Encoder:
    path = Path(encoder.path).expanduser()
    return encoder.model_copy(update={"path": str(path.absolute())}) if encoder.path and path.exists() else encoder
