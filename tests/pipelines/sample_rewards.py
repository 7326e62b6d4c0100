"""Rewards that a package of somebody else's might bring, and videos of one grey level to tell them apart."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reelwright.annotate.contract import Resources, runtime
from reelwright.training.rewards.contract import Reward, Score, Video
from reelwright.training.rewards.remote.server import RewardServer


def grey(level: int) -> Video:
    """A video of one grey level, uint8 [2, 4, 6, 3]."""
    return Video(np.full((2, 4, 6, 3), level, np.uint8), 8.0, "a grey wall")


@contextmanager
def serving(reward: Reward) -> Iterator[str]:
    """Serve a reward in a thread of this process; its address."""
    server = RewardServer(reward, ("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def level_of(video: Video) -> int:
    return int(video.frames[0, 0, 0, 0])


@dataclass(frozen=True)
class Sized(Reward):
    """Takes a few videos per call."""

    batch: int = 2

    @property
    def resources(self) -> Any:
        return Resources(cpus=0.1, batch=self.batch)


@dataclass(frozen=True)
class Tenth(Sized):
    """The level; fails for every tenth one."""

    name, version = "tenth", 1

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        if any(level_of(video) % 10 == 7 for video in videos):
            raise OSError("the lens is dirty")
        return [float(level_of(video)) for video in videos]


@dataclass(frozen=True)
class Parted(Sized):
    """One of the numbers that one process computes together: its process, or how often it was prepared."""

    number: str = "pid"
    name, version = "parted", 1
    shared_model = "a model of two numbers"

    def prepare(self) -> None:
        os.environ["PARTED_PREPARED"] = str(int(os.environ.get("PARTED_PREPARED", "0")) + 1)

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        if self.number == "pid":
            return [float(os.getpid())] * len(videos)
        if any(level_of(video) == 7 for video in videos):
            raise OSError("the lens is dirty")
        return [float(os.environ["PARTED_PREPARED"])] * len(videos)


@dataclass(frozen=True)
class Hangs(Sized):
    """Sleeps for an hour over level 66; else tells its process."""

    name, version = "hangs", 1

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        if any(level_of(video) == 66 for video in videos):
            time.sleep(3600)
        return [float(os.getpid())] * len(videos)


@dataclass(frozen=True)
class Kills(Sized):
    """The level. Its process dies over level 13, and over level 14 once: then there is the file `died`."""

    died: str = ""
    name, version = "kills", 1

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        levels = [level_of(video) for video in videos]
        first = 14 in levels and not Path(self.died).exists()
        if first:
            Path(self.died).touch()
        if first or 13 in levels:
            os.kill(os.getpid(), signal.SIGKILL)
        return [float(level) for level in levels]


@dataclass(frozen=True)
class Deadly(Sized):
    """The mean level. Where there is the file `armed`, which names the folder of the run, it removes that and ends the
    process that trains, once a step is done."""

    armed: str = runtime("")
    name, version = "deadly", 1

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        armed = Path(self.armed)
        if armed.exists():
            (lock,) = Path(armed.read_text()).glob("*/run.lock")
            log = lock.with_name("log.jsonl")
            if log.exists() and '"loss"' in log.read_text():
                armed.unlink()
                os.kill(int(lock.read_text().split()[1]), signal.SIGKILL)
        return [float(video.frames.mean()) for video in videos]


@dataclass(frozen=True)
class Keyed(Sized):
    """Needs a key; the score is its length."""

    name, version = "keyed", 1
    keys = ("SOMEBODYS_REWARD_KEY",)

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        return [float(len(os.environ[self.keys[0]]))] * len(videos)


@dataclass(frozen=True)
class Large(Reward):
    """Asks for a GPU and four CPUs."""

    resources = Resources(cpus=4, gpus=1)
    name, version = "large", 1

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        return [1.0] * len(videos)


@dataclass(frozen=True)
class Unready(Sized):
    """Cannot be prepared."""

    name, version = "unready", 1

    def prepare(self) -> None:
        raise FileNotFoundError("weights.safetensors is not there")

    def __call__(self, videos: Sequence[Video]) -> list[Score]:
        return [1.0] * len(videos)
