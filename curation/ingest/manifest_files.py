"""Rows of a list file: CSV in its dialects, TSV, a path per line, JSON, JSON Lines, Parquet; packed by gzip or not.

Lists are written by hand, by spreadsheets and by strangers. A row that makes no sense becomes a `Row` that says why,
and the next one is read; memory is bounded by a line, whatever a file holds or unpacks to.
"""

import csv
import gzip
import io
import json
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from reelwright.curation.ingest.inputs import IngestError
from reelwright.curation.ingest.manifest_rows import Row, column_name, named
from reelwright.curation.ingest.row_batches import Take, parquet_rows, untidy
from reelwright.curation.ingest.suffixes import VIDEO_SUFFIXES, suffix_of

MAX_LINE_CHARS = 4 << 20
MAX_RECORD_LINES = 200  # lines that one quoted value of a CSV may go over
MAX_JSON_BYTES = 256 << 20  # of a file that is one JSON value and is parsed as a whole
MAX_UNPACKED_BYTES = 4 << 30  # of a packed list
BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))  # fmt: skip
DELIMITERS = (",", ";", "\t", "|")
UNREADABLE = (ValueError, OSError, EOFError, zlib.error, csv.Error, RecursionError)


def read_rows(path: str, file: BinaryIO, known: Iterable[str], take: Take | None = None) -> Iterator[Row]:
    """Yield the rows of an open list, with names of columns in small letters and without spaces around them.

    Args:
        path: of the list; its suffix decides the format.
        file: open, binary.
        known: columns that help to recognize a CSV's delimiter.
        take: is offered rows by the column; those that it takes are not yielded.

    Raises:
        IngestError: the file as a whole is no list.
    """
    suffix = suffix_of(path)
    try:
        if suffix == ".parquet":
            yield from parquet_rows(file, take)
            return
        if suffix.endswith(".gz"):
            suffix = suffix.removesuffix(".gz")
            text = _as_text(_Unpacked(file))
        else:
            text = _as_text(file)
        if suffix == ".json":
            yield from untidy(_json_rows(text), take)
        elif suffix in (".jsonl", ".ndjson"):
            yield from untidy(_json_lines(_lines(text)), take)
        elif suffix == ".txt":
            yield from untidy(_path_lines(_lines(text)), take)
        else:
            rows = _csv_rows(path, _Lines(_lines(text)), "\t" if suffix == ".tsv" else "", set(known))
            yield from untidy(rows, take)
    except IngestError:
        raise
    except UNREADABLE as error:
        raise IngestError(f"{path} is not a readable manifest ({error or type(error).__name__})") from error


