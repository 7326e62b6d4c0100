"""Keep a cluster busy with a bounded amount of work: later stages go first, so that nothing piles up between stages.

Why Ray tasks and not Ray Data: one source becomes any number of clips, one file's failure must be a row and not a
retry of its batch, and a single process commits; see docs/architecture.md.

The driver's own CPU decides how many cores it feeds. So short pieces of work share a task, and what is done per round
of the loop does not grow with the tasks in flight more than it must.
"""

import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from reelwright import interrupts
from reelwright.curation.results import Failed
from reelwright.curation.usage import Lap, Usage
from reelwright.pipelines.runtime.meter import Metered, Stage, metered
from reelwright.pipelines.runtime.metrics import Metrics
from reelwright.pipelines.runtime.pace import Pace

RUN_AHEAD = 2  # tasks in flight for each CPU of the cluster: enough that no worker waits for the driver
ASK_EVERY_S = 2.0  # for the cluster's CPUs
WAIT_SHARE, WAIT_S = 64, 0.1
"""With many tasks in flight, a round waits until one in so many has finished, or so many seconds: each asks for all."""


class Need(Protocol):
    """CPUs and GPUs that one task of a stage occupies on the cluster."""

    @property
    def cpus(self) -> float:
        """CPUs of one task."""

    @property
    def gpus(self) -> float:
        """GPUs of one task."""


@dataclass(frozen=True)
class Done:
    """A finished piece of work. `value` is its result, or `Failed` where its worker was lost for good: `is_lost`."""

    stage: str
    context: Any
    value: Any
    extra: Any = None  # ObjectRef of a second return value, which stays where it was made
    is_lost: bool = False


@dataclass(frozen=True)
class _Work:
    """A piece of work that waits. alone: its task was lost together with others', one of which may be to blame."""

    context: Any
    args: tuple[Any, ...]
    node: str
    weight: float
    alone: bool = False


@dataclass(frozen=True)
class _Task:
    """A task in flight. began: when it was handed to Ray, by the driver's clock."""

    stage: str
    work: Sequence[_Work]
    extra: Any
    began: float


