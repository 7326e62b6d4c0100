"""Errors of `model`: a sentence for a person, with what to do."""

from reelwright.errors import ReelError


class ModelError(ReelError, ValueError):
    """Weights, a shape or a setting that a model cannot take."""
