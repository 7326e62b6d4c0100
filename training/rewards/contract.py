"""The contract of a reward: a video and its prompt in; a number, or a stated failure, out."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from reelwright.annotate.contract import Resources, deciding

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Video:
    """A sample to be scored.

    frames: uint8 [F, H, W, 3], RGB. rate: frames per second that it plays at. prompt: that it was made from. given: its
    first frames that were not made but given, of an image or a video that it continues.
    """

    frames: np.ndarray[Any, Any]
    rate: float
    prompt: str
    given: int = 0


@dataclass(frozen=True)
class Unscored:
    """A stated failure in place of a number. why: one sentence."""

    why: str


Score = float | Unscored
"""Of one video. A number is finite: whoever calls a reward makes others `Unscored`."""


@dataclass(frozen=True)
class Reward(ABC):
    """A reward. Larger is better.

    Parameters are fields: a subclass with some is a frozen dataclass too. A model is a `functools.cached_property`,
    loaded on first use and left behind when the reward travels to another process.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def resources(self) -> Resources:
        """Resources that one process of it occupies; `batch`: videos per call. May be a class attribute."""
        return Resources()

    @property
    def models(self) -> tuple[str, ...]:
        """Ids and content hashes of the models and texts that decide its numbers. May be a class attribute."""
        return ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Environment variables that hold the keys it needs: read where a run starts, and set in its own process."""
        return ()

    @property
    def parameters(self) -> dict[str, Any]:
        """Name -> value of its fields."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def deciding(self) -> dict[str, Any]:
        """Parameters that decide a number: all but those declared with `annotate.contract.runtime`."""
        return deciding(self)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over everything that decides a number, the same on every machine."""
        parts = {"name": self.name, "version": self.version, "parameters": self.deciding, "models": self.models}
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """Return name, version, fingerprint, parameters that decide and models, as JSON has them, for lineage."""
        told = {
            "name": self.name,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "parameters": self.deciding,
            "models": list(self.models),
        }
        return json.loads(json.dumps(told, default=str))

    def prepare(self) -> None:
        """Load its models: called once per process, before the first videos. An exception ends the run's start."""
        return None

    @abstractmethod
    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        """Score videos, one number or failure each.

        An exception is the failure of all of them.
        """

    def __getstate__(self) -> dict[str, Any]:
        return self.parameters
