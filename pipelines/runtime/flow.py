"""Keep a cluster busy with a bounded amount of work: later stages go first, so that nothing piles up between stages.

Why Ray tasks and not Ray Data: one source becomes any number of clips, one file's failure must be a row and not a
retry of its batch, and a single process commits; see docs/architecture.md.
"""

import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from reelwright.curation.results import Failed
from reelwright.pipelines.runtime import interrupts
from reelwright.pipelines.runtime.meter import Stage, metered
from reelwright.pipelines.runtime.metrics import Metrics

RUN_AHEAD = 2  # tasks in flight for each CPU of the cluster: enough that no worker waits for the driver


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
    """A finished task. `value` is its result, or `Failed` where its worker was lost for good."""

    stage: str
    context: Any
    value: Any
    extra: Any = None  # ObjectRef of a second return value, which stays where it was made


@dataclass(frozen=True)
class _Task:
    """A task in flight. began: when it was handed to Ray, by the driver's clock."""

    stage: str
    context: Any
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
    ) -> None:
        """Take no task yet.

        Args:
            stages: name -> (function, a task's resources, number of return values: 1; 2 for a value and a payload).
            attempts: times that a task runs again whose worker was lost.
            prepare: called on the worker before each task.
        """
        import ray

        self._ray = ray
        self._functions, self._options, self._remote = {}, {}, {}
        for name, (function, need, returns) in stages.items():
            self._functions[name] = ray.remote(metered(function, returns, prepare))
            self._options[name] = {
                "num_cpus": need.cpus, "num_gpus": need.gpus, "max_retries": attempts, "num_returns": returns,
                "name": f"reel:{name}",
            }  # fmt: skip
            self._remote[name] = self._functions[name].options(**self._options[name])
        self._warn_of_what_fits_no_node({name: need for name, (_, need, _) in stages.items()})
        self._queues: dict[str, deque[tuple[Any, tuple, str]]] = {name: deque() for name in stages}
        self._in_flight: dict[Any, _Task] = {}
        self.stages: defaultdict[str, Stage] = defaultdict(Stage)
        self._metrics = Metrics()

    def add(self, stage: str, context: Any, *args: Any, node: str = "") -> None:
        """Queue a task; `context` comes back with its result. node: Ray's id of the one to run on, if it has room."""
        self._queues[stage].append((context, args, node))

    def waiting(self, stage: str) -> int:
        """Tasks of a stage that are queued or in flight."""
        return len(self._queues[stage]) + sum(task.stage == stage for task in self._in_flight.values())

    def figures(self) -> dict[str, dict[str, float]]:
        """Return stage -> what its tasks took so far, how many wait and how many are in flight."""
        running = Counter(task.stage for task in self._in_flight.values())
        return {
            name: self.stages[name].to_json() | {"queued": len(queue), "in_flight": running[name]}
            for name, queue in self._queues.items()
        }

    def __bool__(self) -> bool:
        return bool(self._in_flight) or any(self._queues.values())

    def slots(self) -> int:
        """Return how many tasks may be in flight: follows the cluster as nodes come and go."""
        return RUN_AHEAD * max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def next_done(self, timeout_s: float = 1.0) -> list[Done]:
        """Start tasks while there is room, then wait; return the tasks that finished, none if time runs out."""
        interrupts.check()
        self._start()
        if not self._in_flight:
            return []
        ready, _ = self._ray.wait(list(self._in_flight), num_returns=1, timeout=timeout_s)
        if ready:  # take all that are ready, or a driver with thousands in flight does one a round
            ready, _ = self._ray.wait(list(self._in_flight), num_returns=len(self._in_flight), timeout=0)
        return [self._finish(ref) for ref in ready]

    def forget(self) -> None:
        """Start nothing more, and wait for nothing: running tasks end when this process leaves Ray, or by themselves.

        It is not cancelled: where a task ends at that moment, Ray (2.60) aborts the whole process ("Tried to complete
        task that was not pending").
        """
        for queue in self._queues.values():
            queue.clear()
        self._in_flight.clear()

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
                context, args, node = queue.popleft()
                refs = (self._near(node, stage) if node else self._remote[stage]).remote(*args)
                ref, extra = refs if isinstance(refs, list) else (refs, None)
                self._in_flight[ref] = _Task(stage, context, extra, time.monotonic())
                room -= 1

    def _near(self, node: str, stage: str) -> Any:
        """Return a stage's function that runs on this node, or elsewhere while it has no room or is lost."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)
        return self._functions[stage].options(**self._options[stage], scheduling_strategy=there)

    def _finish(self, ref: Any) -> Done:
        task = self._in_flight.pop(ref)
        try:
            found = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            message = f"the worker was lost ({type(error).__name__})"
            return Done(task.stage, task.context, Failed(task.stage, message, str(error)[-2000:]))
        wait_s = max(0.0, time.monotonic() - task.began - found.seconds)
        self.stages[task.stage].add(found, wait_s)
        self._metrics.add(task.stage, found, wait_s)
        return Done(task.stage, task.context, found.value, task.extra)
