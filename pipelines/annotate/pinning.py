"""Models that a hub hands out, at the commit that is loaded: so that a fingerprint says which weights made a value.

A branch moves. The driver resolves it to a commit, which all workers load.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from reelwright.annotate import load
from reelwright.annotate.backends.hub import commit_of
from reelwright.annotate.errors import AnnotatorError
from reelwright.pipelines.recipes.curation import CurateRecipe, merged

Found = tuple[tuple[str, ...], str, str]
"""Of a part of an annotator that loads a hub's model: the parameters that lead to it, the model, the revision."""


def pin_models(recipe: CurateRecipe, only: Sequence[str] = ()) -> CurateRecipe:
    """Return the recipe with the commit of each hub model of its annotators, where the hub can be asked.

    Args:
        recipe: the recipe.
        only: names of the annotators; all if empty.
    """
    parameters = recipe.parameters
    for name, own in recipe.annotator_params():
        for path, model, revision in _hub_models(name, own) if not only or name in only else ():
            commit = commit_of(model, revision)
            if commit == revision:
                continue
            pin: dict[str, Any] = {"revision": commit}
            for part in reversed((name, *path)):
                pin = {part: pin}
            parameters = merged(parameters, pin)
            where = ".".join(("parameters", name, *path, "revision"))
            print(f"{name}: {model} at {commit}; to stay there, set {where} to that", file=sys.stderr, flush=True)
    return recipe if parameters is recipe.parameters else recipe.model_copy(update={"parameters": parameters})


def _hub_models(name: str, parameters: Mapping[str, Any]) -> Iterator[Found]:
    try:
        annotator = load(name, parameters)
    except (ValueError, AnnotatorError):  # `load_annotators` reports the fault
        return
    yield from _in_parts(annotator)


def _in_parts(thing: Any, path: tuple[str, ...] = ()) -> Iterator[Found]:
    found = getattr(thing, "from_hub", None)
    if found:
        yield path, *found
    for f in fields(thing):
        part = getattr(thing, f.name)
        if is_dataclass(part) and not isinstance(part, type):
            yield from _in_parts(part, (*path, f.name))
