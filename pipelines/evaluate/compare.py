"""`reel compare RUN RUN`: what differs between two runs of curation, or of training."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from reelwright.curation.store import Store, StoreError
from reelwright.pipelines.browse.progress import drawn
from reelwright.pipelines.browse.report.page import head
from reelwright.pipelines.browse.sheets import samples_sheet, write_whole
from reelwright.training.logs import read_log

SPEEDS = ("clips_per_s", "tokens_per_s", "samples_per_s", "data_wait_share", "mfu")
"""Figures of a training log that are speeds: their median is compared."""


@dataclass
class Side:
    """One run, in facts by section.

    Args:
        name: of the run.
        kind: curation or training.
        sections: title -> name -> value.
        curves: figure -> (step, value), of training.
        samples: PNG of a training run's samples.
    """

    name: str
    kind: str
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    samples: bytes | None = None


@dataclass(frozen=True)
class Difference:
    """One fact of two runs; None where a run has none."""

    name: str
    first: Any
    second: Any

    @property
    def ratio(self) -> float | None:
        """The second over the first, of numbers."""
        numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (self.first, self.second))
        return self.second / self.first if numbers and self.first else None


def read_run(run: str, store: Store | None) -> Side:
    """Return a run's facts.

    Args:
        run: a training run's folder, or the beginning of an id in the store's table `runs`.
        store: with the runs of curation; None: only folders.

    Raises:
        StoreError: there is no such run.
    """
    if Path(run).is_dir():
        return _training(Path(run))
    if store is None:
        raise StoreError(f"{run} is no folder of a training run; for a run of curation give --store and its id.")
    query = "SELECT * FROM runs WHERE starts_with(run_id, ?) ORDER BY started_at"
    rows = store.sql(query, params=[run]).to_pylist() if run else []
    if len(rows) != 1:
        some = f"begins {len(rows)} ids of runs" if rows else "is neither a folder nor the id of a run"
        raise StoreError(f"{run!r} {some}; see: reel sql 'select run_id, command, started_at from runs'.")
    return _curation(rows[0])


def compare(first: Side, second: Side) -> dict[str, list[Difference]]:
    """Return the facts that differ, by section. Raises StoreError for a run of curation against one of training."""
    if first.kind != second.kind:
        raise StoreError(
            f"{first.name} is a run of {first.kind} and {second.name} one of {second.kind}; compare two of one kind."
        )
    found = {}
    for title in dict.fromkeys([*first.sections, *second.sections]):
        a, b = first.sections.get(title, {}), second.sections.get(title, {})
        found[title] = [
            Difference(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)
        ]
    return found


# --- reading ---------------------------------------------------------------------------------------------------------


def _curation(row: Mapping[str, Any]) -> Side:
    recipe = _yaml(row["recipe"] or "")
    took = (row["ended_at"] - row["started_at"]).total_seconds() if row["ended_at"] else None
    seconds = _json(row["stage_seconds"])
    return Side(
        row["run_id"],
        "curation",
        {
            "run": {"command": row["command"], "state": row["state"], "took_s": took},
            "recipe": dict(flat(recipe or {})),
            "counts": dict(flat(_json(row["counts"]))),
            "speed": {f"{stage}_s": value for stage, value in seconds.items()},
            "bytes": _json(row["stage_bytes"]),
            "usage": dict(flat(_json(row["usage"]))),
            "versions": dict(flat(_json(row["versions"]))),
        },
    )


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return {"text": text}


def _training(folder: Path) -> Side:
    rows = read_log(folder)
    recipe = folder / "recipe.yaml"
    if not rows and not recipe.is_file():
        raise StoreError(f"{folder} is no training run: it has neither recipe.yaml nor log.jsonl.")
    try:
        settings = _yaml(recipe.read_text("utf-8")) if recipe.is_file() else _told(folder).get("recipe")
    except (OSError, ValueError) as error:
        raise StoreError(f"{recipe} cannot be read: {error}.") from error
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in ("step", "time") and isinstance(value, (int, float)) and math.isfinite(value):
                curves.setdefault(name, []).append((row["step"], float(value)))
    origin = _origin(folder)
    run = {"steps": rows[-1]["step"] if rows else 0, **origin, **_tuned_from(_told(folder))}
    if len(rows) > 1:
        run["took_s"] = round(rows[-1]["time"] - rows[0]["time"], 1)
    shown = {name: points for name, points in curves.items() if name.count("/") < 2 and name not in SPEEDS}
    return Side(
        folder.name,
        "training",
        {
            "run": run,
            "recipe": dict(flat(settings or {})),
            "last figures": {name: points[-1][1] for name, points in shown.items()},
            "held out": _numbers(_told(folder).get("measured")),
            "speed": {name: median(y for _, y in curves[name]) for name in SPEEDS if name in curves},
        },
        {name: points for name, points in shown.items() if name == "loss" or name.startswith(("val/", "reward/"))},
        samples_sheet(folder),
    )


def _told(folder: Path) -> dict[str, Any]:
    """Return what a run of `reel tune` says of itself: its result, or, while it is not finished, its checkpoint."""
    result = folder / "result.json"
    found = _json(result.read_text("utf-8")) if result.is_file() else _checkpoint(folder)
    return found if "use" in found else {}


def _tuned_from(told: Mapping[str, Any]) -> dict[str, Any]:
    data = told.get("data") or {}
    facts = {"use": told.get("use"), "base": (told.get("base") or {}).get("id"), "data": data.get("fingerprint"),
             **dict(flat({"samples": data.get("counts")} if data else {}))}  # fmt: skip
    return {name: value for name, value in facts.items() if value is not None}


def _numbers(measured: Mapping[str, Any] | None) -> dict[str, float]:
    found = flat(measured or {})
    return {name: value for name, value in found if isinstance(value, (int, float)) and math.isfinite(value)}


def _checkpoint(folder: Path) -> dict[str, Any]:
    """Return what the newest checkpoint says of itself."""
    files = sorted(folder.glob("checkpoints/step-*/checkpoint.json"))
    return _json(files[-1].read_text("utf-8")) if files else {}


def _origin(folder: Path) -> dict[str, Any]:
    """Snapshot and code of the newest checkpoint."""
    origin = _checkpoint(folder)
    snapshot = origin.get("snapshot") or {}
    facts = {"snapshot": snapshot.get("name"), "snapshot_hash": snapshot.get("content_hash"),
             "clips": snapshot.get("num_clips"), "code_version": origin.get("code_version"),
             "encoders": origin.get("encoder_fingerprint")}  # fmt: skip
    return {name: value for name, value in facts.items() if value is not None}


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def flat(value: Any, name: str = "") -> Iterable[tuple[str, Any]]:
    """Yield (dotted name, value) of all that a nested mapping holds."""
    if isinstance(value, Mapping) and (value or not name):
        for key, inside in value.items():
            yield from flat(inside, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


# --- the page --------------------------------------------------------------------------------------------------------


def write_comparison(first: Side, second: Side, out: Path) -> Path:
    """Write the comparison as one HTML page, with curves and samples of training side by side; return its path."""
    found = compare(first, second)
    parts = [_table(title, rows, first.name, second.name) for title, rows in found.items()]
    parts += _curves(first, second)
    for side in (first, second):
        if side.samples:
            data = base64.b64encode(side.samples).decode()
            parts.append(
                f"<h2>Samples of {html.escape(side.name)}</h2>"
                "<p class='note'>One row per prompt, one column per step.</p>"
                f"<img style='max-width:100%' alt='samples by step' src='data:image/png;base64,{data}'>"
            )
    title = f"{first.name} and {second.name}"
    write_whole(out, (
        f"{head(title, _CSS)}<body><header><p class='brand'>reelwright</p><h1>{html.escape(title)}</h1>"
        f"<p class='lead'>Two runs of {first.kind}: only what differs.</p></header><main>{''.join(parts)}</main></html>"
    ).encode("utf-8", "replace"))  # fmt: skip
    return out


_CSS = (
    ".rows td{overflow-wrap:anywhere;max-width:42vw}.charts{display:grid;gap:0 28px;"
    "grid-template-columns:repeat(auto-fit,minmax(min(520px,100%),1fr))}svg{width:100%;background:var(--sheet);"
    "border:1px solid var(--line);border-radius:8px}svg text{font:11px system-ui,sans-serif;fill:var(--soft)}"
    "path{fill:none}"
)


def _table(title: str, rows: Sequence[Difference], first: str, second: str) -> str:
    if not rows:
        return ""
    names = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in (first, second))
    lines = "".join(
        f"<tr><td><code>{html.escape(row.name)}</code></td><td>{html.escape(shown(row.first))}</td>"
        f"<td>{html.escape(shown(row.second))}</td><td class='n'>{f'× {row.ratio:.3g}' if row.ratio else ''}</td></tr>"
        for row in rows
    )
    head = f"<thead><tr><th scope='col'></th>{names}<th scope='col' class='n'>ratio</th></tr></thead>"
    return (
        f"<h2>{html.escape(title.capitalize())}</h2><div class='scroll'><table class='rows'>{head}<tbody>{lines}"
        "</tbody></table></div>"
    )


def _curves(first: Side, second: Side) -> list[str]:
    charts = [
        f"<section><h2>{html.escape(name)}</h2><figure>"
        f"{drawn({first.name: first.curves[name], second.name: second.curves[name]})}</figure></section>"
        for name in first.curves
        if name in second.curves
    ]
    return [f"<div class='charts'>{''.join(charts)}</div>"] if charts else []


def shown(value: Any) -> str:
    """Write a value for a person; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
