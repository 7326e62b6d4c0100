"""The registry of measures: the files of this folder; any annotator of clips is a measure of generations too."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from reelwright.annotate import registry as annotators
from reelwright.annotate.contract import Annotator, refuse_shared_columns, stored_needs
from reelwright.evaluation.errors import EvaluationError

NO_MEASURES = ("registry", "every_frame")
"""Files of this folder that measures share. Every other one is a measure's and has its name: flicker.py holds the class
whose `name` is "flicker"."""
DEFAULT = ("motion", "blur", "text", "watermark")
"""Annotators that every evaluation runs beside the measures of this folder: motion and near-still share, sharpness,
shares of text and of watermarks."""


@cache
def built_in() -> Mapping[str, str]:
    """Return name -> module of the measures here. Files are listed, nothing is imported."""
    files = iter_modules([str(Path(__file__).parent)])
    return {f.name: f"reelwright.evaluation.measures.{f.name}" for f in files if f.name not in NO_MEASURES}


def load(name: str, parameters: Mapping[str, Any] | None = None) -> Annotator:
    """Return the measure, or the annotator of clips, of this name with these parameters.

    Raises:
        EvaluationError: there is none, or it needs more than a video.
    """
    try:
        if name in built_in():
            kind = annotators.class_in("measure", built_in()[name], name, Annotator)
            found = annotators.built("measure", kind, dict(parameters or {}))
        else:
            found = annotators.load(name, parameters)
    except ValueError as error:
        raise EvaluationError(f"measure {name}: {error}; measures of generations: {', '.join(defaults())}") from error
    if not isinstance(found, Annotator):
        raise EvaluationError(f"{name} looks at all clips at once, and measures look at one generation")
    if needed := stored_needs(found):
        raise EvaluationError(f"{name} needs the column {needed[0].column} of a clip, which a generation lacks")
    return found


def load_all(measures: Mapping[str, Mapping[str, Any]]) -> list[Annotator]:
    """Return measures {name: parameters}.

    Raises:
        EvaluationError: one cannot be used, or two write one column.
    """
    found = [load(name, parameters) for name, parameters in measures.items()]
    try:
        refuse_shared_columns(found)
    except ValueError as error:
        raise EvaluationError(str(error)) from error
    return found


def defaults() -> list[str]:
    """Return the names of the measures that every evaluation runs."""
    return [*DEFAULT, *sorted(built_in())]
