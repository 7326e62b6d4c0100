"""Facts about sources, shots, failures and runs: aggregates by SQL, a few rows each, at any store's size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from reelwright.curation.store import Store
from reelwright.curation.store.sql_text import identifier

MAX_ROWS = 25  # of any table on the page
MAX_BARS = 10
NOT_KNOWN = "not known"  # label of what has no value
BYTES_OF = {"clips": ("write", "written"), "inputs": ("probe", "read")}
"""In `runs.stage_bytes` of a curation: the stage, and what it did with them; by other commands stages wrote them."""
MEASURED = ("tasks", "cpu_s", "wait_s", "peak_bytes", "requests", "bytes_in", "write_requests", "bytes_out")
EXAMPLES = 3
LOOK_AT, VOCABULARY, WORD_LENGTH = 20_000, 40, 40  # rows, and a category column's most words and characters


@dataclass(frozen=True)
class Stage:
    """A step of the funnel. hours: of footage, as far as it is known."""

    name: str
    meaning: str
    count: int
    hours: float
    share: float  # hours over the widest stage's


@dataclass(frozen=True)
class Bar:
    """A bar of a chart."""

    label: str
    count: int
    share: float  # of the longest bar


@dataclass(frozen=True)
class Bars:
    """Counts of the most frequent values of something."""

    title: str
    unit: str  # what is counted
    bars: list[Bar]
    others: int = 0  # things that have none of these values
    meaning: str = ""  # of a column whose name is the title


@dataclass(frozen=True)
class StageTime:
    """Seconds that workers spent in a stage; share is of all stages. more: CPU, memory, waiting, in words.

    seconds: None where it takes none on workers, as the requests to the store.
    """

    label: str
    seconds: float | None
    share: float
    more: str = ""


@dataclass(frozen=True)
class Run:
    """A run of a command, as the report lists it."""

    run_id: str
    command: str
    state: str
    started_at: datetime | None
    seconds: float | None
    counts: dict[str, Any]
    stages: list[StageTime]


@dataclass(frozen=True)
class Sources:
    """Files by their end; `other` counts files of no known state, and should be 0."""

    found: int
    ok: int
    duplicate: int
    failed: int

    @property
    def other(self) -> int:
        """Files without a known state."""
        return self.found - self.ok - self.duplicate - self.failed


def count_sources(store: Store) -> Sources:
    """Count the store's sources by state."""
    row = _one(
        store,
        "SELECT count(*) AS found, count(*) FILTER (state = 'ok') AS ok, "
        "count(*) FILTER (state = 'duplicate') AS duplicate, count(*) FILTER (state = 'failed') AS failed FROM sources",
    )
    return Sources(**row)


def funnel(store: Store, chosen: str, where: str | None) -> list[Stage]:
    """Files found to clips kept. chosen: the relation of clips that the page is about."""
    hours = "coalesce(sum(duration_s) FILTER (isfinite(duration_s)), 0) / 3600"
    spans = "coalesce(sum(end_s - start_s) FILTER (isfinite(end_s - start_s)), 0) / 3600"
    steps = [
        ("files found", "everything that was named, whatever became of it", f"count(*), {hours} FROM sources"),
        ("readable", "files that did not fail", f"count(*), {hours} FROM sources WHERE state <> 'failed'"),
        ("unique", "files that repeat no other", f"count(*), {hours} FROM sources WHERE state = 'ok'"),
        (
            "with clips",
            "files that gave at least one clip",
            f"count(*), {hours} FROM sources WHERE state = 'ok' AND num_clips > 0",
        ),
        ("shots", f"spans between two transitions{_in_transitions(store)}", f"count(*), {spans} FROM shots"),
        ("clips", "pieces of shots, cropped and encoded", f"count(*), {hours} FROM clips"),
    ]
    if where:
        steps.append(("chosen", "clips that pass the condition above", f"count(*), {hours} FROM {chosen}"))
    rows = [tuple(_one(store, f"SELECT {query}").values()) for _, _, query in steps]
    widest = max(hours for _, hours in rows) or 1.0
    return [
        Stage(name, meaning, count, hours, hours / widest)
        for (name, meaning, _), (count, hours) in zip(steps, rows, strict=True)
    ]


def _in_transitions(store: Store) -> str:
    """Say how many of the sources' frames are in no shot; empty where that was not counted."""
    row = _one(
        store,
        "SELECT coalesce(sum(frames_in_transitions), 0)::BIGINT AS between, "
        "coalesce(sum(frames_dropped), 0)::BIGINT AS dropped, coalesce(sum(frames_in_shots), 0)::BIGINT AS inside "
        "FROM sources WHERE state = 'ok'",
    )
    total = sum(row.values())
    dropped = f", {row['dropped']:,} were dropped" if row["dropped"] else ""
    return f"; those hold {row['between']:,} of {total:,} frames{dropped}" if total else ""


