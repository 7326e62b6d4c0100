"""Runs of training: where they lie, their curves, samples and origin.

Of a folder nothing is shown but the files that a run writes.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelwright.curation.records.status import RUNNING, under_way
from reelwright.curation.store import Store
from reelwright.errors import UserError
from reelwright.pipelines.app.about import shown
from reelwright.pipelines.browse.progress import CHARTS, Chart, drawn

LOG, RECIPE = "log.jsonl", "recipe.yaml"
MORE_CHARTS = (
    Chart("Learning rate", "", "lr"),
    Chart("Gradient norm", "before it is clipped", "grad_norm"),
    Chart("Clips per second", "", "clips_per_s"),
    Chart("MFU", "share of the GPU's arithmetic", "mfu"),
)
STEP, SAMPLE = re.compile(r"step-\d{8}"), re.compile(r"\d{1,4}\.(mp4|png)")
MOST_RUNS, MOST_POINTS, MOST_STEPS, MOST_SOURCES = 500, 600, 400, 40
MAX_TEXT, MAX_LOG, TAIL = 4 << 20, 256 << 20, 64 << 10  # bytes


@dataclass(frozen=True)
class Training:
    """A folder of a run. told_by: who says that it is one; row: of the store's `runs`, where it has one."""

    key: str
    folder: Path
    told_by: str
    row: Mapping[str, Any] | None = None


class Trainings:
    """The runs of training that a store or the command line names.

    Args:
        store: whose tables name folders.
        folders: of runs, or folders of such folders.
    """

    def __init__(self, store: Store, folders: Sequence[Path] = ()) -> None:
        self._store, self._folders = store, [folder.absolute() for folder in folders]
        self._lock = threading.Lock()
        self._logs: dict[str, tuple[tuple[int, int], list[dict[str, Any]]]] = {}

    def all(self) -> list[dict[str, Any]]:
        """Return what a list shows of each run, the last changed first; of a folder that is gone, its row."""
        live = self._live()
        return sorted((self._short(one, live) for one in self._find()), key=lambda one: -one["changed_at"])

    def about(self, key: str) -> dict[str, Any]:
        """Return a run's curves, samples, recipe and origin. Raises UserError where there is none of this key."""
        from reelwright.pipelines.app.work.origin import origin_of

        one = self._get(key)
        rows = self._log(one.folder)
        settings = _settings(one.folder)
        return {
            **self._short(one, self._live()),
            "recipe": _text(one.folder / RECIPE),
            "charts": _charts(rows),
            "samples": _samples(one.folder),
            "prompts": [str(text)[:2_000] for text in _list(_part(settings, "samples").get("prompts"))[:100]],
            "origin": origin_of(self._store, one.folder),
        }

    def sample(self, key: str, step: str, name: str) -> Path:
        """Return the file of a sample. Raises UserError for anything that is no sample of a known run."""
        one = self._get(key)
        file = one.folder / "samples" / step / name
        if STEP.fullmatch(step) and SAMPLE.fullmatch(name) and _is_inside(file, one.folder):
            return file
        raise UserError("there is no such sample")

    def _get(self, key: str) -> Training:
        found = next((one for one in self._find() if one.key == key and _is_run(one.folder)), None)
        if found is None:
            raise UserError(f"there is no run {key[:40]}; see the list of runs")
        return found

    def _find(self) -> list[Training]:
        """Return each folder once: as the store's rows name it, else as the command line or an evaluation does."""
        found: dict[Path, Training] = {}
        for folder, told_by, row in self._named():
            if folder not in found and (row is not None or _is_run(folder)):
                found[folder] = Training(hashlib.sha256(str(folder).encode()).hexdigest()[:16], folder, told_by, row)
            if len(found) >= MOST_RUNS:
                break
        return list(found.values())

    def _named(self) -> Iterator[tuple[Path, str, Mapping[str, Any] | None]]:
        query = (
            "SELECT run_id, state, counts, started_at, ended_at FROM runs WHERE command = 'train' "
            f"ORDER BY started_at DESC LIMIT {MOST_RUNS}"
        )
        for row in self._store.sql(query).to_pylist():
            if folder := _folder(_object(row["counts"]).get("folder")):
                yield folder, "the store's runs", row
        for note in under_way(self._store.uri):
            if note.get("command") == "train" and (folder := _folder(_part(note, "counts").get("folder"))):
                yield folder, "a run under way", None
        for folder in self._folders:
            yield folder, "--runs", None
            yield from ((inside, "--runs", None) for inside in _inside(folder))
        for row in self._store.read("evaluations", ["name", "lineage"]).to_pylist():
            for origin in _object(row["lineage"]).values():
                checkpoint = origin.get("checkpoint") if isinstance(origin, Mapping) else None
                if (step := _folder(checkpoint)) and step.parent.name == "checkpoints":
                    yield step.parent.parent, f"evaluation {row['name']}", None

    def _live(self) -> dict[str, str]:
        """Return the states of runs under way by folder."""
        notes = (note for note in under_way(self._store.uri) if note.get("command") == "train")
        return {str(_folder(_part(note, "counts").get("folder"))): note["state"] for note in notes}

    def _short(self, one: Training, live: Mapping[str, str]) -> dict[str, Any]:
        last = _last(one.folder / LOG)
        settings = _settings(one.folder)
        counts = _object(one.row["counts"]) if one.row else {}
        state = live.get(str(one.folder)) or (one.row["state"] if one.row else "") or ""
        at = _changed(one.folder) or (one.row["ended_at"].timestamp() if one.row and one.row["ended_at"] else 0.0)
        return {
            "key": one.key, "name": one.folder.name, "folder": str(one.folder), "told_by": one.told_by,
            "is_there": _is_run(one.folder), "state": "running" if state == RUNNING else state,
            "step": shown(last.get("step", counts.get("steps"))), "steps": shown(settings.get("steps")),
            "loss": shown(last.get("loss")), "snapshot": shown(str(counts.get("snapshot") or ""), 200),
            "changed_at": at,
            "objective": shown(str(_part(settings, "objective").get("kind") or ""), 60),
        }  # fmt: skip

    def _log(self, folder: Path) -> list[dict[str, Any]]:
        """Return the figures of a run; a log that has not changed is not read again."""
        file = folder / LOG
        if not _is_inside(file, folder):
            return []
        about = file.stat()
        mark = (about.st_mtime_ns, about.st_size)
        with self._lock:
            if self._logs.get(str(folder), ((0, 0), []))[0] != mark:
                self._logs = {str(folder): (mark, _figures(file))}
            return self._logs[str(folder)][1]


