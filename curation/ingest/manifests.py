"""From the rows of a list to inputs: which file, its publisher's id, its licence, its captions, its parts.

One bad row fails alone: it becomes an input that is refused, with its number and a reason.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from reelwright.curation.ingest.address_column import read_addresses
from reelwright.curation.ingest.inputs import (
    FILE,
    IngestError,
    Input,
    ManifestConfig,
    Span,
    WebError,
    is_unicode,
    protocol_of,
)
from reelwright.curation.ingest.manifest_columns import TidyRows
from reelwright.curation.ingest.manifest_files import read_rows
from reelwright.curation.ingest.manifest_names import (
    CAPTION_COLUMNS,
    ID_COLUMNS,
    LICENCE_COLUMNS,
    MAX_TEXT_CHARS,
    READ,
    URI_COLUMNS,
)
from reelwright.curation.ingest.manifest_rows import Row
from reelwright.curation.ingest.span_columns import is_missing, names_span, spans_of
from reelwright.curation.ingest.spool import TEXT
from reelwright.curation.ingest.suffixes import VIDEO_SUFFIXES, suffix_of
from reelwright.curation.media.remote import count_reads
from reelwright.curation.signed import address, is_signed, link_of, without_signatures

MAX_UNREAD_COLUMNS = 100


def plain_addresses(path: str) -> Iterator[pa.Array | None]:
    """Yield the addresses of a list that holds nothing else, by batches; None, and no more, where it holds more."""
    if not path.lower().endswith(".parquet"):
        yield None
        return
    with _opened(path) as file:
        yield from read_addresses(file, URI_COLUMNS)


def read_manifest(
    path: Path | str,
    allow_http: bool = False,
    config: ManifestConfig | None = None,
    unread: set[str] | None = None,
    take: Callable[[pa.RecordBatch], None] | None = None,
) -> Iterator[Input]:
    """Yield the rows of a CSV, TSV, JSON, JSONL, Parquet or text file as inputs.

    It has a column `uri` (or path, video, url …) and perhaps `source_id`, `licence`, `caption`, `start` and `end`.

    Args:
        path: local, or a URI. Paths in the file are relative to its folder.
        allow_http: whether addresses on the web are read.
        config: how lists are understood.
        unread: gets the names of columns that nothing is taken from.
        take: gets rows that need no look at each, as TOLD, instead of their being yielded.

    Raises:
        IngestError: the file is no list, or none of its rows can be used.
    """
    path = path if isinstance(path, str) else str(path)
    config, unread = config or ManifestConfig(), set() if unread is None else unread
    used, first_reason, is_a_list_of_files = 0, "", not path.lower().removesuffix(".gz").endswith(".txt")
    tidy = TidyRows(path, allow_http, config)

    def take_tidy(columns: Mapping[str, pa.Array], names: Collection[str]) -> bool:
        nonlocal used, is_a_list_of_files
        rows = tidy.told(columns)
        if rows is None or take is None:
            return False
        take(rows)
        used += len(rows)
        is_a_list_of_files = is_a_list_of_files or any(map(_names_a_file, rows.column(TEXT).to_pylist()))
        _note_unread(dict.fromkeys(names), config, unread)
        return True

    with _opened(path) as file:
        for row in read_rows(path, file, URI_COLUMNS, take_tidy if take else None):
            try:
                item = _input(path, row, allow_http, config)
            except WebError:
                raise
            except ValueError as error:
                reason = f"{row.position} of {os.path.basename(path)}: {error}"
                first_reason = first_reason or reason
                yield Input(f"{path}#row {row.number}", refused=reason)
                continue
            used += 1
            is_a_list_of_files = is_a_list_of_files or _names_a_file(item.uri)
            _note_unread(row.values, config, unread)
            yield item
    if first_reason and not used:
        raise IngestError(f"{path}: no row can be used; {first_reason}")
    if used and not is_a_list_of_files:
        raise IngestError(f"{path} names no files; a .txt file among the inputs is a list, with a path on each line")


def _input(path: str, row: Row, allow_http: bool, config: ManifestConfig) -> Input:
    """Return the input that a row names; raise ValueError with the reason if the row is wrong."""
    if row.error:
        raise ValueError(row.error)
    values = row.values
    if not isinstance(values, Mapping):
        raise ValueError('it is no object; a row looks like {"uri": "a.mp4"}')
    uri = _address(path, _uri(values), allow_http)
    captions = _captions(values)
    spans = (spans_of(values) if config.spans == "cut" else None) or []
    licence, source_id = _text(values, LICENCE_COLUMNS), _text(values, ID_COLUMNS)
    if not spans:
        return Input(uri, source_id, licence, tuple(captions), is_row=True)
    return Input(uri, source_id, licence, (), tuple(sorted(_captioned(spans, captions))), is_row=True)


def _captioned(spans: list[Span], captions: list[str]) -> list[Span]:
    """Each span with its caption: of several spans each has its own, or all have the one there is."""
    if len(spans) == 1 or len(captions) <= 1:
        return [Span(s.start_s, s.end_s, tuple(captions)) for s in spans]
    if len(spans) != len(captions):
        raise ValueError(f"{len(spans)} spans and {len(captions)} captions; give one for each, or one for all")
    return [Span(s.start_s, s.end_s, (caption,)) for s, caption in zip(spans, captions, strict=True)]


def _uri(row: Mapping[str, Any]) -> str:
    for name in URI_COLUMNS:
        value = row.get(name)
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
        if is_missing(value):
            continue
        if not isinstance(value, str):
            raise ValueError(f"column {name} holds {_kind(value)}; it names one file")
        return value.strip()
    raise ValueError(f"no value in a column named {', '.join(URI_COLUMNS[:6])}")


def _address(manifest: str, uri: str, allow_http: bool) -> str:
    """Return where a row's file is. Raises ValueError for an address that no run reads."""
    _check(uri, "the path")
    if "://" in manifest:
        uri = _beside(manifest, uri)
    elif "://" not in (uri := FILE.sub("", uri) if FILE.match(uri) else uri):
        return os.path.abspath(os.path.join(os.path.dirname(manifest), uri))
    uri = address(uri)
    protocol_of(uri, allow_http)
    return uri


