"""The contract of a reward: a video and its prompt in; a number, or a stated failure, out."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reelwright.annotate.contract import Configured, deciding

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Video:
    """A sample to be scored.

    frames: uint8 [F, H, W, 3], RGB. rate: frames per second that it plays at. prompt: that it was made from. given: its
    first frames that were not made but given, of an image or a video that it continues. A reward that judges frames by
    themselves leaves those out; one that judges the video as a whole sees them, as what the rest goes on from.
    """

    frames: np.ndarray[Any, Any]
    rate: float
    prompt: str
    given: int = 0


@dataclass(frozen=True)
class Unscored:
    """A stated failure in place of a number. why: one sentence."""

    why: str


@dataclass(frozen=True)
class Work:
    """What one video takes of a reward's model, for plans. forwards: of it. flops: of all of them."""

    forwards: float
    flops: float


Score = float | Unscored
"""Of one video. A number is finite: whoever calls a reward makes others `Unscored`."""


def marks_of(told: Mapping[str, Any]) -> tuple[str, str]:
    """Return the fingerprint of a described reward, and of the one that a service gives for it, else ""."""
    return told["fingerprint"], (told.get("served") or {}).get("fingerprint", "")


@dataclass(frozen=True)
class Reward(Configured):
    """A reward. Larger is better. `resources` are those of one process of it, `batch` its videos per call."""

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

    @property
    def shared_model(self) -> str:
        """Text that rewards have in common whose scores come from one pass of one model: one process computes them all.

        Empty: it shares none.
        """
        return ""

    @property
    def longest_call_s(self) -> float:
        """Seconds that a call may take by limits of its own, of a reward that waits for a server; 0: it has none."""
        return 0.0

    @property
    def model_bytes(self) -> int:
        """Bytes of the weights that a process of it holds, for plans; 0: not known, or none."""
        return 0

    def work(self, frames: int, height: int, width: int, rate: float) -> Work | None:
        """Return what a video of this shape takes of its model, for plans; None: not known, or it has none.

        Args:
            frames: of the video, none of them given.
            height: in pixels.
            width: in pixels.
            rate: frames per second.
        """
        return None

    def prepare(self) -> None:
        """Load its models: called once per process, before the first videos. An exception ends the run's start."""
        return None

    @abstractmethod
    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        """Score videos, one number or failure each.

        An exception is the failure of all of them.
        """
