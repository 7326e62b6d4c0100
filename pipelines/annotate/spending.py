"""What chat models have used in a run, and where it must stop: limits of an annotator and of the whole run.

Workers keep the limit of their own; the sum over all of them, lost and replaced ones included, is only known
here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from reelwright.annotate import Computes
from reelwright.annotate.chat.registry import chat_of

Usage = dict[str, Counter[str]]  # annotator -> {"input_tokens", "output_tokens", "usd"}


def no_usage() -> Usage:
    """Return an empty count."""
    return defaultdict(Counter)


class Spending:
    """used: is added to. limit_usd: of the run, 0 without limit."""

    def __init__(self, annotators: Mapping[str, Computes], limit_usd: float, used: Usage) -> None:
        self.limit_usd, self.used = limit_usd, used
        self.limits = {n: chat.max_cost_usd for n, a in annotators.items() if (chat := chat_of(a))}

    def add(self, usage: Mapping[str, Mapping[str, float]]) -> None:
        """Add usage, by annotator and unit."""
        for name, used in usage.items():
            self.used[name].update(used)

    def refusal(self, name: str) -> str:
        """Return why this annotator may spend no more; empty where it may, or costs nothing."""
        if name not in self.limits:
            return ""
        spent, total = self.used[name]["usd"], sum(u["usd"] for u in self.used.values())
        if self.limits[name] and spent >= self.limits[name]:
            return f"the cost limit is reached: {spent:.2f} of {self.limits[name]:g} USD (chat.max_cost_usd)"
        if self.limit_usd and total >= self.limit_usd:
            return f"the run's cost limit is reached: {total:.2f} of {self.limit_usd:g} USD (limits.max_cost_usd)"
        return ""


def format_usage(used: Mapping[str, float]) -> str:
    """1.2 M tokens in, 0.1 M out, 3.40 USD; empty where nothing was used."""
    if not used.get("input_tokens") and not used.get("output_tokens"):
        return ""
    tokens = f"{short(used.get('input_tokens', 0))} tokens in, {short(used.get('output_tokens', 0))} out"
    return tokens + (f", {used['usd']:.2f} USD" if used.get("usd") else "")


def short(count: float) -> str:
    """850, 12 k, 3.4 M."""
    for limit, divisor, unit in ((1e3, 1, ""), (1e6, 1e3, " k"), (float("inf"), 1e6, " M")):
        if count < limit:
            number = count / divisor
            return f"{number:.1f}{unit}" if unit and number < 10 else f"{number:.0f}{unit}"
    raise AssertionError
