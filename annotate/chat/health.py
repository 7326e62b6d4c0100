"""The health of a server, as all questions of a process find it: there, away, overloaded, or failing all."""

from __future__ import annotations

import time

from reelwright.annotate.contract import Postponed

PROBE_S, PROBE_LONGEST_S = 0.5, 15.0  # between tries of a server that is away: doubled each time, up to
EVERYBODY = 4  # questions that fail without one being answered: then it is the server


class Health:
    """Lets one question at a time try while no connection comes about, and the others wait.

    After `patience_s` without any answer all are Postponed, at once, until a probe gets through. It is used on the
    event loop alone.
    """

    def __init__(self, patience_s: float) -> None:
        self.patience_s = patience_s
        self.why = ""  # reason why it does not answer; empty while it does
        self.answered_at = float("-inf")
        self._since = self._probe_at = self._interval_s = 0.0
        self._is_away = False
        self._failing: set[int] = set()  # questions that failed since the last answer

    def admits(self) -> bool:
        """Return whether a question may be sent now: always while connections come about, else as the probe.

        Raises:
            Postponed: patience has run out.
        """
        if not self.why:
            return True
        now = time.monotonic()
        is_over = now - self._since >= self.patience_s
        if (self._is_away or is_over) and now >= self._probe_at:
            self._interval_s = min(PROBE_LONGEST_S, 2 * self._interval_s)
            self._probe_at = now + self._interval_s  # until this probe is known, no other
            return True
        if is_over:
            raise Postponed(f"{self.why}; waited {self.patience_s:g} s for it (chat.patience_s)")
        return not self._is_away

    def away(self, why: str) -> None:
        """Record that no connection came about."""
        self._stalled(why)
        self._is_away = True

    def overloaded(self, why: str) -> None:
        """Record that it cannot answer now, whatever the question."""
        self._stalled(why)
        self._is_away = False

    def failed(self, question: int) -> None:
        """Record that it was reached and gave this question no valid answer."""
        self._failing.add(question)
        self._is_away = False

    def fails_everybody_since(self, began: float) -> bool:
        """Return whether it answered nothing since `began` while several questions failed: no clip is to blame."""
        return self.answered_at < began and len(self._failing) >= EVERYBODY

    def answered(self) -> None:
        """Record an answer: all is well."""
        self.why = ""
        self._is_away = False
        self.answered_at = time.monotonic()
        self._failing.clear()

    def _stalled(self, why: str) -> None:
        if not self.why:
            self._since = time.monotonic()
            self._interval_s = PROBE_S
            self._probe_at = self._since + PROBE_S
        self.why = why
