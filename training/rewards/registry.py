"""The registry of rewards: the files of this folder, and the entry points of installed packages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from reelwright.annotate.registry import built, class_in, look_alikes
from reelwright.training.rewards.contract import Reward

NO_REWARDS = ("calling", "contract", "in_process", "registry", "reward_thread", "scoring")
"""Files of this folder that rewards and their callers share. Every other one is a reward's and has its name:
drift.py holds the class whose `name` is "drift". Such a file imports torch inside functions: recipes are read
without it."""

ENTRY_POINTS = "reelwright.rewards"
"""Other packages add rewards under this group: name = "module:Class"."""


@cache
def built_in() -> Mapping[str, str]:
    """Return name -> module of reelwright's own rewards. Files are listed, nothing is imported."""
    files = iter_modules([str(Path(__file__).parent)])
    return {
        file.name: f"reelwright.training.rewards.{file.name}"
        for file in files
        if not file.ispkg and file.name not in NO_REWARDS
    }


def available() -> list[str]:
    """Return the names that `load` knows; a package cannot take a built-in's."""
    return list(dict.fromkeys([*built_in(), *(point.name for point in entry_points(group=ENTRY_POINTS))]))


def kind_of(name: str) -> type[Reward]:
    """Return the class of a reward, from its own file alone.

    Raises:
        ValueError: no reward has this name, or the package that brings it cannot be imported.
    """
    if name in built_in():
        return class_in("reward", built_in()[name], name, Reward)
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            return point.load()
        except Exception as error:  # another package's code
            raise ValueError(f"reward {name!r} of {point.value} cannot be imported: {error}") from error
    raise ValueError(f"{name!r} is not a reward; {look_alikes(name, available())}")


def load(kind: str, parameters: Mapping[str, Any] | None = None) -> Reward:
    """Return the reward of this name with these parameters; no model is loaded.

    Raises:
        ValueError: no reward has this name, or it has no such parameter, or not with this value.
    """
    return built("reward", kind_of(kind), dict(parameters or {}))
