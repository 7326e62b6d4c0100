"""From what a user names (folders, files, globs, manifests, URIs) to a list of inputs, in a fixed order."""

import csv
import glob
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from curation.extras import install_for_protocol

VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".wmv", ".asf", ".flv", ".f4v", ".mpg", ".mpeg", ".m2v",
    ".mpe", ".ts", ".m2ts", ".mts", ".vob", ".ogv", ".ogm", ".3gp", ".3g2", ".mxf", ".gif", ".apng", ".y4m", ".dv",
    ".rm", ".rmvb", ".divx", ".ivf", ".nut", ".h264", ".264", ".hevc", ".265", ".av1", ".obu", ".wtv",
})  # fmt: skip
MANIFEST_SUFFIXES = frozenset({".csv", ".jsonl", ".ndjson", ".parquet"})
URI_COLUMNS = ("uri", "path", "video", "video_path", "file", "url")
LICENCE_COLUMNS = ("licence", "license")
CAPTION_COLUMNS = ("caption", "text", "prompt")
WEB = ("http", "https", "ftp")
STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory")  # fsspec's; memory is for tests
FILE = re.compile("file://", re.IGNORECASE)
MAX_TEXT_CHARS = 100_000


class IngestError(ValueError):
    """An input that cannot be used: one sentence with what to do."""


@dataclass(frozen=True)
class Input:
    """A file to ingest. `source_id` is the publisher's id (a platform's video id, say), where a manifest has one."""

    uri: str
    source_id: str | None = None
    licence: str | None = None
    caption: str | None = None


@dataclass
class Inputs:
    """Files to ingest, sorted by uri, each once; and what was passed over, so that nothing is lost silently."""

    files: list[Input]
    ignored: list[str] = field(default_factory=list)  # files of a folder that are no videos by their names


def list_inputs(names: Sequence[str], *, allow_http: bool = False) -> Inputs:
    """Resolve everything the user named. Raises IngestError."""
    if not names:
        raise IngestError("no input was named; give a folder, a file, a glob, a manifest or a URI")
    found: dict[str, Input] = {}
    ignored: list[str] = []
    for name in names:
        for item in _resolve(name, allow_http, ignored):
            known = found.get(item.uri)
            found[item.uri] = item if known is None else _joined(known, item)
    if not found:
        passed = f" ({len(ignored)} other files were passed over)" if ignored else ""
        raise IngestError(f"no video files in {', '.join(names)}{passed}; known suffixes: {_known()}")
    return Inputs([found[uri] for uri in sorted(found)], sorted(ignored))


def _known() -> str:
    return " ".join(sorted(VIDEO_SUFFIXES))


def _joined(a: Input, b: Input) -> Input:
    """The same file named twice: what one naming does not say, the other may."""
    return replace(
        a, source_id=a.source_id or b.source_id, licence=a.licence or b.licence, caption=a.caption or b.caption
    )


def _resolve(name: str, allow_http: bool, ignored: list[str]) -> Iterator[Input]:
    name = FILE.sub("", name) if FILE.match(name) else name
    if "://" in name:
        yield from _remote(name, allow_http, ignored)
        return
    path = Path(os.path.abspath(os.path.expanduser(name)))
    if path.is_dir():
        yield from _folder(path, ignored)
    elif path.is_file():
        if path.suffix.lower() in MANIFEST_SUFFIXES:
            yield from read_manifest(path, allow_http)
        elif _is_unicode(str(path)):
            yield Input(str(path))
        else:
            raise IngestError(f"{os.fsencode(path)!r} is not a name in UTF-8; rename the file")
    elif glob.has_magic(name):
        matches = [Path(p) for p in glob.glob(str(path), recursive=True)]
        yield from (Input(str(p)) for p in matches if p.is_file() and _is_video(p.name, ignored, str(p)))
    else:
        raise IngestError(f"{name} does not exist; give a folder, a file, a glob, a manifest or a URI")


def _is_video(name: str, ignored: list[str], full: str) -> bool:
    if name.startswith("."):
        return False
    if not _is_unicode(full):
        ignored.append(os.fsencode(full).decode("utf-8", "replace"))
        return False
    if os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES:
        return True
    ignored.append(full)
    return False


