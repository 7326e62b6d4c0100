"""Samples as examples, prepared in threads some steps ahead; a bad one is counted, and nothing replaces it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from reelwright.annotate.backends.videos.patches import PictureError
from reelwright.training.tuning.objective import TuneObjective
from reelwright.training.tuning.samples import Item, LeftOut
from reelwright.training.tuning.videos import VideoError, Videos

E = TypeVar("E")
AHEAD = 2  # groups that are prepared while one is used


@dataclass(frozen=True)
class Group(Generic[E]):
    """Examples of some samples, in their order, and how many are left out, by reason."""

    examples: list[E]
    left_out: Counter[str]


class Feed(Generic[E]):
    """Makes examples. `close` ends its threads and sandboxes."""

    def __init__(self, objective: TuneObjective[E], videos: Videos, workers: int) -> None:
        """Take the use, the videos, and how many samples are prepared side by side."""
        self.objective, self.videos = objective, videos
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="tune-feed")

    def groups(self, wanted: Iterable[Sequence[Item]]) -> Iterator[Group[E]]:
        """Yield one group of examples per group of samples."""
        waiting: deque[list[Future[E | LeftOut]]] = deque()
        for items in wanted:
            waiting.append([self._threads.submit(self.example, item) for item in items])
            if len(waiting) > AHEAD:
                yield _group(waiting.popleft())
        while waiting:
            yield _group(waiting.popleft())

    def example(self, item: Item) -> E | LeftOut:
        """Return the example of a sample, or why it has none."""
        try:
            return self.objective.example(item, [self.videos.seen(video) for video in item.videos])
        except VideoError as error:
            return LeftOut(item.key, error.reason, str(error))
        except PictureError as error:
            return LeftOut(item.key, "size", str(error))

    def close(self) -> None:
        """End the threads and sandboxes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.videos.close()


def _group(futures: Sequence[Future[E | LeftOut]]) -> Group[E]:
    found = [future.result() for future in futures]
    left_out = Counter(one.reason for one in found if isinstance(one, LeftOut))
    return Group([one for one in found if not isinstance(one, LeftOut)], Counter(left_out))