class Flow:
    """Tasks waiting and in flight, by stage; `stages` lists them from first to last."""

    def __init__(
        self,
        stages: Mapping[str, tuple[Any, Need, int]],
        *,
        attempts: int,
        prepare: Callable[[], None] | None = None,
        batched: Collection[str] = (),
    ) -> None:
        """Take no task yet.

        Args:
            stages: name -> (function, a task's resources, number of return values: 1; 2 for a value and a payload).
            attempts: times that a task runs again whose worker was lost.
            prepare: called on the worker before each task.
            batched: stages whose function takes a list in the place of its first argument and returns a list of
                values: short pieces of work share a task. Other arguments are the same for all work of the stage.
        """
        import ray

        self._ray = ray
        self._functions, self._options, self._remote = {}, {}, {}
        for name, (function, need, returns) in stages.items():
            self._functions[name] = ray.remote(metered(name, function, returns, prepare))
            self._options[name] = {
                "num_cpus": need.cpus, "num_gpus": need.gpus, "max_retries": attempts, "num_returns": returns,
                "name": f"reel:{name}",
            }  # fmt: skip
            self._remote[name, ""] = self._functions[name].options(**self._options[name])
        self._warn_of_what_fits_no_node({name: need for name, (_, need, _) in stages.items()})
        self._queues: dict[str, deque[_Work]] = {name: deque() for name in stages}
        self._paces = {name: Pace() for name in batched}
        self._cpus = {name: need.cpus for name, (_, need, _) in stages.items()}
        self._in_flight: dict[Any, _Task] = {}
        self._handed: deque[Any] = deque()  # tasks that no worker has begun yet, as far as this process can tell
        self._begun: dict[Any, float] = {}  # tasks that a worker is at, since when
        self._running = Counter[str]()  # pieces of work in flight, by stage
        self._slots, self._asked_at = 0, 0.0
        self.stages: defaultdict[str, Stage] = defaultdict(Stage)
        self.metrics = Metrics()

    def add(self, stage: str, context: Any, *args: Any, node: str = "", weight: float = 1.0) -> None:
        """Queue a piece of work; `context` comes back with its result.

        Args:
            stage: its name.
            context: of the caller.
            args: of the stage's function; of a batched stage, the first is one item.
            node: Ray's id of the one to run on, if it has room.
            weight: how long it takes in proportion to other work of a batched stage; 0: unknown, it gets its own task.
        """
        self._queues[stage].append(_Work(context, args, node, weight))

    def waiting(self, stage: str) -> int:
        """Pieces of work of a stage that are queued or in flight."""
        return len(self._queues[stage]) + self._running[stage]

    def wanted(self, stage: str) -> int:
        """Return how much work, queued and in flight, keeps the cluster busy with this stage alone."""
        if stage not in self._paces:
            return self.slots()
        return self.slots() * (1 if (count := self._paces[stage].usual_count) == 1 else 2 * count)

    def figures(self) -> dict[str, dict[str, float]]:
        """Return stage -> what its work took so far, how much waits and how much is in flight."""
        return {
            name: self.stages[name].to_json() | {"queued": len(queue), "in_flight": self._running[name]}
            for name, queue in self._queues.items()
        }

    def at_once(self, stage: str) -> float:
        """Return how many tasks of a stage the cluster has the cores for."""
        return self.slots() / RUN_AHEAD / max(self._cpus[stage], 1.0)

    def under_way(self) -> list[tuple[str, list[Any], float]]:
        """Return the tasks that workers are at: stage, contexts, and seconds since they began.

        Ray does not say when it begins a task; it begins them in the order in which they were handed to it.
        """
        now = time.monotonic()
        tasks = ((self._in_flight[ref], since) for ref, since in self._begun.items())
        return [(task.stage, [work.context for work in task.work], now - since) for task, since in tasks]

    def count(self, stage: str, used: Usage) -> None:
        """Count requests that this process made itself for a stage that has no tasks; none of them is no stage."""
        if used.requests:
            lap = Lap(0, 0.0, used)
            self.stages[stage].add(lap, 0.0)
            self.metrics.add(stage, lap, 0.0)

    def __bool__(self) -> bool:
        return bool(self._in_flight) or any(self._queues.values())

    def slots(self) -> int:
        """Return how many tasks may be in flight: follows the cluster as nodes come and go."""
        now = time.monotonic()
        if not self._slots or now - self._asked_at >= ASK_EVERY_S:
            self._slots = RUN_AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1)))
            self._asked_at = now
        return self._slots

    def next_done(self, timeout_s: float = 1.0) -> list[Done]:
        """Start tasks while there is room, then wait; return the work that finished, none if time runs out."""
        interrupts.check()
        self._start()
        self._note_begun()
        if not self._in_flight:
            return []
        refs = list(self._in_flight)
        first = max(1, len(refs) // WAIT_SHARE)
        ready, rest = self._ray.wait(refs, num_returns=first, timeout=timeout_s if first == 1 else WAIT_S)
        if ready and rest:  # take all that are ready, or a driver with thousands in flight does few a round
            more, _ = self._ray.wait(rest, num_returns=len(rest), timeout=0)
            ready += more
        return [done for ref in ready for done in self._finish(ref)]

    def forget(self) -> None:
        """Start nothing more, and wait for nothing: running tasks end when this process leaves Ray, or by themselves.

        It is not cancelled: where a task ends at that moment, Ray (2.60) aborts the whole process ("Tried to complete
        task that was not pending").
        """
        for queue in self._queues.values():
            queue.clear()
        self._in_flight.clear()
        self._handed.clear()
        self._begun.clear()
        self._running.clear()

    def _warn_of_what_fits_no_node(self, needs: Mapping[str, Need]) -> None:
        """Ray waits in silence for a node that can take a task; an autoscaler may bring one, so it is no error."""
        nodes = [n["Resources"] for n in self._ray.nodes() if n["Alive"]]
        for name, need in needs.items():
            if not any(n.get("CPU", 0) >= need.cpus and n.get("GPU", 0) >= need.gpus for n in nodes):
                print(
                    f"warning: no node has the {need.cpus:g} CPUs and {need.gpus:g} GPUs that stage '{name}' wants "
                    f"(recipe: resources.{name}); waiting for one",
                    file=sys.stderr,
                    flush=True,
                )

    def _start(self) -> None:
        room = self.slots() - len(self._in_flight)
        for stage in reversed(self._queues):
            queue = self._queues[stage]
            while queue and room > 0:
                work = self._take(stage)
                args = ([w.args[0] for w in work], *work[0].args[1:]) if stage in self._paces else work[0].args
                refs = self._near(work[0].node, stage).remote(*args)
                ref, extra = refs if isinstance(refs, list) else (refs, None)
                self._in_flight[ref] = _Task(stage, work, extra, time.monotonic())
                self._handed.append(ref)
                self._running[stage] += len(work)
                room -= 1

    def _note_begun(self) -> None:
        now, cores = time.monotonic(), self.slots() // RUN_AHEAD
        while self._handed and len(self._begun) < cores:
            self._begun[self._handed.popleft()] = now

    def _take(self, stage: str) -> list[_Work]:
        """Take work for one task off the queue: as much as lasts well, and less as the work gets short.

        So that no worker has the last of it while others have none. What waits for an earlier stage comes here too.
        """
        queue, pace = self._queues[stage], self._paces.get(stage)
        work = [queue.popleft()]
        if pace is None or work[0].alone or not work[0].weight:
            return work
        most = -(-(1 + self._up_to(stage)) // self.slots())
        weight = work[0].weight
        while queue and len(work) < most and pace.has_room(len(work) + 1, weight + queue[0].weight):
            if queue[0].alone or not queue[0].weight or queue[0].node != work[0].node:
                break
            weight += queue[0].weight
            work.append(queue.popleft())
        return work

    def _up_to(self, stage: str) -> int:
        """Count the work that is queued for this stage and those before it."""
        names = list(self._queues)
        return sum(len(self._queues[name]) for name in names[: names.index(stage) + 1])

    def _near(self, node: str, stage: str) -> Any:
        """Return a stage's function that runs on this node, or elsewhere while it has no room or is lost."""
        if (stage, node) not in self._remote:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            there = NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)
            self._remote[stage, node] = self._functions[stage].options(
                **self._options[stage], scheduling_strategy=there
            )
        return self._remote[stage, node]

    def _finish(self, ref: Any) -> list[Done]:
        task = self._in_flight.pop(ref)
        if self._begun.pop(ref, None) is None:
            self._handed.remove(ref)
        self._running[task.stage] -= len(task.work)
        try:
            found = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return self._lost(task, error)
        self._count(task, found)
        values = found.value if task.stage in self._paces else [found.value]
        return [
            Done(task.stage, work.context, value, task.extra)
            for work, value in zip(task.work, values, strict=True)
        ]  # fmt: skip

    def _lost(self, task: _Task, error: Exception) -> list[Done]:
        """Give up a task whose worker was lost again and again; if it did several pieces of work, try each alone."""
        if len(task.work) > 1:
            alone = [_Work(w.context, w.args, w.node, w.weight, alone=True) for w in task.work]
            self._queues[task.stage].extendleft(reversed(alone))
            return []
        failed = Failed(task.stage, f"the worker was lost ({type(error).__name__})", str(error)[-2000:])
        return [Done(task.stage, task.work[0].context, failed, is_lost=True)]

    def _count(self, task: _Task, found: Metered) -> None:
        if pace := self._paces.get(task.stage):
            pace.learn(found.seconds, len(task.work), sum(work.weight for work in task.work))
        wait_s = max(0.0, time.monotonic() - task.began - found.seconds)
        for stage, lap in found.laps.items():
            waited_s = wait_s if stage == task.stage else 0.0
            self.stages[stage].add(lap, waited_s)
            self.metrics.add(stage, lap, waited_s)