def distributions(store: Store, chosen: str) -> list[Bars]:
    """Return the most frequent values of clips and sources."""
    size = "width || '×' || height"
    crop = (
        "SELECT CASE WHEN crop_w = s.display_width AND crop_h = s.display_height THEN 'whole picture' ELSE "
        "s.display_width || '×' || s.display_height || ' → ' || crop_w || '×' || crop_h END "
        f"FROM {chosen} c LEFT JOIN (SELECT DISTINCT ON (md5) md5, display_width, display_height FROM sources "
        "WHERE state = 'ok' ORDER BY md5, source_id) s ON s.md5 = c.source_md5"
    )
    asked = [
        ("Size of clips", "clips", f"SELECT {size} FROM {chosen}"),
        ("Frame rate of clips", "clips", f"SELECT printf('%g', round(fps, 2)) FROM {chosen}"),
        ("Crop: picture inside its borders", "clips", crop),
        ("Codec of files", "files", "SELECT codec || ' in ' || container FROM sources WHERE state <> 'failed'"),
        ("Why files gave no clip", "files", "SELECT no_clip_reason FROM sources WHERE state = 'ok' AND num_clips = 0"),
        ("How shots begin", "shots", "SELECT transition FROM shots"),
    ]
    found = [_bars(store, *one) for one in asked]
    return [bars for bars in found if bars.bars]


def categories(store: Store, chosen: str) -> list[Bars]:
    """Return annotators' text columns that hold words of a small vocabulary, such as a camera motion.

    Captions and ids of clips are left out.
    """
    found = []
    for f in store.schema("clips"):
        metadata = f.metadata or {}
        maker = metadata.get(b"computed_by", b"").decode()
        if str(f.type) != "string" or maker in ("", "clips") or f.name.endswith("_fingerprint"):
            continue
        name = identifier(f.name)
        some = f"(SELECT {name} FROM clips LIMIT {LOOK_AT})"
        looks = _one(
            store,
            f"SELECT count(DISTINCT {name}) AS words, max(length({name})) AS longest, "
            f"bool_and({name} IN (SELECT clip_id FROM clips)) AS are_ids FROM {some}",
        )
        if 0 < looks["words"] <= VOCABULARY and looks["longest"] <= WORD_LENGTH and not looks["are_ids"]:
            bars = _bars(store, f.name, "clips", f"SELECT {name} FROM {chosen}")
            found.append(replace(bars, meaning=metadata.get(b"meaning", b"").decode()))
    return found


def failure_groups(store: Store) -> tuple[list[dict[str, Any]], int]:
    """Group failures that say the same, but for numbers.

    A file that failed several times in the same way counts once.

    Returns:
        Groups of stage, message, count and examples; and how many more groups there are.
    """
    alike = r"regexp_replace(coalesce(error, ''), '[0-9]+', '…', 'g')"
    query = (
        f"SELECT coalesce(stage, '') AS stage, {alike} AS alike, min(error) AS one, count(DISTINCT error) AS wordings, "
        f"count(*) AS count, min(coalesce(uri, clip_id), {EXAMPLES}) AS examples, count(clip_id) AS clips, "
        "count(*) OVER () AS groups FROM failures_latest GROUP BY ALL ORDER BY count DESC, stage, alike "
        f"LIMIT {MAX_ROWS}"
    )
    rows = store.sql(query).to_pylist()
    for row in rows:
        row["message"] = row["one"] if row["wordings"] == 1 else row["alike"]
    return rows, rows[0]["groups"] - len(rows) if rows else 0


def duplicates(store: Store) -> tuple[list[dict[str, Any]], int]:
    """(files that others repeat, with how many and the first of them; how many more such files)."""
    query = (
        f"SELECT duplicate_of AS kept, count(*) AS count, min(uri, {EXAMPLES}) AS copies, sum(bytes) AS bytes, "
        "count(*) OVER () AS groups FROM sources WHERE state = 'duplicate' GROUP BY duplicate_of "
        f"ORDER BY count DESC, kept LIMIT {MAX_ROWS}"
    )
    rows = store.sql(query).to_pylist()
    return rows, rows[0]["groups"] - len(rows) if rows else 0


def snapshots(store: Store) -> list[dict[str, Any]]:
    """List the newest snapshots."""
    columns = "name, num_clips, content_hash, created_at"
    return store.sql(f"SELECT {columns} FROM snapshots ORDER BY created_at DESC LIMIT {MAX_ROWS}").to_pylist()


def runs(store: Store) -> list[Run]:
    """Return the last runs, the newest first."""
    query = f"SELECT * FROM runs ORDER BY started_at DESC NULLS LAST LIMIT {MAX_ROWS}"
    return [_run(row) for row in store.sql(query).to_pylist()]


