"""A first stage that is kept where its refinement fails or is stopped: it may have taken hours, and can be refined."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reelwright import interrupts
from reelwright.errors import ReelError, UserError


def first_stage_of(out: Path) -> Path:
    """Return the file of the first stage beside the refined one: x-first-stage.mp4 for x.mp4."""
    return out.with_name(f"{out.stem}-first-stage{out.suffix}")


@contextmanager
def kept_where_refinement_ends(write: Callable[[], list[Path]]) -> Iterator[None]:
    """Write the first stage where what is done within fails or is interrupted; say where it is and what to do with it.

    A second Ctrl-C does not wait until it is written.

    Args:
        write: writes its files; where it cannot (the disk is full), the failure of the refinement alone is told.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        files: list[Path] = []
        with suppress(UserError):
            files = write()
        if not files:
            raise
        told = f"the first stage is kept in {', '.join(map(str, files))}, to be refined by reel refine"
        if isinstance(error, KeyboardInterrupt):
            interrupts.leaves(told)
            raise
        if isinstance(error, ReelError):
            raise UserError(f"{error}; {told}") from error
        error.add_note(told)
        raise
