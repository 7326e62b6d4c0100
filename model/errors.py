"""Errors of `model`: a sentence for a person, with what to do."""


class ModelError(ValueError):
    """Weights, a shape or a setting that a model cannot take."""
