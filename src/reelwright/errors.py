"""`ReelError`: the base class of errors for the person at the keyboard, below all packages."""

from __future__ import annotations

MAX_CHARS = 400


class ReelError(Exception):
    """One sentence for the person at the keyboard: the thing, its value, what was expected and what to do.

    A command prints it without a traceback. Every package derives its own class, such as `StoreError`.
    """


class UserError(ReelError):
    """A mistake in what was typed or configured, or a machine that lacks what a command needs."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its full stop, to be put into a sentence.

    Libraries put the reason into the first line and a stack or a manual below it. An empty message gives the name of
    the error's class; a line is cut at 400 characters.
    """
    lines = str(error).strip().splitlines()
    line = lines[0].strip().rstrip(".") if lines else ""
    if len(line) > MAX_CHARS:
        line = line[: MAX_CHARS - 1] + "…"
    return line or type(error).__name__
