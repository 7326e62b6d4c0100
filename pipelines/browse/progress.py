"""`reel progress RUN`: one page of a training run, with its curves and the samples of its steps side by side."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelwright.curation.store import StoreError
from reelwright.pipelines.browse.report.page import head
from reelwright.pipelines.browse.sheets import samples_sheet, write_whole
from reelwright.training.logs import FILE as LOG
from reelwright.training.logs import read_log

FILE = "progress.html"
WIDTH, HEIGHT, MARGIN = 560, 170, 46
"""Of a chart, in px; the margin is left of it, for its numbers."""
SMOOTHED = 9
"""Steps of the running mean that is drawn over a curve."""


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    It shows the figures PREFIXnameSUFFIX whose name has no slash; a prefix without a slash is a figure by itself.
    """

    title: str
    meaning: str
    prefix: str
    suffix: str = ""
    own_range: bool = False
    """Each curve fills the height: rewards have units of their own."""

    def series(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
        """Return (step, value) of each figure by its short name."""
        names = dict.fromkeys(name for row in rows for name in row if self._shows(name))
        found = {}
        for name in names:
            points = [(row["step"], float(row[name])) for row in rows if name in row and math.isfinite(row[name])]
            found[name.removeprefix(self.prefix).removesuffix(self.suffix) or name] = points
        return {name: points for name, points in found.items() if points}

    def _shows(self, name: str) -> bool:
        if "/" not in self.prefix:
            return name == self.prefix
        short = name.removeprefix(self.prefix).removesuffix(self.suffix)
        return name.startswith(self.prefix) and name.endswith(self.suffix) and bool(short) and "/" not in short


CHARTS = (
    Chart("Rewards", "mean score of a step's videos", "reward/", own_range=True),
    Chart(
        "Held-out rewards", "scored and never optimised: where they fall, the others are cheated", "held_out/", "", True
    ),
    Chart(
        "Deviation within groups", "in the mean over groups; 0: nothing to learn from", "reward/", "/group_std", True
    ),
    Chart("Failed scores", "per step", "reward/", "/failed"),
    Chart("Failed scores of held-out rewards", "per step", "held_out/", "/failed"),
    Chart("Meters of hacking", "change of the videos against the first steps, as a part", "meter/", "_change"),
    Chart("KL", "from the network without the adapter", "kl"),
    Chart("Ratio", "of the policy to the one that made the videos: 1 where both are computed alike", "ratio"),
    Chart("Velocity off", "RMS of the velocity's difference from the one that made the videos: near 0", "velocity_off"),
    Chart("Clipped", "share of samples whose ratio lies outside the range", "clipped"),
    Chart("Loss", "of the trained step", "loss"),
    Chart("Validation", "loss on held-out clips", "val/"),
)
"""In the order of the page; those without figures are left out."""


def write_progress(run: Path, out: Path | None = None) -> Path:
    """Write the page of a run, and return its path.

    Args:
        run: a run's folder.
        out: the file; None: progress.html in the run's folder.

    Raises:
        StoreError: the folder has no log, or the page cannot be written.
    """
    rows = read_log(run)
    if not rows:
        raise StoreError(f"{run} has no {LOG} with figures; give the folder of a run of reel train")
    path = out or run / FILE
    write_whole(path, page(run.name, rows, samples_sheet(run)).encode())
    return path


def page(title: str, rows: Sequence[Mapping[str, Any]], sheet: bytes | None) -> str:
    """Return the page as text. sheet: PNG of the samples."""
    charts = "".join(_section(chart, rows) for chart in CHARTS)
    picture = ""
    if sheet:
        data = base64.b64encode(sheet).decode()
        picture = (
            "<h2>Samples</h2><p class='note'>One row per prompt, one column per step.</p>"
            f"<img style='max-width:100%' alt='samples by step' src='data:image/png;base64,{data}'>"
        )
    last = max(row["step"] for row in rows)
    return (
        f"{head(title, _CSS)}<body><header><p class='brand'>reelwright</p><h1>{html.escape(title)}</h1>"
        f"<p class='lead'>{last:,} steps. Thin: each step. Thick: the mean of up to {SMOOTHED} around.</p></header>"
        f"<main><div class='charts'>{charts}</div>{picture}</main></html>"
    )


_CSS = (
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(520px,1fr));gap:0 28px}"
    "figure{margin:0}svg{width:100%;background:var(--sheet);border:1px solid var(--line);border-radius:8px}"
    "svg text{font:11px system-ui,sans-serif;fill:var(--soft)}path{fill:none}"
)


def _section(chart: Chart, rows: Sequence[Mapping[str, Any]]) -> str:
    series = chart.series(rows)
    if not series:
        return ""
    return (
        f"<section><h2>{html.escape(chart.title)}</h2><p class='note'>{html.escape(chart.meaning)}</p>"
        f"<figure>{drawn(series, own_range=chart.own_range)}</figure></section>"
    )


def drawn(series: Mapping[str, Sequence[tuple[int, float]]], *, own_range: bool = False) -> str:
    """Return curves as SVG, each with its name, first and last value.

    Args:
        series: (step, value) by name.
        own_range: each fills the height, and the axis has no numbers.
    """
    every = [point for points in series.values() for point in points]
    first, last = min(x for x, _ in every), max(x for x, _ in every)
    low, high = min(y for _, y in every), max(y for _, y in every)

    def way(points: Sequence[tuple[int, float]], bottom: float, top: float) -> str:
        across, up = (last - first) or 1, (top - bottom) or abs(top) or 1
        places = (f"{MARGIN + (x - first) / across * WIDTH:.1f} {10 + (top - y) / up * HEIGHT:.1f}" for x, y in points)
        return "M" + " L".join(places)

    below = HEIGHT + 30
    parts = [
        f"<text x='{MARGIN}' y='{below}'>step {first}</text>",
        f"<text x='{MARGIN + WIDTH}' y='{below}' text-anchor='end'>{last}</text>",
    ]
    if not own_range:
        parts += [f"<text x='4' y='16'>{high:.4g}</text>", f"<text x='4' y='{HEIGHT + 12}'>{low:.4g}</text>"]
    for i, (name, points) in enumerate(series.items()):
        colour = f"hsl({(28 + 137 * i) % 360} 62% 48%)"
        values = [y for _, y in points]
        ends = (min(values), max(values)) if own_range else (low, high)
        for line, width, opacity in ((points, 1, 0.35), (_smooth(points), 2, 1)):
            path = way(line, *ends)
            parts.append(f"<path d='{path}' stroke='{colour}' stroke-width='{width}' stroke-opacity='{opacity}'/>")
        label = f"{html.escape(name)} {values[0]:.4g} → {values[-1]:.4g}"
        parts.append(f"<text x='{MARGIN}' y='{below + 18 + 15 * i}' style='fill:{colour}'>{label}</text>")
    height = below + 18 + 15 * len(series)
    said = html.escape("curves of " + ", ".join(series))
    return f"<svg viewBox='0 0 {MARGIN + WIDTH + 14} {height}' role='img' aria-label='{said}'>{''.join(parts)}</svg>"


def _smooth(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Mean of the points around each: SMOOTHED, fewer at the ends, and at most a quarter of a short curve."""
    half = min(SMOOTHED, len(points) // 4) // 2
    out = []
    for i, (x, _) in enumerate(points):
        near = points[max(0, i - half) : i + half + 1]
        out.append((x, math.fsum(y for _, y in near) / len(near)))
    return out
