"""Videos and rewards made up for tests; the rewards are real ones, in the manner of a user's own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reelwright.training.rewards.contract import Reward, Score, Unscored, Video


def video(level: int = 0, frames: int = 2, prompt: str = "a grey wall", **more: Any) -> Video:
    """A video of one grey level, uint8 [frames, 4, 6, 3]."""
    return Video(np.full((frames, 4, 6, 3), level, np.uint8), 8.0, prompt, **more)


@dataclass(frozen=True)
class Level(Reward):
    """Mean level of the first frame. `odd`: values in place of the number, by level."""

    batch: int = 3

    name, version = "level", 1

    @property
    def resources(self) -> Any:
        from reelwright.annotate.contract import Resources

        return Resources(batch=self.batch)

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        assert len(videos) <= self.batch
        levels = [int(one.frames[0].mean()) for one in videos]
        if 99 in levels:
            raise OSError("the disk is\nfull")
        odd = {90: float("nan"), 91: float("inf"), 92: None, 93: Unscored("too dull"), 94: True, 95: np.float32(2.5)}
        found = [odd.get(level, float(level)) for level in levels]
        return found[:-1] if 98 in levels else found


@dataclass(frozen=True)
class Spoiler(Reward):
    """Writes into the frames that it is given."""

    name, version = "spoiler", 1

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        for one in videos:
            one.frames[:] = 0
        return [1.0] * len(videos)


class Waiting(Reward):
    """Waits until it is let go; counts the threads that it runs in."""

    name, version = "waiting", 1
    go: threading.Event
    threads: set[str]

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        self.threads.add(threading.current_thread().name)
        assert self.go.wait(60)
        return [1.0] * len(videos)


@dataclass(frozen=True)
class Hangs(Reward):
    """Hangs at level 66, until it is let go; else the number of its thread.

    unready_again: it can be prepared once. is_other: each object of it is another reward, as a service may give.
    """

    batch: int = 1
    unready_again: bool = False
    is_other: bool = False

    go: ClassVar[threading.Event] = threading.Event()
    prepared: ClassVar[list[bool]] = []
    name, version = "hangs", 1

    @property
    def resources(self) -> Any:
        from reelwright.annotate.contract import Resources

        return Resources(batch=self.batch)

    def describe(self) -> dict[str, Any]:
        return super().describe() | ({"served": {"fingerprint": f"number {id(self)}"}} if self.is_other else {})

    def prepare(self) -> None:
        self.prepared.append(True)
        if self.unready_again and len(self.prepared) > 1:
            raise TimeoutError("the weights are gone")  # its own, which is not the limit of a call

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        if any(one.frames[0].mean() == 66 for one in videos):
            self.go.wait(600)
        return [float(threading.get_ident())] * len(videos)


class Unready(Reward):
    """Cannot be prepared."""

    name, version = "unready", 1

    def prepare(self) -> None:
        raise FileNotFoundError("weights.safetensors is not there")

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        return [1.0] * len(videos)
