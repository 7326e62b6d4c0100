"""Errors of `training`: a sentence for a person, with what to do."""

from reelwright.errors import ReelError


class TrainError(ReelError, ValueError):
    """A run that cannot be started or cannot go on."""


class StoppedByRule(TrainError):
    """A rule of the recipe ends a run before its last step; the weights that it has reached are saved."""
