"""Write a query's rows as a table to look at, CSV, JSON, JSON Lines or Parquet, to a file or standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from reelwright.curation.store.errors import StoreError

FORMATS = ("table", "csv", "json", "jsonl", "parquet")
MAX_TABLE_ROWS = 1_000  # a table is aligned, so it is held in memory
MAX_CELL = 60  # characters of a cell in a table, where no other width is asked for


def write_result(
    reader: pa.RecordBatchReader | pa.Table,
    format: str = "table",
    out: str | Path | IO[Any] | None = None,
    *,
    width: int | None = MAX_CELL,
) -> int:
    """Write rows to a path, an open file or standard output, as they come, and return their number.

    Args:
        reader: of the rows.
        format: table (aligned, the first 1,000 rows), csv, json (an array), jsonl (one object per line) or parquet.
        out: a path appears only once the file is whole; default: standard output.
        width: characters per cell of a table; None shortens nothing.
    """
    if format not in FORMATS:
        raise StoreError(f"{format!r} is not a format of results; choose one of: {', '.join(FORMATS)}.")
    if isinstance(reader, pa.Table):
        reader = reader.to_reader()
    if isinstance(out, (str, Path)):
        return _to_path(reader, format, Path(out), width)
    binary = _binary(out or sys.stdout)
    if format == "parquet" and binary is getattr(sys.stdout, "buffer", None) and sys.stdout.isatty():
        raise StoreError("parquet is not for a screen; give --out a file name.")
    return _write(reader, format, binary, width)


def _write(reader: pa.RecordBatchReader, format: str, out: IO[bytes], width: int | None) -> int:
    return _write_table(reader, out, width) if format == "table" else WRITERS[format](reader, out)


def _to_path(reader: pa.RecordBatchReader, format: str, path: Path, width: int | None) -> int:
    begun = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with begun.open("wb") as file:
            count = _write(reader, format, file, width)
        begun.replace(path)
        return count
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; choose a folder you can write.") from error
    finally:
        begun.unlink(missing_ok=True)


def _binary(out: IO[Any]) -> IO[bytes]:
    return getattr(out, "buffer", out)


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    return zip(*(_values(column) for column in batch.columns), strict=True)


def _values(column: pa.Array) -> list[Any]:
    """Values for Python; as text where Python has none for them, such as a year beyond 9999 or nanoseconds."""
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        return [_value(one) for one in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, pa.ArrowException):
        return _as_text(scalar)


def _as_text(scalar: pa.Scalar) -> str | None:
    try:
        return scalar.cast(pa.string()).as_py()
    except pa.ArrowException:
        return str(getattr(scalar, "value", type(scalar).__name__))


def _write_csv(reader: pa.RecordBatchReader, out: IO[bytes]) -> int:
    import csv
    import io

    text = io.TextIOWrapper(out, encoding="utf-8", errors="replace", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(reader.schema.names)
    count = 0
    for batch in reader:
        writer.writerows([_csv_cell(value) for value in row] for row in _rows(batch))
        count += batch.num_rows
    text.detach()
    return count


def _csv_cell(value: Any) -> Any:
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(finite(value), default=plain, ensure_ascii=False)
    return value.hex() if isinstance(value, bytes) else value


def _write_json(reader: pa.RecordBatchReader, out: IO[bytes]) -> int:
    """Write an array with one object per line, so that it is both valid JSON and easy to look through."""
    count = 0
    out.write(b"[")
    for row in _objects(reader):
        out.write((b",\n" if count else b"\n") + json_line(row).rstrip(b"\n"))
        count += 1
    out.write(b"\n]\n" if count else b"]\n")
    return count


def _write_json_lines(reader: pa.RecordBatchReader, out: IO[bytes]) -> int:
    count = 0
    for row in _objects(reader):
        out.write(json_line(row))
        count += 1
    return count


def _objects(reader: pa.RecordBatchReader) -> Iterator[dict[str, Any]]:
    """Rows as dicts. Raises StoreError where two columns have one name: an object would lose one of them."""
    names = reader.schema.names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise StoreError(f"two columns of the query are called {twice!r}; name one of them otherwise: … AS other_name.")
    for batch in reader:
        yield from (dict(zip(names, row, strict=True)) for row in _rows(batch))


def json_line(row: dict[str, Any]) -> bytes:
    """Return a row as one line of JSON; numbers that JSON lacks (NaN, infinity) become null."""
    return (
        json.dumps(finite(row), default=plain, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
    )


def finite(value: Any) -> Any:
    """Return `value` with every NaN and infinity inside it replaced by None."""
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        return int(value) if value.as_tuple().exponent == 0 else float(value)  # a sum of integers is one
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):  # an Arrow map is a list of pairs
        return [finite(one) for one in value]
    return value


def plain(value: Any) -> Any:
    """Return a value that JSON lacks, such as a date, as text or number."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.hex() if isinstance(value, bytes) else str(value)


def _write_parquet(reader: pa.RecordBatchReader, out: IO[bytes]) -> int:
    import pyarrow.parquet as pq

    count = 0
    with pq.ParquetWriter(out, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _write_table(reader: pa.RecordBatchReader, out: IO[bytes], width: int | None) -> int:
    rows, more = _head(reader, MAX_TABLE_ROWS)
    names = reader.schema.names
    cells = [names, *([shown(value, width) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    lines = ["  ".join(text.ljust(wide) for text, wide in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * wide for wide in widths))
    noun = "row" if len(rows) == 1 else "rows"
    lines.append(f"({'first ' if more else ''}{len(rows)} {noun}{'; more with --format csv' if more else ''})")
    out.write(("\n".join(lines) + "\n").encode("utf-8", "replace"))
    return len(rows)


def _head(reader: Iterable[pa.RecordBatch], count: int) -> tuple[list[tuple[Any, ...]], bool]:
    rows: list[tuple[Any, ...]] = []
    for batch in reader:
        rows += _rows(batch)
        if len(rows) > count:
            return rows[:count], True
    return rows, False


def shown(value: Any, width: int | None = MAX_CELL) -> str:
    """Return one line of printable text: control characters, which could drive a terminal, are written as escapes.

    width: characters; a longer text ends with an ellipsis. None shortens nothing.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, (list, tuple, dict)):
        text = json.dumps(finite(value), default=plain, ensure_ascii=False)
    else:
        text = plain(value) if isinstance(value, (bytes, datetime, date, time)) else str(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


WRITERS = {"csv": _write_csv, "json": _write_json, "jsonl": _write_json_lines, "parquet": _write_parquet}
