"""The error that a person can mend about an annotator's model."""

from reelwright.annotate.contract import Postponed
from reelwright.errors import ReelError


class AnnotatorError(ReelError, Postponed):
    """A model cannot be loaded or asked as the recipe says; the message is a sentence that says what to do.

    No clip is to blame, so where it meets a run, that annotator's clips are left for the next.
    """
