"""What a user can mend."""


class UserError(Exception):
    """Shown as one sentence, without a traceback."""
