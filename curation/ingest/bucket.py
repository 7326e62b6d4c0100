"""Files of an object store, page by page: of 100 million in one folder, a page of names is in memory.

By the clients of fsspec's file systems, which find keys and endpoints as they do for reading: their own `find` and
`glob` make a list of all, and keep it.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator
from typing import Any

from reelwright.curation import usage
from reelwright.curation.media.remote import patiently

Page = tuple[list[str], list[str]]  # keys, and with a delimiter the folders beside them, which end with it
Pages = Callable[[Any, str, str, str], Iterator[Page]]
LISTED_AT_ONCE = 1000
"""Names in one answer of an object store; Azure gives five times as many."""


def listed(files: Any, protocol: str, root: str) -> Iterator[str]:
    """Yield the names of files: `root` itself, all below it, or all that match it.

    Args:
        files: fsspec's file system.
        protocol: of the address, in small letters.
        root: a path in it: a file, a folder or a glob.
    """
    pages = PAGES.get(protocol)
    bucket, key = files.split_path(root)[:2] if pages else ("", "")
    if pages is None or not bucket or glob.has_magic(bucket):
        yield from _listed_at_once(files, root)
        return
    if key and _is_file(files, root):
        yield root
    elif glob.has_magic(key):
        yield from _Glob(files, pages, bucket, key).matches()
    else:
        is_empty = True
        for keys, _ in pages(files, bucket, f"{key.rstrip('/')}/" if key else "", ""):
            for name in keys:
                is_empty = False
                yield f"{bucket}/{name}"
        if is_empty and key and _kind(files, root) == "file":
            yield root


def _listed_at_once(files: Any, root: str) -> Iterator[str]:
    if _is_file(files, root):
        yield root
        return
    if glob.has_magic(root):
        found = files.glob(root, detail=True)
        names = [name for name, info in found.items() if info["type"] == "file"]
    else:
        names = files.find(root)
    usage.note_request(1 + len(names) // LISTED_AT_ONCE)
    yield from names


def _is_file(files: Any, path: str) -> bool:
    """Return whether a path is a file's; where it is not, that takes a second request, for what is below it."""
    found = bool(files.isfile(path))
    usage.note_request(1 if found else 2)
    return found


def _kind(files: Any, path: str) -> str:
    """Return what is at a path; errors pass through, which `isfile` takes for a no."""
    usage.note_request()
    try:
        return str(files.info(path)["type"])
    except FileNotFoundError:
        return ""


class _Glob:
    """A glob below a bucket, by fsspec's rules.

    Args:
        files: fsspec's file system.
        pages: of its service.
        bucket: without wildcards.
        key: with some.
    """

    def __init__(self, files: Any, pages: Pages, bucket: str, key: str) -> None:
        from fsspec.utils import glob_translate

        self._files, self._pages, self._bucket = files, pages, bucket
        self._parts = key.split("/")
        self._whole = re.compile(glob_translate(key))
        self._folders = [re.compile(glob_translate("/".join(self._parts[: n + 1]))) for n in range(len(self._parts))]

    def matches(self) -> Iterator[str]:
        """Yield the names of files that match."""
        first = next(n for n, part in enumerate(self._parts) if glob.has_magic(part))
        folder = "".join(f"{part}/" for part in self._parts[:first])
        if "**" not in self._parts:
            yield from self._below(folder, first)
            return
        for keys, _ in self._pages(self._files, self._bucket, folder + _stem(self._parts[first]), ""):
            yield from self._matching(keys)

    def _below(self, folder: str, level: int) -> Iterator[str]:
        """Yield matches in a folder and those below it, of which only such are listed as may hold any.

        Folders of a page are walked before the next page comes: there may be as many of them as files.
        """
        is_last = level == len(self._parts) - 1
        for keys, folders in self._pages(self._files, self._bucket, folder + _stem(self._parts[level]), "/"):
            if is_last:
                yield from self._matching(keys)
            else:
                for inner in folders:
                    if self._folders[level].match(inner.removesuffix("/")):
                        yield from self._below(inner, level + 1)

    def _matching(self, keys: list[str]) -> Iterator[str]:
        return (f"{self._bucket}/{key}" for key in keys if self._whole.match(key))


def _stem(part: str) -> str:
    """Return what names begin with that match a part of a glob: services list by it."""
    return re.split(r"[*?\[]", part, maxsplit=1)[0]


# --- services ---------------------------------------------------------------------------------------------------------


def _s3_pages(files: Any, bucket: str, prefix: str, delimiter: str) -> Iterator[Page]:
    """Yield pages of keys by s3fs. An outage after the first page is waited for: hours of listing may be behind it."""
    wanted = {"Bucket": bucket, "Prefix": prefix, "Delimiter": delimiter, "MaxKeys": LISTED_AT_ONCE}

    def ask() -> Any:
        return files.call_s3("list_objects_v2", **wanted)

    while True:
        usage.note_request()
        page = patiently(f"s3://{bucket}", ask) if "ContinuationToken" in wanted else ask()
        folders = [one["Prefix"] for one in page.get("CommonPrefixes", [])]
        yield [one["Key"] for one in page.get("Contents", [])], folders
        if not page.get("IsTruncated"):
            return
        wanted["ContinuationToken"] = page["NextContinuationToken"]


def _gcs_pages(files: Any, bucket: str, prefix: str, delimiter: str) -> Iterator[Page]:
    """Yield pages of keys by gcsfs."""
    wanted = {"prefix": prefix or None, "delimiter": delimiter or None, "maxResults": LISTED_AT_ONCE,
              "fields": "nextPageToken,prefixes,items(name)"}  # fmt: skip
    while True:
        usage.note_request()
        page = files.call("GET", "b/{}/o", bucket, json_out=True, **wanted)
        yield [one["name"] for one in page.get("items", [])], page.get("prefixes", [])
        if not page.get("nextPageToken"):
            return
        wanted["pageToken"] = page["nextPageToken"]


def _azure_pages(files: Any, bucket: str, prefix: str, delimiter: str) -> Iterator[Page]:
    """Yield pages of keys by the client of adlfs, without the folders that some accounts list as objects."""
    from fsspec.asyn import sync

    client = files.service_client.get_container_client(bucket)
    wanted = {"name_starts_with": prefix, "include": ["metadata"], "results_per_page": 5 * LISTED_AT_ONCE}
    found = client.walk_blobs(delimiter=delimiter, **wanted) if delimiter else client.list_blobs(**wanted)
    pages = found.by_page()

    async def next_page() -> list[Any] | None:
        async for page in pages:
            return [one async for one in page]
        return None

    while (page := sync(files.loop, next_page)) is not None:
        usage.note_request()
        folders = [one.name for one in page if not hasattr(one, "blob_type")]
        yield [one.name for one in page if hasattr(one, "blob_type") and not _is_azure_folder(one)], folders


def _is_azure_folder(blob: Any) -> bool:
    return bool(blob.name.endswith("/") or (blob.metadata or {}).get("hdi_isfolder") == "true")


PAGES: dict[str, Pages] = {
    "s3": _s3_pages, "s3a": _s3_pages, "gs": _gcs_pages, "gcs": _gcs_pages,
    "az": _azure_pages, "abfs": _azure_pages, "abfss": _azure_pages,
}  # fmt: skip
"""Of services that are listed by pages; others, `memory://` of the tests, at once."""
