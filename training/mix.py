"""Shares of several snapshots in one run: `data.mix: {general: 0.8, camera: 0.1, style: 0.1}`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

SUM_WITHIN = 1e-6
LONGEST_LABEL = 60  # characters of the names in a run's folder


def check_shares(mix: Mapping[str, float]) -> None:
    """Refuse shares that are no parts of a whole.

    Raises:
        ValueError: a share is not above 0, or they do not add up to 1.
    """
    for name, share in mix.items():
        if not (math.isfinite(share) and share > 0):
            raise ValueError(f"the share of snapshot {name} is {share:g}; shares are above 0 and add up to 1")
    total = sum(mix.values())
    if mix and abs(total - 1) > SUM_WITHIN:
        parts = " + ".join(f"{name} {share:g}" for name, share in mix.items())
        raise ValueError(f"the shares of the snapshots add up to {total:g}, not to 1 ({parts}); change one of them")


def parse_snapshots(words: Sequence[str]) -> tuple[str, dict[str, float]]:
    """Read snapshots as a command names them: one name alone, or several as NAME:SHARE.

    Returns:
        (the name, {}) or ("", name -> share); ("", {}) for none.

    Raises:
        ValueError: a name comes twice or without a share, a share is no number, or the shares do not add up to 1.
    """
    if len(words) == 1 and ":" not in words[0]:
        return words[0], {}
    mix: dict[str, float] = {}
    for word in words:
        name, colon, share = word.rpartition(":")
        if not colon:
            raise ValueError(f"--snapshot {word} has no share; of several snapshots name each with one: {word}:0.5")
        if name in mix:
            raise ValueError(f"snapshot {name} is named twice; add its shares up and name it once")
        try:
            mix[name] = float(share)
        except ValueError:
            raise ValueError(f"the share of snapshot {name} is {share!r}, not a number such as 0.5") from None
    check_shares(mix)
    return (next(iter(mix)), {}) if len(mix) == 1 else ("", mix)


def options(snapshot: str, mix: Mapping[str, float]) -> str:
    """Return the words of a command that name these snapshots."""
    named = [f"{name}:{share!r}" for name, share in sorted(mix.items())] if mix else [snapshot]
    return " ".join(f"--snapshot {word}" for word in named)


def label(snapshot: str, mix: Mapping[str, float]) -> str:
    """Return a name for all of them, short enough for a folder."""
    names = "+".join(sorted(mix))
    return snapshot if not mix else names if len(names) <= LONGEST_LABEL else f"mix-of-{len(mix)}"
