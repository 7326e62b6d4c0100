"""Keys of object stores in the environment, where libraries look for them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from reelwright.recipe_files import RecipeError

_used: dict[str, str] = {}


def use(credentials: Mapping[str, str]) -> None:
    """Set the variables that libraries of object stores read to the values of those that the recipe names.

    Raises RecipeError where one is not set in this process's environment.
    """
    _used.clear()
    _used.update(credentials)
    for name, variable in credentials.items():
        value = os.environ.get(variable)
        if value is None:
            raise RecipeError(
                f"credentials.{name}: the environment variable {variable} is not set on this machine; set it where "
                "`reel` and Ray are started"
            )
        os.environ[name] = value


def in_use() -> dict[str, str]:
    """Return what `use` was called with last: names of variables, and no key."""
    return dict(_used)
