"""A query's rows as a table to look at, CSV, JSON lines or Parquet: streamed, to a file or to standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from curation.store.errors import StoreError

FORMATS = ("table", "csv", "json", "parquet")
MAX_TABLE_ROWS = 1_000  # a table is aligned, so it is held in memory
MAX_CELL = 60  # characters of a cell in a table


def write_result(
    reader: pa.RecordBatchReader | pa.Table, format: str = "table", out: str | Path | IO[Any] | None = None
) -> int:
    """Write rows to a path, an open file or standard output; returns how many.

    format: table (aligned, the first 1,000 rows), csv, json (one object a line) or parquet. A file appears under its
    name only once it is whole.
    """
    if format not in FORMATS:
        raise StoreError(f"{format!r} is not a format of results; choose one of: {', '.join(FORMATS)}.")
    if isinstance(reader, pa.Table):
        reader = reader.to_reader()
    if isinstance(out, (str, Path)):
        return _to_path(reader, format, Path(out))
    binary = _binary(out or sys.stdout)
    if format == "parquet" and binary is getattr(sys.stdout, "buffer", None) and sys.stdout.isatty():
        raise StoreError("parquet is not for a screen; give --output a file name.")
    return WRITERS[format](reader, binary)


def _to_path(reader: pa.RecordBatchReader, format: str, path: Path) -> int:
    begun = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with begun.open("wb") as file:
            count = WRITERS[format](reader, file)
        begun.replace(path)
        return count
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; choose a folder you can write.") from error
    finally:
        begun.unlink(missing_ok=True)


def _binary(out: IO[Any]) -> IO[bytes]:
    return getattr(out, "buffer", out)


def _write_csv(reader: pa.RecordBatchReader, out: IO[bytes]) -> int:
    import csv
    import io

    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(reader.schema.names)
    count = 0
    for batch in reader:
        columns = [column.to_pylist() for column in batch.columns]
        writer.writerows([_csv_cell(value) for value in row] for row in zip(*columns, strict=True))
        count += batch.num_rows
    text.detach()
    return count


def _csv_cell(value: Any) -> Any:
    return json.dumps(value, default=plain, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def _write_json(reader: pa.RecordBatchReader, out: IO[bytes]) -> int:
    count = 0
    for batch in reader:
        for row in batch.to_pylist():
            out.write(json_line(row))
            count += 1
    return count


def json_line(row: dict[str, Any]) -> bytes:
    """A row as one line of JSON; numbers that JSON lacks (NaN, infinity) become null."""
    return (
        json.dumps(finite(row), default=plain, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
    )


def finite(value: Any) -> Any:
    """`value` with every NaN and infinity inside it replaced by None."""
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return value


def plain(value: Any) -> Any:
    """What JSON has no word for, as text or number."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    return value.hex() if isinstance(value, bytes) else str(value)


def _write_parquet(reader: pa.RecordBatchReader, out: IO[bytes]) -> int:
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(out, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _write_table(reader: pa.RecordBatchReader, out: IO[bytes]) -> int:
    rows, more = _head(reader, MAX_TABLE_ROWS)
    names = reader.schema.names
    cells = [names, *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    noun = "row" if len(rows) == 1 else "rows"
    lines.append(f"({'first ' if more else ''}{len(rows)} {noun}{'; more with --format csv' if more else ''})")
    out.write(("\n".join(lines) + "\n").encode("utf-8", "replace"))
    return len(rows)


def _head(reader: Iterable[pa.RecordBatch], count: int) -> tuple[list[tuple[Any, ...]], bool]:
    rows: list[tuple[Any, ...]] = []
    for batch in reader:
        rows += zip(*(column.to_pylist() for column in batch.columns), strict=True)
        if len(rows) > count:
            return rows[:count], True
    return rows, False


def _cell(value: Any) -> str:
    """One line of printable text: control characters, which could drive a terminal, are written as escapes."""
    if value is None:
        return ""
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, (list, dict)):
        text = json.dumps(finite(value), default=plain, ensure_ascii=False)
    else:
        text = plain(value) if isinstance(value, (bytes, datetime, date, time)) else str(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


WRITERS = {"table": _write_table, "csv": _write_csv, "json": _write_json, "parquet": _write_parquet}
