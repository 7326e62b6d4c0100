"""What a user can mend."""

from reelwright.errors import ReelError


class UserError(ReelError):
    """Shown as one sentence, without a traceback."""
