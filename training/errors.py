"""Errors of `training`: a sentence for a person, with what to do."""


class TrainError(ValueError):
    """A run that cannot be started or cannot go on."""
