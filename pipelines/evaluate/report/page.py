"""The page of an evaluation: figures and videos, put into the template, written whole."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reelwright.curation.store import Store
from reelwright.evaluation.rating.scales import DIMENSIONS
from reelwright.evaluation.statistics.agreement import UNRELIABLE
from reelwright.evaluation.statistics.bootstrap import Interval
from reelwright.pipelines.browse.report.page import environment, short
from reelwright.pipelines.browse.sheets import write_whole
from reelwright.pipelines.evaluate.report.clips import PROMPTS, shown_clips
from reelwright.pipelines.evaluate.report.figures import Figures, figures
from reelwright.pipelines.evaluate.report.means import Means

FOLDER = Path(__file__).parent
LOOK = FOLDER.parent.parent / "browse" / "report"
FILE = "evaluation.html"


def write_page(
    store: Store, evaluation: Mapping[str, Any], out: Path, *, where: str | None = None, prompts: int = PROMPTS
) -> Path:
    """Write an evaluation as one HTML page that needs nothing else, and return its path.

    Args:
        store: with the evaluation.
        evaluation: its row.
        out: a file, or a folder for `evaluation.html`.
        where: a SQL condition on `generations`; figures and videos are then of those.
        prompts: rows of videos.

    Raises:
        StoreError: the condition does not work, or the place cannot be written.
    """
    path = out / FILE if out.is_dir() else out
    write_whole(path, render(store, evaluation, where, prompts).encode("utf-8", "replace"))
    return path


def render(store: Store, evaluation: Mapping[str, Any], where: str | None = None, prompts: int = PROMPTS) -> str:
    """Return the page as text."""
    found = figures(store, evaluation, where)
    made = environment(FOLDER, LOOK)
    made.filters |= {"f2": two_digits, "signed": signed, "share": share, "percent": percent, "first_of": first_of}
    return made.get_template("evaluation.html").render(
        evaluation=evaluation,
        settings=_settings(evaluation),
        where=where,
        now=datetime.now(UTC),
        f=found,
        colour={model: f"c{1 + i % 20}" for i, model in enumerate(found.models)},
        opinions=_groups(found),
        measures=[one for one in found.means if one.by == "measure"],
        titles={name: one.title for name, one in DIMENSIONS.items()},
        clips=shown_clips(store, evaluation, where, prompts),
        benchmarks=_benchmarks(evaluation),
        learned=_learned(evaluation),
        unreliable=UNRELIABLE,
        at=at,
        ends=ends,
        strength_ends=_strength_ends(found),
    )


def _groups(found: Figures) -> list[list[Means]]:
    """People's figures, then those of each judge."""
    groups: dict[tuple[str, str], list[Means]] = {}
    for one in found.means:
        if one.by != "measure":
            groups.setdefault((one.by, one.rater), []).append(one)
    return list(groups.values())


def _settings(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    return _json(evaluation["settings"])


def _benchmarks(evaluation: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Scores of published benchmarks that were read in: benchmark -> model -> scores."""
    found: dict[str, dict[str, Any]] = {}
    for model, scores in _json(evaluation.get("benchmark_scores")).items():
        found.setdefault(str(scores["benchmark"]), {})[model] = scores
    return found


def _learned(evaluation: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return model -> the rewards that it was optimised by, of those that were."""
    found = {}
    for model, about in _json(evaluation["lineage"]).items():
        rewards = about.get("learned_from") or () if isinstance(about, dict) else ()
        labels = [(one["label"], one["name"]) for one in rewards]
        if labels:
            found[model] = [label if label == name else f"{label} ({name})" for label, name in labels]
    return found


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# --- places and texts ------------------------------------------------------------------------------------------------


def at(value: float, low: float, high: float) -> float:
    """Return where a value stands between two ends, in percent, cut to them."""
    return 100 * min(1.0, max(0.0, (value - low) / ((high - low) or 1.0)))


def ends(intervals: Iterable[Interval]) -> tuple[float, float]:
    """Return the ends of an axis that holds all intervals: 0 is in where all have one sign and spread widely."""
    known = [x for one in intervals for x in (one.low, one.high) if math.isfinite(x)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    if 0 < low < 0.6 * high:
        low = 0.0
    elif 0.6 * low < high < 0:
        high = 0.0
    margin = 0.06 * ((high - low) or abs(high) or 1.0)
    return (low if low == 0 else low - margin), (high if high == 0 and low < 0 else high + margin)


def _strength_ends(found: Figures) -> dict[str, tuple[float, float]]:
    return {
        one.dimension: ends(one.strengths.strengths.values())
        for one in found.pairs
        if not isinstance(one.strengths, str)
    }


def two_digits(value: float | None) -> str:
    """Format a score: 3.42."""
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"


def signed(value: float | None) -> str:
    """Format a difference: +0.31, −0.02."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:+.2f}" if abs(value) >= 0.01 or value == 0 else ("+" if value > 0 else "-") + short(abs(value))
    return text.replace("-", "−", 1)


def share(value: float | None) -> str:
    """Format a share: 12 %."""
    if value is None or math.isnan(value):
        return "–"
    return "below 1 %" if 0 < value < 0.01 else f"{100 * value:.0f} %"


def percent(value: float | None) -> str:
    """Format a benchmark's score of 0 to 1: 62.1 %."""
    return "–" if value is None else f"{100 * value:.1f} %"


def first_of(scores: Mapping[str, Mapping[str, Any]], part: str) -> list[str]:
    """Return the names of dimensions or categories that any model has a score of, in order."""
    return list(dict.fromkeys(name for one in scores.values() for name in one[part]))
