"""Errors of evaluation, for the person at the keyboard."""

from reelwright.errors import ReelError


class EvaluationError(ReelError):
    """A suite, an evaluation or a benchmark's file that cannot be used."""
