"""Where the parts of a reward model lie, and one loaded model per process for all rewards that read it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

T = TypeVar("T")

_LOADING = threading.RLock()


@dataclass(frozen=True)
class Source:
    """Parts of a reward model; equal sources are one model.

    checkpoint, revision: a file or folder, or a hub's id and revision. base, base_revision: the model that was tuned.
    instruction, instruction_sha256: the file with its text. dtype: to compute in. device: "auto" is the GPU that the
    process was given, or its CPU. batch: pictures or videos per forward. step: of the checkpoint; 0: the last.
    """

    checkpoint: str
    revision: str
    base: str
    base_revision: str
    instruction: str
    instruction_sha256: str
    dtype: str
    device: str
    batch: int
    step: int = 0


def shared(kind: Callable[[Source], T], source: Source) -> T:
    """Return `kind(source)`: made at the first call, and the same object at later ones in this process."""
    with _LOADING:  # rewards are prepared and called in threads of their own
        return cast(T, _load(kind, source))


@cache
def _load(kind: Callable[[Source], Any], source: Source) -> Any:
    return kind(source)
