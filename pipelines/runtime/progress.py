"""Progress of a long run: a live bar on a terminal, a plain line every few seconds in a job's log."""

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

LINE_EVERY_S, LEFT_EVERY_S = 10.0, 1.0


class Progress:
    """Use as a context manager around a run."""

    def __init__(self, what: str, *, quiet: bool = False) -> None:
        """Show nothing yet.

        Args:
            what: the name of the work.
            quiet: print nothing.
        """
        self.what, self.quiet = what, quiet
        self.tell: Callable[[Callable[[], Mapping[str, Any]]], None] | None = None
        """Takes a function that returns what is shown, and `details`, for whoever asks from elsewhere."""
        self.details: Callable[[float], Mapping[str, Any]] | None = None
        self.live = sys.stderr.isatty() and not quiet
        self._bar: Any = None
        self._task: Any = None
        self._began = self._shown_at = time.monotonic()
        self._last = ""  # a line not printed yet
        self._left_said: str | None = None
        self._asked_at = -LEFT_EVERY_S

    def __enter__(self) -> "Progress":
        if self.live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Bar(*columns, _left_column(), TextColumn("{task.fields[notes]}"), console=Console(stderr=True))
            self._task = self._bar.add_task(self.what, total=None, notes="", left=None)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._last:
            print(self._last, file=sys.stderr, flush=True)

    def show(self, done: int, total: int, **counts: int) -> None:
        """Say how far the run is; cheap enough to call in a loop."""
        if self.tell is not None:
            self.tell(lambda: self._facts(done, total, counts))
        notes = " · ".join(f"{n:,} {name}" for name, n in counts.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, notes=notes, left=self._left())
            return
        if self.quiet:
            return
        now = time.monotonic()
        said = f" · {notes}" if notes else ""
        left = f" · {self._left()}" if self._left() else ""
        self._last = f"{self.what}: {done:,}/{total:,}{said} · {now - self._began:.0f} s{left}"
        if now - self._shown_at >= LINE_EVERY_S:
            print(self._last, file=sys.stderr, flush=True)
            self._shown_at, self._last = now, ""

    def _left(self) -> str | None:
        """Return the time left as the run itself reckons it, asked now and then; None where it does not reckon any."""
        now = time.monotonic()
        if self.details and now >= self._asked_at + LEFT_EVERY_S:
            self._asked_at = now
            self._left_said = left_in_words(self.details(now - self._began))
        return self._left_said

    def _facts(self, done: int, total: int, counts: Mapping[str, int]) -> dict[str, Any]:
        elapsed_s = time.monotonic() - self._began
        shown = {"what": self.what, "done": done, "total": total, "counts": dict(counts), "elapsed_s": elapsed_s}
        return shown | dict(self.details(elapsed_s) if self.details else {})


def left_in_words(details: Mapping[str, Any]) -> str | None:
    """Write the time left as a run reckons it; "" where that is not known yet, None where it does not reckon any.

    Args:
        details: `eta_s`, seconds, and perhaps `eta_annotate_s`, the part of them in which stored clips are annotated,
            and `eta_without`, names of what is not counted in.
    """
    if "eta_s" not in details:
        return None
    if details["eta_s"] is None:
        return ""
    annotate_s, without = details.get("eta_annotate_s") or 0.0, details.get("eta_without") or ()
    part = [f"{span(annotate_s)} of it to annotate"] if round(annotate_s) else []
    part += [f"not counted: {', '.join(without)}"] if without else []
    return f"about {span(details['eta_s'])} left" + (f" ({'; '.join(part)})" if part else "")


def span(seconds: float) -> str:
    """Write a length of time as one number."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _left_column() -> Any:
    """Return a bar's column with the time left: as the run reckons it, else by the number that is done."""
    from rich.progress import TimeRemainingColumn
    from rich.text import Text

    class Left(TimeRemainingColumn):
        def render(self, task: Any) -> Text:
            said = task.fields["left"]
            return super().render(task) if said is None else Text(said, style="progress.remaining")

    return Left()
