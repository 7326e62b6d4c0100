"""Keys of object stores by reference: a recipe names the environment variables that hold them, never the keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reelwright.recipe_files import RecipeError

KNOWN = re.compile(r"(AWS|GOOGLE|AZURE)_[A-Z0-9_]+")
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


def check_names(credentials: Mapping[str, Any]) -> None:
    """Raise RecipeError where a recipe's `credentials` hold anything but names; the error repeats no value."""
    for name, variable in credentials.items():
        if not KNOWN.fullmatch(str(name)):
            raise RecipeError(
                f"credentials: {name!r} is no variable of an object store, as AWS_…, GOOGLE_… and AZURE_… are"
            )
        if not isinstance(variable, str) or not VARIABLE.fullmatch(variable):
            raise RecipeError(
                f"credentials.{name} must name the environment variable that holds the value, such as MY_STORE_KEY; a "
                "key itself does not belong in a recipe"
            )
