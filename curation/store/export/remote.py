"""An export to an object store: made in a folder for temporary files, then copied, its marker last.

A file `PART` is there from before the first change until the marker is: what has it is ours to replace.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reelwright.curation.store.errors import StoreError
from reelwright.curation.store.export.format import Format
from reelwright.curation.store.export.marker import CLIPS, MARKER, ExportResult

PROTOCOLS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory")

PART = "reelwright-export.part"
PAUSES_S = (1.0, 4.0)
"""Between tries of a file: an upload that the service lost (`NoSuchUpload`) is not one that a client tries again."""


def export_to_uri(
    uri: str,
    format: Format,
    write: Callable[[Path], ExportResult],
    *,
    force: bool = False,
    portable: Sequence[str] = (),
) -> ExportResult:
    """Write an export to an object store's folder, whole once its marker is there.

    Args:
        uri: of the folder.
        format: of the export.
        write: writes the whole export to a local folder.
        force: remove an earlier export first.
        portable: names of the formats that may be moved, for the error.

    Raises:
        StoreError: the format is not portable, something else is there, or the address cannot be written.
    """
    if not format.portable:
        raise StoreError(
            f"{format.name} names its files by their place on this machine, so it is not written to {uri}; export to a "
            f"local folder, or as one of: {', '.join(portable)}."
        )
    files, root = _file_system(uri)
    root = root.rstrip("/")
    with tempfile.TemporaryDirectory(prefix="reel-export-") as folder:
        try:
            old = _earlier(files, root, uri, f"{root}/{MARKER}", force)
            here = Path(folder) / "export"
            made = replace(write(here), path=uri)
            files.pipe_file(f"{root}/{PART}", b"")
            for name in sorted(old, key=lambda n: n != f"{root}/{MARKER}"):
                files.rm_file(name)
            for path in sorted((p for p in here.rglob("*") if p.is_file()), key=lambda p: p.name == MARKER):
                if path.name == MARKER:
                    content = json.loads(path.read_text("utf-8")) | {"path": uri}
                    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
                _put(files, path, f"{root}/{path.relative_to(here).as_posix()}")
            files.rm_file(f"{root}/{PART}")
        except StoreError:
            raise
        except Exception as error:  # each file system has its own
            raise StoreError(
                f"cannot write the export to {uri}: {error or type(error).__name__}; check the address, and the keys "
                "and endpoint of the object store."
            ) from error
    return made


def fetch_record(uri: str, folder: Path) -> None:
    """Copy the record of an export on an object store into a folder. Raises StoreError where there is none."""
    files, root = _file_system(uri)
    try:
        for name in (MARKER, CLIPS):
            files.get_file(f"{root.rstrip('/')}/{name}", str(folder / name))
    except Exception as error:  # each file system has its own
        raise StoreError(
            f"{uri}: {MARKER} cannot be read ({error or type(error).__name__}); is it an export?"
        ) from None


def _put(files: Any, path: Path, name: str) -> None:
    for pause_s in PAUSES_S:
        try:
            files.put_file(str(path), name)
            return
        except Exception:  # each file system has its own
            time.sleep(pause_s)
    files.put_file(str(path), name)


def _earlier(files: Any, root: str, uri: str, marker: str, force: bool) -> list[str]:
    """Files of an export that is there already, or of one that was broken off."""
    found: list[str] = files.find(root)
    if f"{root}/{PART}" in found:
        return [name for name in found if name != f"{root}/{PART}"]
    if found and marker not in found:
        raise StoreError(f"{uri} holds files and is not an export of reel's, so it stays; choose another folder.")
    if found and not force:
        raise StoreError(f"{uri} already holds an export; choose another folder, or add --force to replace it.")
    return found


def _file_system(uri: str) -> tuple[Any, str]:
    import fsspec

    protocol, _, rest = uri.partition("://")
    if protocol.lower() not in PROTOCOLS or "::" in uri:
        raise StoreError(f"{uri}: exports are written to a local folder, s3://, gs:// or az://.")
    if "/" not in rest.strip("/"):
        raise StoreError(f"{uri} names no folder in a bucket; an address looks like s3://bucket/folder.")
    try:
        return fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise StoreError(f"{protocol}:// needs a package: {error}.") from error