def media_bytes(store: Store) -> int:
    """Return the size of all clips' media, in bytes."""
    return _one(store, "SELECT coalesce(sum(size), 0)::BIGINT AS bytes FROM media")["bytes"]


def _run(row: dict[str, Any]) -> Run:
    began, ended = row["started_at"], row["ended_at"]
    seconds = {k: float(v) for k, v in _object(row["stage_seconds"]).items() if isinstance(v, (int, float))}
    total = sum(seconds.values()) or 1.0
    measured, counts = _object(row.get("stages")), _object(row["counts"])
    took = (ended - began).total_seconds() if began and ended else None
    if took and isinstance(counts.get("clips"), int):
        counts["clips_per_second"] = f"{counts['clips'] / took:,.2f}"
    clips = counts["clips"] if isinstance(counts.get("clips"), int) else 0
    stages = [
        StageTime(name, value, value / total, " · ".join(_took(name, row, measured.get(name), _rate(clips, value))))
        for name, value in seconds.items()
    ]
    others = {name: figures for name, figures in measured.items() if name not in seconds and isinstance(figures, dict)}
    return Run(
        run_id=row["run_id"] or "",
        command=row["command"] or "",
        state=row["state"] or "",
        started_at=began,
        seconds=took,
        counts=counts,
        stages=stages + [_other(name, row, figures, total, clips) for name, figures in others.items()],
    )


def _other(name: str, row: dict[str, Any], figures: dict[str, Any], total: float, clips: int) -> StageTime:
    """Describe tasks that write, those of annotators, whose seconds are told by annotator, or requests to the store."""
    if "bytes_written" in figures:
        requests, read, written = (float(figures.get(of) or 0) for of in ("requests", "bytes_read", "bytes_written"))
        words = f"{requests:,.0f} requests · {read / 1e6:,.1f} MB read · {written / 1e6:,.1f} MB written"
        return StageTime(name, None, 0.0, words)
    seconds = float(figures.get("seconds") or 0)
    words = " · ".join(_took(name, row, figures, _rate(clips, seconds)))
    return StageTime(name, seconds or None, min(1.0, seconds / total), words)


def _rate(clips: int, seconds: float) -> str:
    return f"{clips / seconds:,.2f} clips per second of a worker" if clips and seconds else ""


def _took(name: str, row: dict[str, Any], stage: Any, rate: str) -> Iterator[str]:
    """Yield what a stage took, where that was measured: its tasks, requests, clips per second, and bytes of disks."""
    if not isinstance(stage, dict):
        return
    yield from filter(None, (_in_words(stage), rate))
    writes = float(stage.get("write_requests") or 0)
    counted = {"read": float(stage.get("requests") or 0) - writes, "written": writes}
    for what, size in _object(row.get("stage_bytes")).items():
        of, done = BYTES_OF.get(what, (what, "written"))
        if of == name and size and not counted[done]:
            yield f"{size / 1e6:,.1f} MB {done}"


def _in_words(stage: dict[str, Any]) -> str:
    """Describe tasks and requests of a stage."""
    figures = {name: float(stage.get(name) or 0) for name in MEASURED}
    writes, words = figures["write_requests"], []
    if figures["tasks"]:
        words = [
            f"{figures['tasks']:,.0f} tasks", f"{figures['cpu_s']:,.1f} s of CPU", f"{figures['wait_s']:,.1f} s waited",
            f"peak {figures['peak_bytes'] / 2**20:,.0f} MiB",
        ]  # fmt: skip
    if reads := figures["requests"] - writes:
        words.append(f"{figures['bytes_in'] / 1e6:,.1f} MB read by {reads:,.0f} requests")
    if writes:
        words.append(f"{figures['bytes_out'] / 1e6:,.1f} MB written by {writes:,.0f} requests")
    return " · ".join(words)


def _object(text: str | None) -> dict[str, Any]:
    """Parse a JSON object; empty for no text."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _bars(store: Store, title: str, unit: str, values: str) -> Bars:
    """values: a SELECT of one column."""
    query = (
        f"WITH v(value) AS ({values}), n AS (SELECT value, count(*) AS count FROM v GROUP BY value) "
        f"SELECT coalesce(CAST(value AS VARCHAR), '{NOT_KNOWN}') AS label, count, sum(count) OVER () AS total "
        f"FROM n ORDER BY count DESC, label LIMIT {MAX_BARS}"
    )
    rows = store.sql(query).to_pylist()
    longest = rows[0]["count"] if rows else 1
    others = int(rows[0]["total"]) - sum(r["count"] for r in rows) if rows else 0
    return Bars(title, unit, [Bar(r["label"], r["count"], r["count"] / longest) for r in rows], others)


def _one(store: Store, query: str) -> dict[str, Any]:
    return store.sql(query).to_pylist()[0]