class _Unpacked(io.RawIOBase):
    """A gzip file that says so when it swells beyond all lists."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left = gzip.GzipFile(fileobj=file), MAX_UNPACKED_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"it unpacks to over {MAX_UNPACKED_BYTES >> 20} MiB")
        buffer[: len(data)] = data
        return len(data)


def _as_text(file: BinaryIO | io.RawIOBase) -> io.TextIOWrapper:
    """In the encoding that the first bytes tell, UTF-8 if none. Bytes that do not belong there come as surrogates."""
    buffered = io.BufferedReader(file) if isinstance(file, io.RawIOBase) else file
    head = buffered.peek(64)[:64] if isinstance(buffered, io.BufferedReader) else _head(buffered)
    encoding = next((name for bom, name in BOMS if head.startswith(bom)), None)
    if encoding is None and head.count(0) > len(head) // 3:  # UTF-16 without a mark: every second byte of ASCII is 0
        encoding = "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    errors = "surrogateescape" if encoding in (None, "utf-8-sig") else "replace"
    return io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline="")


def _head(file: Any) -> bytes:
    head = file.read(64)
    file.seek(0)
    return head


def _lines(text: io.TextIOWrapper) -> Iterator[tuple[int, str | None]]:
    """(line number, line with its end; None for one that is too long)."""
    number = 0
    while line := text.readline(MAX_LINE_CHARS):
        number += 1
        if len(line) == MAX_LINE_CHARS and not line.endswith(("\n", "\r")):
            while (rest := text.readline(MAX_LINE_CHARS)) and not rest.endswith(("\n", "\r")):
                pass
            yield number, None
        else:
            yield number, line


TOO_LONG = f"the line is longer than {MAX_LINE_CHARS >> 20} MiB"


# --- one line, one row -----------------------------------------------------------------------------------------------


def _path_lines(lines: Iterable[tuple[int, str | None]]) -> Iterator[Row]:
    number = 0
    for at, line in lines:
        if line is None or line.strip():
            number += 1
            if line is None:
                yield Row(number, None, at, TOO_LONG)
            else:
                yield Row(number, {"uri": line.strip()}, at, chars=len(line))


def _json_lines(lines: Iterable[tuple[int, str | None]]) -> Iterator[Row]:
    number = 0
    for at, line in lines:
        if line is None:
            number += 1
            yield Row(number, None, at, TOO_LONG)
        elif line.strip():
            number += 1
            try:
                yield Row(number, named(json.loads(line)), at, chars=len(line))
            except (ValueError, RecursionError) as error:
                yield Row(number, None, at, f"it is not JSON ({error or type(error).__name__})")


# --- whole files -----------------------------------------------------------------------------------------------------


def _json_rows(text: io.TextIOWrapper) -> Iterator[Row]:
    """One array of rows, or an object with one array in it, or one row; or JSON Lines under the wrong name."""
    whole = text.read(MAX_JSON_BYTES + 1)
    if len(whole) > MAX_JSON_BYTES:
        raise IngestError(
            f"a JSON file may have {MAX_JSON_BYTES >> 20} MiB, as it is read whole; write JSON Lines (.jsonl)"
        )
    try:
        found = json.loads(whole) if whole.strip() else []
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
        yield from _json_lines(enumerate(whole.splitlines(), 1))
        return
    if isinstance(found, Mapping):
        arrays = [v for v in found.values() if isinstance(v, list) and v and isinstance(v[0], (Mapping, str))]
        if len(found) == 1 and arrays:
            found = arrays[0]
    rows = found if isinstance(found, list) else [found]
    yield from (Row(number, named(row)) for number, row in enumerate(rows, 1))


# --- CSV -------------------------------------------------------------------------------------------------------------


class _Lines:
    """Numbered lines; a line that was read can be put back."""

    def __init__(self, lines: Iterator[tuple[int, str | None]]) -> None:
        self._lines, self._back = lines, deque[tuple[int, str | None]]()

    def __iter__(self) -> Iterator[tuple[int, str | None]]:
        return self

    def __next__(self) -> tuple[int, str | None]:
        return self._back.popleft() if self._back else next(self._lines)

    def put_back(self, lines: Sequence[tuple[int, str | None]]) -> None:
        self._back.extendleft(reversed(lines))


def _csv_rows(path: str, lines: _Lines, delimiter: str, known: set[str]) -> Iterator[Row]:
    header, delimiter = _header(lines, delimiter, known)
    if not header:
        return
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise IngestError(f"{path} has two columns named {', '.join(twice)}; rename one of each")
    if not known.intersection(header):
        names = ", ".join(name or "(empty)" for name in header)
        raise IngestError(f"{path} has no column that names a file (such as uri, path, video, url); its first line has "
                          f"{names}; a .txt file holds a path per line")  # fmt: skip
    where = next(i for i, name in enumerate(header) if name in known)

    def is_row(line: str) -> bool:
        """Return whether a line could be a row of its own: then a quote before it was never closed."""
        cells = _cells([line], delimiter, strict=False)
        return len(cells) == len(header) and suffix_of(cells[where].strip()) in VIDEO_SUFFIXES

    number = 0
    for at, line in lines:
        if line is not None and not line.strip():
            continue
        cells, error = (None, TOO_LONG) if line is None else _record(lines, at, line, delimiter, is_row)
        if cells is not None and not any(cell.strip() for cell in cells):
            continue  # a spreadsheet's empty row: ,,,
        number += 1
        if cells is not None and any(cell.strip() for cell in cells[len(header) :]):
            error = f"{len(cells)} values for {len(header)} columns; a value that holds {delimiter!r} stands in quotes"
        values = None if error else dict(zip(header, cells or [], strict=False))
        yield Row(number, values, at, error, sum(map(len, cells or [])))


def _header(lines: _Lines, delimiter: str, known: set[str]) -> tuple[list[str], str]:
    """Return (names of the columns, the separator between them)."""
    for _, line in lines:
        if line is None:
            raise ValueError(TOO_LONG)
        if not line.strip("\ufeff \t\r\n,;"):
            continue
        if line.lower().startswith("sep=") and len(line.strip()) == 5:  # spreadsheets name their separator
            delimiter = line.strip()[4]
            continue
        for one in [delimiter] if delimiter else DELIMITERS:
            names = [column_name(cell) for cell in _cells([line], one, strict=False)]
            if known.intersection(names):
                return names, one
        one = delimiter or ","
        return [column_name(cell) for cell in _cells([line], one, strict=False)], one
    return [], delimiter


def _record(
    lines: _Lines, at: int, line: str, delimiter: str, is_row: Callable[[str], bool]
) -> tuple[list[str] | None, str | None]:
    """Return (cells of the row that begins with `line`, None), or (None, the reason it has none).

    A row that cannot be read ends with its line, and the lines after it are rows.
    """
    taken: list[tuple[int, str | None]] = []
    texts = [line]
    error = "a quote is not closed"
    while True:
        try:
            cells = _cells(texts, delimiter, strict=True)
        except csv.Error as why:
            if "unexpected end of data" not in str(why):
                error = _quotes(why)
                break
        else:
            if any(is_row(text) for text in texts[1:]):
                error = f"a quote is closed only in line {taken[-1][0]}, and lines between look like rows"
                break
            return cells, None
        more = _up_to_a_quote(lines, MAX_RECORD_LINES - len(taken))
        taken += more
        if not more or more[-1][1] is None or '"' not in more[-1][1]:
            break
        texts += [text for _, text in more if text is not None]
    lines.put_back(taken)
    return None, error


def _up_to_a_quote(lines: _Lines, most: int) -> list[tuple[int, str | None]]:
    """Read at most `most` lines up to the first with a quote in it, which may close one."""
    taken = []
    for at, line in lines:
        taken.append((at, line))
        if line is None or '"' in line or len(taken) >= most:
            break
    return taken


def _cells(texts: list[str], delimiter: str, *, strict: bool) -> list[str]:
    """Values of one row. Quotes within quotes are doubled, or have a backslash before them. Raises csv.Error."""
    try:
        rows = list(csv.reader(texts, delimiter=delimiter, strict=strict))
    except csv.Error as error:
        if "expected after" not in str(error) or '\\"' not in "".join(texts):
            raise
        rows = list(csv.reader(texts, delimiter=delimiter, strict=strict, escapechar="\\"))
    return rows[0] if rows else []


def _quotes(error: csv.Error) -> str:
    if "expected after" in str(error):
        return 'quotes inside a quoted value are not doubled ("")'
    return str(error)
