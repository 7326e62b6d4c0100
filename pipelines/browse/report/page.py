"""The page itself: facts gathered, put into the template, written whole."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelwright.curation.store import Store
from reelwright.pipelines.browse.balance.conditions import validate_where
from reelwright.pipelines.browse.report import facts, picks, scores
from reelwright.pipelines.browse.report.clusters import clusters
from reelwright.pipelines.browse.report.links import AppLinks
from reelwright.pipelines.browse.sheets import write_whole
from reelwright.pipelines.browse.standins import cluster_note

if TYPE_CHECKING:
    from jinja2 import Environment

FILE = "report.html"


def write_report(store: Store, out: Path, *, where: str | None = None, links: AppLinks | None = None) -> Path:
    """Write the store as one HTML page that needs nothing else, and return its path.

    Args:
        store: that it is about.
        out: a file, or a folder for `report.html`.
        where: a SQL condition over `clips_full`; scores, sheets and distributions are then of the clips that pass it.
        links: into a running `reel app`.

    Raises:
        StoreError: the condition does not work, or the place cannot be written.
    """
    path = out / FILE if out.is_dir() else out
    write_whole(path, render(store, where, links).encode("utf-8", "replace"))
    return path


def render(store: Store, where: str | None = None, links: AppLinks | None = None) -> str:
    """Return the page as text. links: into the app; None: the page has none."""
    return environment().get_template("page.html").render(**gather(store, where), links=links)


def environment(*folders: Path) -> Environment:
    """Return the environment of a page's template, which escapes all it is given.

    Args:
        folders: where templates and styles lie; those of this page are found too.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"num": number, "span": span, "size": size, "g": short, "when": when, "cut": cut}
    made.globals |= {"title": "reelwright", "policy": "", "own_style": "", "css": ""}  # of head.html
    return made


def head(title: str, css: str, policy: str = "") -> str:
    """Return the head of a page that is written without a template, up to its body.

    Args:
        title: of the page.
        css: rules beside those that all pages share; ours, not anybody's text.
        policy: Content-Security-Policy; default: pictures, videos and styles inside the page, and nothing else.
    """
    from markupsafe import Markup

    whole = environment().get_template("head.html")
    return str(whole.render(title=title, css=Markup(css), policy=Markup(policy)))  # noqa: S704 - ours, see above


def gather(store: Store, where: str | None) -> dict[str, Any]:
    """All that the template names."""
    where = validate_where(store, where)
    chosen = f"(SELECT * FROM clips_full WHERE ({where}\n))" if where else "clips"
    measured = scores.scores(store, chosen, scores.numeric_columns(store))
    failures, more_failures = facts.failure_groups(store)
    duplicates, more_duplicates = facts.duplicates(store)
    return {
        "uri": store.uri,
        "where": where,
        "now": datetime.now(UTC),
        "sources": facts.count_sources(store),
        "funnel": facts.funnel(store, chosen, where),
        "media_bytes": facts.media_bytes(store),
        "geometry": scores.scores(store, chosen, list(scores.GEOMETRY)),
        "scores": [score for score in measured if not score.why_sparse],
        "sparse": [score for score in measured if score.why_sparse],
        "categories": facts.categories(store, chosen),
        "distributions": facts.distributions(store, chosen),
        "balance": clusters(store, where),
        "cluster_note": cluster_note(store),
        "sheets": picks.sheets(store, where),
        "failures": failures,
        "more_failures": more_failures,
        "duplicates": duplicates,
        "more_duplicates": more_duplicates,
        "runs": facts.runs(store),
        "snapshots": facts.snapshots(store),
    }


def _visible(value: Any) -> Any:
    """Text with control characters written as escapes: a file name must not turn the words after it around."""
    if type(value) is not str or value.isprintable():  # not Markup, which this page's own macros made
        return value
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in value)


# --- how values are written ------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Format a number: 1,234,567."""
    return f"{value:,}"


def short(value: float | None) -> str:
    """Few characters, so that five fit on a card: 0.012, 12.3, 1,235, 124 k, 1.2 M, 2.2e-4."""
    if value is None:
        return "–"
    for scale, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= max(scale, 1e4):
            return f"{value / scale:.3g}{unit}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if 0 < abs(value) < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:.2g}" if abs(value) < 0.1 else f"{value:.3g}"


def span(seconds: float | None) -> str:
    """Format a length of time with two units at most: 4.2 s, 3 min 20 s, 1,234.5 h."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{seconds / 3600:,.1f} h"


def size(num_bytes: float | None) -> str:
    """Format a size: 1.2 MB."""
    value = float(num_bytes or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def when(moment: datetime | None) -> str:
    """Format a time: 2026-01-31 14:05 UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if moment else "–"


def cut(text: str, length: int) -> str:
    """Cut a text to a number of characters, the last of a cut text an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"
