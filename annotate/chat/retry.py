"""When to ask a server again, and how long to wait before."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_S, LONGEST_S = 0.5, 30.0  # waits between attempts: doubled each time, up to
LONGEST_ASKED_S = 120.0  # longest wait that a server's Retry-After may ask for
RETRYABLE = frozenset({408, 409, 425, 429})  # and all from 500
OVERLOADED = frozenset({429, 502, 503, 504, 529})  # says nothing about the question


class RetryableError(Exception):
    """An attempt failed in a way that another may not.

    Args:
        why: the reason, for a message.
        after_s: seconds that the server asks to wait.
        unreached: no connection came about.
        overloaded: the question is not to blame.
    """

    def __init__(
        self, why: str, *, after_s: float | None = None, unreached: bool = False, overloaded: bool = False
    ) -> None:
        super().__init__(why)
        self.after_s = after_s
        self.unreached = unreached
        self.overloaded = overloaded


def wait_s(attempt: int, after_s: float | None = None, draw: float | None = None) -> float:
    """Return the seconds to wait before the next attempt.

    Drawn between half and all of the doubling wait, so that questions that failed together do not come back together.
    A server's Retry-After is a lower bound.

    Args:
        attempt: failed attempts so far, from 1.
        after_s: the server's Retry-After, in seconds.
        draw: 0 to 1, in place of a random number.
    """
    draw = random.random() if draw is None else draw  # noqa: S311
    wait = min(LONGEST_S, FIRST_S * 2 ** (attempt - 1)) * (0.5 + draw / 2)
    return max(wait, min(after_s, LONGEST_ASKED_S) + draw * FIRST_S) if after_s else wait


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3).

    None without a valid one.
    """
    value = headers.get("Retry-After", "")[:64].strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = (at - datetime.now(UTC)).total_seconds()
    return seconds if 0 <= seconds < float("inf") else None