def _beside(manifest: str, uri: str) -> str:
    """Resolve a uri in a remote manifest, relative to the manifest.

    It may name no file of this machine, so that a list from elsewhere reads no local file.
    """
    if FILE.match(uri) or uri.startswith("/"):
        raise IngestError(f"{uri} is a local file; a remote manifest's rows are URIs or relative to it")
    return uri if "://" in uri else f"{manifest.rpartition('/')[0]}/{uri}"


def _captions(row: Mapping[str, Any]) -> list[str]:
    """Captions of the first column that has any: a text, or a list of texts."""
    for name in CAPTION_COLUMNS:
        value = row.get(name)
        found = [_plain(v, name) for v in (value if isinstance(value, (list, tuple)) else [value]) if not is_missing(v)]
        if found:
            return list(dict.fromkeys(found))
    return []


def _text(row: Mapping[str, Any], names: Iterable[str]) -> str | None:
    for name in names:
        if not is_missing(row.get(name)):
            return _plain(row[name], name)
    return None


def _plain(value: Any, column: str) -> str:
    """Return a value as text; raise ValueError for one that is no single value."""
    if isinstance(value, (Mapping, list, tuple, bytes)):
        raise ValueError(f"column {column} holds {_kind(value)}; give a text" +
                         (", or a list of texts" if column in CAPTION_COLUMNS else ""))  # fmt: skip
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a table's way of writing 7 in a column that has gaps
    text = str(value).strip()[:MAX_TEXT_CHARS]
    _check(text, f"column {column}")
    return text


def _check(text: str, what: str) -> None:
    if "\0" in text:
        raise ValueError(f"{what} holds a NUL character")
    if not is_unicode(text):
        raise ValueError(f"{what} is not in UTF-8; save the list in UTF-8")


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    return f"a list of {len(value)}" if isinstance(value, (list, tuple)) else f"a {type(value).__name__}"


def _names_a_file(uri: str) -> bool:
    return "://" in uri or suffix_of(uri) in VIDEO_SUFFIXES or os.path.isfile(uri)


def _note_unread(row: Mapping[str, Any], config: ManifestConfig, unread: set[str]) -> None:
    if len(unread) < MAX_UNREAD_COLUMNS:
        cuts = config.spans == "cut"
        unread.update(n for n, v in row.items() if n and n not in READ and not (cuts and names_span(n, v)))


def _opened(path: str) -> Any:
    """Open a binary file, of this machine or by fsspec."""
    if "://" not in path:
        try:
            return open(path, "rb")
        except OSError as error:
            raise IngestError(f"cannot read {path}: {error.strerror}") from error
    import fsspec

    try:
        return count_reads(path, fsspec.open(link_of(path), "rb").open())
    except Exception as error:  # each file system has its own
        raise IngestError(f"cannot read {path}: {type(error).__name__}: {without_signatures(str(error))}") from (
            None if is_signed(path) else error
        )
