"""The row that every run leaves in the table `runs`."""

import json
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from reelwright.curation.records.status import Status
from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.schema import schemas
from reelwright.versions import versions


@dataclass
class Run:
    """A run under way; its row is written when it ends, however that is.

    Args:
        counts: Counts for `reel runs`, by name.
        stage_seconds: Stage or annotator -> seconds on workers.
        stage_bytes: Stage -> bytes that it wrote; of a curation `clips`, and `inputs` that were read from a disk.
        stages: Stage -> what its tasks took, by name.
        usage: Tokens and cost of models that were asked.
        state: "finished" or "interrupted", where the block itself knows; else by how the block ended.
        is_recorded: False where nothing happened that is worth a row.
        status: Tells others how far the run is.
    """

    counts: dict[str, Any] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    stage_bytes: dict[str, int] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    state: str = ""
    is_recorded: bool = True
    status: Status | None = None

    def tell(self, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Tell whoever watches the store what is known now; cheap enough to call in a loop.

        Args:
            facts: Returns it, when it is time to: what, done, total, counts and more.
        """
        if self.status is not None:
            self.status.tell(lambda: self._with_counts(facts()))

    def _with_counts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {**facts, "counts": {**self.counts, **facts.get("counts", {})}}


def warn(message: str) -> None:
    """Print a warning to standard error."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


@contextmanager
def recorded_run(
    store: Store | str,
    command: str,
    recipe: str,
    *,
    say: Callable[[str], None] = warn,
    state_on_error: str = "interrupted",
) -> Iterator[Run]:
    """Record a run of `command` in the store's `runs`. A store that refuses the row costs the row, not the run.

    Args:
        store: The store, or its address where it is opened only for the row.
        command: The `reel` command.
        recipe: The recipe as it was run, as text.
        say: Takes the sentence about a row that could not be written.
        state_on_error: State after an exception.

    Yields:
        The run: fill its counts in before the block ends.
    """
    began, uri = datetime.now(UTC), store if isinstance(store, str) else store.uri
    run = Run(status=Status(uri, command))
    try:
        yield run
        run.state = run.state or "finished"
    except BaseException:
        run.state = state_on_error
        raise
    finally:
        if run.is_recorded:
            _record(store, run, {"command": command, "recipe": recipe, "started_at": began}, say)
        if run.status:
            run.status.end(run.state)


def _record(store: Store | str, run: Run, of_command: dict[str, Any], say: Callable[[str], None]) -> None:
    row = of_command | {
        "run_id": uuid.uuid4().hex[:12],
        "versions": json.dumps(versions()),
        "counts": json.dumps(run.counts),
        "stage_seconds": json.dumps({stage: round(seconds, 4) for stage, seconds in run.stage_seconds.items()}),
        "stage_bytes": json.dumps(run.stage_bytes),
        "state": run.state,
        "ended_at": datetime.now(UTC),
    }
    try:
        opened = Store.open(store) if isinstance(store, str) else store
        for name, figures in (("usage", run.usage), ("stages", run.stages)):
            if figures:
                opened.ensure_columns("runs", [schemas()["runs"].field(name)])  # a store of an earlier version lacks it
                row[name] = json.dumps(figures)
        opened.append("runs", [row])
    except (StoreError, OSError) as error:
        say(f"the run could not be recorded in the store: {error}")