def _is_unicode(name: str) -> bool:
    """The store's columns hold nothing else, and a file must be found again by its name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _folder(path: Path, ignored: list[str]) -> Iterator[Input]:
    for folder, folders, files in os.walk(path, onerror=lambda error: ignored.append(str(error.filename))):
        folders[:] = [f for f in folders if not f.startswith(".")]
        for file in files:
            full = os.path.join(folder, file)
            if _is_video(file, ignored, full):
                yield Input(full)


def _remote(uri: str, allow_http: bool, ignored: list[str]) -> Iterator[Input]:
    protocol = _protocol(uri, allow_http)
    if _is_manifest(uri):
        yield from read_manifest(uri, allow_http)
        return
    if protocol in WEB:
        yield Input(uri)
        return
    try:
        files, root, names = _listed(uri)
    except ImportError as error:
        raise IngestError(
            f"{protocol}:// needs a package ({error}); {install_for_protocol(protocol)}"
        ) from error
    except Exception as error:
        raise IngestError(f"cannot list {uri}: {error}") from error
    for name in names:
        if name == root or _is_video(name.rsplit("/", 1)[-1], ignored, name):
            yield Input(files.unstrip_protocol(name))


def _listed(uri: str) -> tuple[Any, str, list[str]]:
    """(file system, the URI's path in it, files it names): one, all below a folder, or what a glob matches."""
    import fsspec

    files, root = fsspec.core.url_to_fs(uri)
    if files.isfile(root):
        return files, root, [root]
    if glob.has_magic(root):
        found = files.glob(root, detail=True)
        return files, root, [name for name, about in found.items() if about["type"] == "file"]
    return files, root, files.find(root)


def _protocol(uri: str, allow_http: bool) -> str:
    """Protocol of a URI. Raises IngestError for the web where it is not allowed, for chains, which hide a protocol, and
    for what else fsspec opens: archives and caches over any address, other machines' shells."""
    if "::" in uri:
        raise IngestError(f"{uri} chains protocols by '::'; give the plain URI of a file")
    protocol = uri.partition("://")[0].lower()
    if protocol in WEB and not allow_http:
        raise IngestError(f"{uri} is on the web; add --allow-http (recipe: allow_http: true) to fetch it")
    if protocol not in WEB + STORES:
        raise IngestError(f"{uri}: {protocol}:// is not read; give a path, s3://, gs://, az:// or http(s)://")
    return protocol


def _is_manifest(uri: str) -> bool:
    return os.path.splitext(uri)[1].lower() in MANIFEST_SUFFIXES


def read_manifest(path: Path | str, allow_http: bool = False) -> Iterator[Input]:
    """Rows of a CSV, JSONL or Parquet file: a column `uri` (or path, video, url …) and, where there are any,
    `source_id`, `licence`, `caption`. path: local, or a URI. Paths in it are relative to its folder. Raises
    IngestError."""
    for number, row in enumerate(_rows(str(path)), 1):
        if not isinstance(row, Mapping):
            raise IngestError(f'{path}, row {number} is no object; a row looks like {{"uri": "a.mp4"}}')
        uri = _first(row, URI_COLUMNS)
        if not uri:
            raise IngestError(f"{path}, row {number}: no value in a column named {', '.join(URI_COLUMNS)}")
        if isinstance(path, str) and "://" in path:
            uri = _beside(path, uri)
        elif "://" not in (uri := FILE.sub("", uri) if FILE.match(uri) else uri):
            uri = os.path.normpath((Path(path).parent / uri).absolute())
        if "://" in uri:
            _protocol(uri, allow_http)
        yield Input(uri, _first(row, ("source_id", "id")), _first(row, LICENCE_COLUMNS), _first(row, CAPTION_COLUMNS))


def _beside(manifest: str, uri: str) -> str:
    """What a row of a remote manifest names: nothing of this machine, so that a list from elsewhere reads no local
    file."""
    if FILE.match(uri) or uri.startswith("/"):
        raise IngestError(f"{manifest} names {uri}, a local file; a remote manifest's rows are URIs or relative to it")
    return uri if "://" in uri else f"{manifest.rpartition('/')[0]}/{uri}"


def _first(row: Mapping[str, Any], names: Iterable[str]) -> str | None:
    for name in names:
        value = row.get(name)
        if value is not None and str(value).strip():
            return str(value).strip()[:MAX_TEXT_CHARS]
    return None


def _rows(path: str) -> Iterator[Mapping[str, Any]]:
    try:
        with _opened(path) as file:
            if path.lower().endswith(".parquet"):
                import pyarrow.parquet as pq

                for batch in pq.ParquetFile(file).iter_batches():
                    yield from batch.to_pylist()
            elif path.lower().endswith(".csv"):
                yield from csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
            else:
                yield from (json.loads(line) for line in io.TextIOWrapper(file, "utf-8") if line.strip())
    except IngestError:
        raise
    except (ValueError, OSError, csv.Error) as error:
        raise IngestError(f"{path} is not a readable manifest ({error})") from error


def _opened(path: str) -> Any:
    """A binary file, of this machine or by fsspec."""
    if "://" not in path:
        return open(path, "rb")
    import fsspec

    try:
        return fsspec.open(path, "rb").open()
    except Exception as error:  # each file system has its own
        raise IngestError(f"cannot read {path}: {type(error).__name__}: {error}") from error
