"""Columns of a manifest that name parts of a file: start and end, or a pair of times, or a list of pairs."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import time, timedelta
from typing import Any

from reelwright.curation.ingest.inputs import Span

STARTS = dict.fromkeys(("start", "start_s", "start_sec", "start_seconds", "start_time", "time_start", "t_start",
                        "begin", "begin_s", "begin_time"), 1.0) | {"start_ms": 1e-3, "begin_ms": 1e-3}  # fmt: skip
ENDS = dict.fromkeys(("end", "end_s", "end_sec", "end_seconds", "end_time", "time_end", "t_end", "stop", "stop_s",
                      "stop_time"), 1.0) | {"end_ms": 1e-3, "stop_ms": 1e-3}  # fmt: skip
"""Column -> seconds that one of its units is."""

PAIRS = ("span", "spans", "segment", "segments", "timestamp", "timestamps")
COLUMNS = frozenset({*STARTS, *ENDS, *PAIRS})
CLOCK = re.compile(r"(?:(?:(\d+):)?(\d{1,4}):)?(\d+(?:[.,]\d+)?)\s*s?", re.ASCII)
PAIR_TEXT = re.compile(r"""[\[(]\s*['"]?([\d:.,]+?)['"]?\s*,\s*['"]?([\d:.,]+?)['"]?\s*[\])]""", re.ASCII)


def spans_of(row: Mapping[str, Any]) -> list[Span] | None:
    """Return the spans that a row names, without captions; None where it names none.

    Raises:
        ValueError: a span is wrong; the text gives the reason.
    """
    if COLUMNS.isdisjoint(row):
        return None
    start, end = _given(row, STARTS), _given(row, ENDS)
    if start is not None or end is not None:
        return [_span(0.0 if start is None else start, math.inf if end is None else end)]
    for column in PAIRS:
        if pairs := _pairs(row.get(column)):
            return [_span(seconds(a), seconds(b)) for a, b in pairs]
    return None


def names_span(column: str, value: Any) -> bool:
    """Return whether `spans_of` reads this value of this column, or would if there were one."""
    return column in STARTS or column in ENDS or (column in PAIRS and (is_missing(value) or bool(_pairs(value))))


def seconds(value: Any) -> float:
    """Parse a time: seconds as a number or text, or [HH:]MM:SS[.mmm]. Raises ValueError."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, time):
        value = value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    elif isinstance(value, str):
        found = CLOCK.fullmatch(value.strip())
        if not found:
            raise ValueError(f"{value[:40]!r} is no time; give seconds, or hours, minutes and seconds as 00:01:02.5")
        hours, minutes, rest = found.groups()
        value = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest.replace(",", "."))
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{str(value)[:40]!r} is no time; give seconds from the file's start")
    return float(value)


def is_missing(value: Any) -> bool:
    """Return whether a value stands for a missing one.

    That is null, NaN (which tables write for null), or blank text of either.
    """
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, str):
        return value.strip().casefold() in ("", "nan", "null", "none", "nat", "<na>")
    return value is None


def _given(row: Mapping[str, Any], units: Mapping[str, float]) -> float | None:
    """Seconds in the first column of these that has a value."""
    for column, unit in units.items():
        if not is_missing(row.get(column)):
            return seconds(row[column]) * unit
    return None


def _span(start_s: float, end_s: float) -> Span:
    if end_s <= start_s:
        raise ValueError(f"the span ends at {end_s:g} s and begins at {start_s:g} s; its end comes after its start")
    return Span(start_s, end_s)


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    """Pairs of times in a value: [a, b], [[a, b], …], either of them as text, or [{"start": a, "end": b}, …]."""
    if isinstance(value, str):
        return PAIR_TEXT.findall(value)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        return []
    if len(value) == 2 and all(_is_like_a_time(v) for v in value):
        return [(value[0], value[1])]
    pairs = []
    for item in value:
        pair = [item.get("start"), item.get("end")] if isinstance(item, Mapping) else item
        if not isinstance(pair, Sequence) or len(pair) != 2 or not all(_is_like_a_time(v) for v in pair):
            return []  # words, say: the column is about something else
        pairs.append((pair[0], pair[1]))
    return pairs


def _is_like_a_time(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip()[:1].isdigit()
    return isinstance(value, (int, float, time, timedelta)) and not isinstance(value, bool)