def _figures(file: Path) -> list[dict[str, Any]]:
    """Read the lines that are figures after a step; anything else in the file is left out."""
    rows = []
    with file.open("rb") as lines:
        for line in lines.read(MAX_LOG).splitlines():
            row = _object(line)
            if type(row.get("step")) is int and 0 <= row["step"] < 2**53:
                rows.append({name[:100]: value for name, value in row.items() if _is_number(value)})
    return rows


def _charts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for chart in (*CHARTS, *MORE_CHARTS):
        series = {name: _thin(points) for name, points in list(chart.series(rows).items())[:24]}
        if series:
            own = chart.own_range
            found.append({"title": chart.title, "meaning": chart.meaning, "svg": drawn(series, own_range=own)})
    return found


def _thin(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return at most MOST_POINTS points, each the mean of neighbours; the last one stays."""
    if len(points) <= MOST_POINTS:
        return list(points)
    size = math.ceil(len(points) / (MOST_POINTS - 1))
    parts = (points[i : i + size] for i in range(0, len(points) - 1, size))
    return [(part[len(part) // 2][0], math.fsum(y for _, y in part) / len(part)) for part in parts] + [points[-1]]


def _samples(folder: Path) -> list[dict[str, Any]]:
    """Return the samples' names by step, of steps spread evenly where there are very many."""
    steps = sorted(one for one in _entries(folder / "samples") if STEP.fullmatch(one.name))
    chosen = steps[:: max(1, math.ceil(len(steps) / MOST_STEPS))]
    found = []
    for step in chosen:
        names = [f.name for f in _entries(step) if SAMPLE.fullmatch(f.name) and _is_inside(f, folder)]
        if names:
            found.append({"step": int(step.name[5:]), "folder": step.name, "files": sorted(names, key=_by_number)})
    return found


def _by_number(name: str) -> int:
    return int(name.partition(".")[0])


def _inside(folder: Path) -> list[Path]:
    return sorted((one for one in _entries(folder) if one.is_dir()), key=_changed, reverse=True)[:MOST_RUNS]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_run(folder: Path) -> bool:
    return _is_inside(folder / LOG, folder) or _is_inside(folder / RECIPE, folder)


def _is_inside(file: Path, folder: Path) -> bool:
    """Return whether a file is an ordinary one that lies in the folder, and not where a link in it leads."""
    try:
        return stat.S_ISREG(file.lstat().st_mode) and file.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):
        return False


def _changed(folder: Path) -> float:
    times = [0.0]
    for name in (LOG, RECIPE):
        try:
            times.append((folder / name).stat().st_mtime)
        except (OSError, ValueError):
            continue
    return max(times)


def _last(log: Path) -> dict[str, Any]:
    """Return the figures of the last line that has a loss, or of the last line."""
    if not _is_inside(log, log.parent):
        return {}
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        rows = [row for line in file.read(TAIL).splitlines() if type((row := _object(line)).get("step")) is int]
    found = [row for row in rows if _is_number(row.get("loss"))] or rows
    return {**found[-1], "step": rows[-1]["step"]} if found else {}


def _settings(folder: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(_text(folder / RECIPE))
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(file: Path) -> str:
    if not _is_inside(file, file.parent) or file.stat().st_size > MAX_TEXT:
        return ""
    return file.read_text(encoding="utf-8", errors="replace")


def _folder(value: Any) -> Path | None:
    return Path(value).absolute() if isinstance(value, str) and value and "\0" not in value else None


def _part(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = found.get(name)
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _object(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
