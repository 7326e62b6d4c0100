"""`reel recipe`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelwright.errors import UserError
from reelwright.pipelines.cli.app import app, say

if TYPE_CHECKING:
    from pydantic import BaseModel

TUNED = ("captioner", "judge", "reward")
KINDS = ("curate", "train", *TUNED)


@app.command(epilog="Example:  reel recipe > my.yaml   then   reel curate my.yaml;   reel recipe train > train.yaml")
def recipe(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KIND] [RECIPE]", help="A kind, and a recipe of it to check and complete."),
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over it; repeatable.")] = None,
) -> None:
    """Print a recipe with every setting spelt out and explained: the defaults of a kind, or a file completed.

    Without a kind it is curate: curation and annotation. train is one of `reel train` and `reel precompute`;
    captioner, judge and reward are those of `reel tune`.
    """
    from reelwright.recipe_files import spelt_out

    words = list(what or [])
    kind = words.pop(0) if words and words[0] in KINDS else KINDS[0]
    if len(words) > 1:
        raise UserError(f"one recipe at a time: {words[0]} and {words[1]} are two; the kinds are {', '.join(KINDS)}")
    path = Path(words[0]) if words else None
    say(spelt_out(_load(kind, path, settings or [])))


def _load(kind: str, path: Path | None, settings: list[str]) -> "BaseModel":
    from reelwright.recipe_files import parse_overrides

    if kind == "train":
        from reelwright.training.recipe_file import load_recipe as load_train_recipe

        return load_train_recipe(path, parse_overrides(settings, example="optim.lr=1e-4"))
    if kind in TUNED:
        from reelwright.training.tuning.recipe import load_tune_recipe

        return load_tune_recipe(kind, path, parse_overrides(settings, example="steps=100"))
    from reelwright.pipelines.recipes.curation import load_recipe

    return load_recipe(path, parse_overrides(settings))
