"""The registry of annotators: the files of the folders below, and the entry points of installed packages."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, TypeVar

from reelwright.annotate.contract import Computes, refuse_shared_columns

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FOLDERS = ("picture", "motion", "overlay", "captions", "sets")
"""Each file in them is an annotator's and has its name: picture/blur.py holds the class whose `name` is "blur". What
several files share lies in folders below."""

T = TypeVar("T")

ENTRY_POINTS = "reelwright.annotators"
"""Other packages add annotators under this group: name = "module:Class"."""


@cache
def built_in() -> Mapping[str, str]:
    """Return name -> module of reelwright's own annotators. Files are listed, nothing is imported."""
    here = Path(__file__).parent
    return {
        file.name: f"reelwright.annotate.{folder}.{file.name}"
        for folder in FOLDERS
        for file in iter_modules([str(here / folder)])
        if not file.ispkg
    }


def available() -> list[str]:
    """Return the names that `load` knows; a package cannot take a built-in's."""
    return list(dict.fromkeys([*built_in(), *_brought(tuple(sys.path))]))


@cache
def _brought(path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """Return name -> entry point of the packages on `path`: looking at all that are installed takes a while."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINTS):
        found.setdefault(point.name, point)
    return found


def kind_of(name: str) -> type[Computes]:
    """Return the class of an annotator, from its own file alone.

    Raises:
        ValueError: no annotator has this name, or the package that brings it cannot be imported.
    """
    if name in built_in():
        return class_in("annotator", built_in()[name], name, Computes)
    if point := _brought(tuple(sys.path)).get(name):
        try:
            return point.load()
        except Exception as error:  # another package's code
            raise ValueError(f"annotator {name!r} of {point.value} cannot be imported: {error}") from error
    raise ValueError(f"{name!r} is not an annotator; {look_alikes(name, available())}")


def load(name: str, parameters: Mapping[str, Any] | None = None) -> Computes:
    """Return the annotator of this name with these parameters.

    Raises:
        ValueError: no annotator has this name, or it has no such parameter, or not with this value.
    """
    return built("annotator", kind_of(name), dict(parameters or {}))


def load_all(recipe: Mapping[str, Mapping[str, Any] | None]) -> list[Computes]:
    """Return the annotators of a recipe {name: parameters}, in its order.

    Raises:
        ValueError: as `load`, and where two write one column.
    """
    annotators = [load(name, parameters) for name, parameters in recipe.items()]
    refuse_shared_columns(annotators)
    return annotators


def in_profile(profile: str) -> dict[str, dict[str, Any]]:
    """Return name -> parameters of a profile's annotators: "cpu" or "full", as the classes say of themselves."""
    kinds = {name: kind_of(name) for name in available()}
    return {
        name: dict(kind.profile_parameters.get(profile, {})) for name, kind in kinds.items() if profile in kind.profiles
    }


def in_no_profile(name: str) -> bool:
    """Return whether there is an annotator of this name that runs only where it is asked for by name."""
    return name in available() and not kind_of(name).profiles


def typical_s(name: str) -> float | None:
    """Return the worker seconds per clip that an annotator's class states; None where it states none."""
    try:
        return kind_of(name).typical_s
    except ValueError:
        return None


def class_in(what: str, module: str, name: str, base: type) -> Any:
    """Return the class of this name that a module's own file holds.

    Args:
        what: the thing that errors speak of, such as "annotator".
        module: its name.
        name: of the file, and the class's `name`.
        base: the class's base.

    Raises:
        TypeError: the file has none.
    """
    for value in vars(import_module(module)).values():
        is_own = isinstance(value, type) and value.__module__ == module
        if is_own and issubclass(value, base) and getattr(value, "name", None) == name:
            return value
    raise TypeError(f"{module} has no {what} with the file's name: give a class name = {name!r}")


def built(what: str, kind: type[T], parameters: Mapping[str, Any]) -> T:
    """Return a dataclass of this kind with parameters as recipes write them.

    Args:
        what: the thing that errors speak of, such as "annotator".
        kind: its class, which has a `name`.
        parameters: of it, checked against its fields' types.

    Raises:
        ValueError: it has no such parameter, or not with this value.
    """
    from pydantic import ValidationError

    name = getattr(kind, "name")  # noqa: B009 - of annotators and rewards alike
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in parameters:
        if key not in known:
            raise ValueError(f"{what} {name!r} has no parameter {key!r}; {look_alikes(key, known)}")
    try:
        return _checker(kind).validate_python(parameters)  # type: ignore[arg-type]  # classes are hashable
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        told = f"{where} = {first['input']!r}: {first['msg']}" if where else first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{what} {name!r}: {told}") from None


@cache
def _checker(kind: type[T]) -> TypeAdapter[T]:
    """Return what checks a class's parameters; made once, as a run loads each annotator several times."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def look_alikes(name: str, known: Collection[str]) -> str:
    """Return the end of an error about an unknown name: known ones that look like it, else all of them."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"look-alikes: {', '.join(close)}" if close else f"there are: {', '.join(sorted(known)) or 'none'}"
