"""State that all levels of one annotation run share."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from reelwright.annotate.keys import Keys
from reelwright.curation.keys.row_set import GrowingRowSet
from reelwright.curation.store import Store
from reelwright.curation.usage import Lap
from reelwright.pipelines.annotate.spending import Spending, Usage, no_usage
from reelwright.pipelines.annotate.time_ahead import AnnotatingAhead
from reelwright.pipelines.recipes.curation import CurateRecipe
from reelwright.pipelines.runtime.meter import Stage, StoreMeter
from reelwright.pipelines.runtime.metrics import Metrics
from reelwright.pipelines.runtime.progress import Progress


@dataclass
class Report:
    """Counts of a run, by annotator.

    Args:
        done: Clips with new columns.
        failed: Clips whose annotation failed.
        unmeasured: Done clips in which there was nothing to measure.
        postponed: Clips left for another run.
        seconds: Time of computing, on whatever worker; that of decoding under "decode".
        clips: Ids of the rows of clips that some annotator was tried on.
        why_postponed: The reason, as a sentence.
        why_unmeasured: That of the first clip.
        failed_before: Annotations that failed in earlier runs and were not tried again, where nothing else was to do.
        usage: Tokens and cost of models that were asked.
        stages: What tasks took that share a decode or read columns alone, and by name the workers of other annotators.
    """

    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    unmeasured: Counter[str] = field(default_factory=Counter)
    postponed: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    clips: GrowingRowSet = field(default_factory=GrowingRowSet)
    why_postponed: dict[str, str] = field(default_factory=dict)
    why_unmeasured: dict[str, str] = field(default_factory=dict)
    failed_before: int = 0
    usage: Usage = field(default_factory=no_usage)
    stages: defaultdict[str, Stage] = field(default_factory=lambda: defaultdict(Stage))


@dataclass(frozen=True)
class AnnotationRun:
    """One run over a store: what every level of annotators, and every annotator of a set, works with.

    Args:
        store: Clips and their columns.
        recipe: Annotators, their parameters, limits and resources.
        progress: Shows how far it is.
        keys: Secrets of servers, from the environment.
        spending: Cost so far, and its limit.
        report: Counts, filled in as the run goes.
        retry_failed: Try again the clips that failed before.
        look_ahead: Returns what the whole run has to do, from which the time left is reckoned.
        metrics: Of this process, for Prometheus.
        asked: What this process asked of the store.
    """

    store: Store
    recipe: CurateRecipe
    progress: Progress
    keys: Keys
    spending: Spending
    report: Report
    retry_failed: bool = False
    look_ahead: Callable[[], AnnotatingAhead] | None = None
    metrics: Metrics = field(default_factory=Metrics)
    asked: StoreMeter = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "asked", StoreMeter(self.store))

    @cached_property
    def ahead(self) -> AnnotatingAhead | None:
        """What the run has to do, as it was when this was first asked for: before anything is done."""
        return self.look_ahead() if self.look_ahead else None

    def time_left(self, under_way: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Return what a user is told of the time left: nothing where the store has too many clips to look through.

        Args:
            under_way: clips of annotators of sets that count in no report yet.
        """
        if self.ahead is None or self.ahead.not_looked_at:
            return {}
        report, under_way = self.report, under_way or {}
        done = {work.name: under_way.get(work.name, 0) + report.done[work.name] + report.failed[work.name]
                for work in self.ahead.works}  # fmt: skip
        rest = self.ahead.left(done, report.seconds, report.why_postponed)
        return {"eta_s": rest.seconds(0.0), "eta_without": rest.left_out(0.0)}

    def count(self, name: str, took: Lap) -> None:
        """Count what a worker took for an annotator that has it for itself."""
        self.report.stages[name].add(took, 0.0)
        self.metrics.add(name, took, 0.0)

    def count_store(self) -> None:
        """Tell metrics what this process asked of the store."""
        self.metrics.add("store", self.asked.take(), 0.0)
