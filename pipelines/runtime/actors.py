"""A pool of Ray actors that share a queue of work: an item that kills its actor is tried again alone, then given up."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reelwright import interrupts
from reelwright.errors import UserError, first_line

AHEAD = 2  # calls in flight for each actor by default, so that none waits for the driver
ATTEMPTS = 2  # of a single item whose actor is lost


@dataclass(frozen=True)
class Work:
    """A call of `method`(*args, items) on whichever actor is free."""

    method: str
    args: tuple[Any, ...]
    items: tuple[str, ...]
    attempts: int = 0
    alone: bool = False  # to be handed to an idle actor with nothing behind it: it is suspected of killing its actor


@dataclass(frozen=True)
class Result:
    """The result of a call.

    Attributes:
        value: returned by the call; None where the call failed on a single item, or took its actor down, for the reason
            `lost`.
    """

    work: Work
    value: Any
    lost: str = ""


def pool_size(items: int, workers: int | None, *, per_gpu: int = 1, use_gpus: bool = True) -> tuple[int, float]:
    """Return how many actors the cluster has room for, and the share of a GPU of each, so that all find room.

    Args:
        items: of work.
        workers: that were asked for; None: `per_gpu` per GPU, or one per CPU where there is no GPU.
        per_gpu: actors of a GPU.
        use_gpus: whether they need any.
    """
    import ray

    have = ray.cluster_resources()
    gpus, cpus = int(have.get("GPU", 0)) if use_gpus else 0, max(1, int(have.get("CPU", 1)))
    size = min(workers or gpus * per_gpu or cpus, cpus, items)
    return size, 1 / math.ceil(size / gpus) if gpus else 0.0


class Actors:
    """`size` actors made by `make`; use as a context manager, which ends them."""

    def __init__(self, make: Callable[[], Any], size: int, *, ahead: int = AHEAD) -> None:
        self.make, self.size, self.ahead = make, size, ahead
        self.queue: deque[Work] = deque()
        self._actors: list[Any] = []
        self._in_flight: dict[Any, tuple[Any, Work]] = {}

    def start(self) -> None:
        """Start the actors."""
        self._actors = [self.make() for _ in range(self.size)]

    def __enter__(self) -> "Actors":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refuse_unfit(self, command: str) -> None:
        """Ask all actors to `check()` themselves.

        Raises:
            UserError: one did not start, or says why it cannot work.
        """
        import ray

        try:
            problems = ray.get([actor.check.remote() for actor in self._actors])
        except ray.exceptions.RayActorError as error:
            why = first_line(error)
            raise UserError(f"a worker of {command} did not start ({why}); is there memory for it?") from error
        for problem in filter(None, problems):
            raise UserError(problem)

    def close(self) -> None:
        """End the actors, whatever they are at."""
        import ray

        for actor in self._actors:
            ray.kill(actor)
        self._in_flight.clear()

    @property
    def actors(self) -> Sequence[Any]:
        """The actors that run now."""
        return self._actors

    @property
    def in_flight(self) -> int:
        """Calls that actors have."""
        return len(self._in_flight)

    def __bool__(self) -> bool:
        return bool(self.queue or self._in_flight)

    def next_done(self, timeout_s: float = 1.0) -> list[Result]:
        """Hand out work, then wait for calls to finish; return the finished calls, none if time runs out."""
        import ray

        interrupts.check()
        self._hand_out()
        ready, _ = ray.wait(list(self._in_flight), num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = ray.wait(list(self._in_flight), num_returns=len(self._in_flight), timeout=0)
        return [result for ref in ready if ref in self._in_flight for result in self._finish(ref)]

    def _hand_out(self) -> None:
        for _ in range(self.ahead):
            for actor in self._actors:
                if self.queue and self._takes(actor, self.queue[0]):
                    work = self.queue.popleft()
                    self._in_flight[getattr(actor, work.method).remote(*work.args, work.items)] = (actor, work)

    def _takes(self, actor: Any, work: Work) -> bool:
        held = [other for busy, other in self._in_flight.values() if busy is actor]
        return not held if work.alone else len(held) < self.ahead and not any(other.alone for other in held)

    def _finish(self, ref: Any) -> list[Result]:
        import ray

        actor, work = self._in_flight[ref]
        try:
            value = ray.get(ref)
        except ray.exceptions.RayActorError as error:
            return self._replace(actor, first_line(error))
        except ray.exceptions.RayTaskError as error:
            del self._in_flight[ref]
            return self._again(work, f"{type(error.cause).__name__}: {error.cause}")
        del self._in_flight[ref]
        return [Result(work, value)]

    def _replace(self, actor: Any, why: str) -> list[Result]:
        """Replace a lost actor. Its calls are queued again: the first, which it was at, item by item and alone.

        The first may be innocent: its result is lost when the call behind it ends the process at once.
        """
        import ray

        refs = [ref for ref, (other, _) in self._in_flight.items() if other is actor]
        suspect, *behind = [self._in_flight.pop(ref)[1] for ref in refs]
        ray.kill(actor)
        self._actors[self._actors.index(actor)] = self.make()
        self.queue.extendleft(reversed(behind))
        return self._again(replace(suspect, alone=True), why)

    def _again(self, work: Work, why: str) -> list[Result]:
        """Queue failed items once more, one by one; a single item is given up after a few attempts."""
        if len(work.items) > 1:
            self.queue.extendleft(replace(work, items=(item,)) for item in work.items)
        elif work.attempts + 1 < ATTEMPTS:
            self.queue.appendleft(replace(work, attempts=work.attempts + 1))
        else:
            return [Result(work, None, why)]
        return []
