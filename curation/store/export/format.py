"""A format of exports, and how they are found: each module of this folder that has a `FORMAT` is one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reelwright.curation.store.export.selection import Export


@dataclass(frozen=True)
class Format:
    """write: puts the clips of an export into its folder, and adds to its notes. description: one line on its contents.

    use: what to tell the trainer, `{out}` being the export's folder; empty where nothing is to be said. portable:
    whether none of its files says where the export lies, so that it may be moved. takes_all: whether it has all
    captions of a clip, or the best alone.
    """

    name: str
    description: str
    write: Callable[[Export], None]
    use: str = ""
    portable: bool = True
    takes_all: bool = False


def find_formats() -> dict[str, Format]:
    """Return formats by name, in the order of names. Raises ValueError where two have one name."""
    here = Path(__file__).parent
    found: dict[str, Format] = {}
    for module in sorted(pkgutil.iter_modules([str(here)]), key=lambda m: m.name):
        one = getattr(importlib.import_module(f"reelwright.curation.store.export.{module.name}"), "FORMAT", None)
        if one is None:
            continue
        if one.name in found:
            raise ValueError(f"two modules of {here} have a format called {one.name!r}; rename one")
        found[one.name] = one
    return dict(sorted(found.items()))
