"""Commits of files that are whole.

Where a disk fills up, Lance (pylance 14.0.2) at times commits a file although its last part never reached the disk.
A version with such a file cannot be read, and all that follow hold it: so files are measured before they are committed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from reelwright.curation.store import seen

INLINE_BYTES = 64 * 2**10  # of a blob that Lance keeps in its column's file
Dataset = Any  # lance.LanceDataset, which is not imported until it is needed
Fragment = Any  # lance.fragment.FragmentMetadata


def append(dataset: Dataset, fragments: Iterable[Fragment]) -> None:
    """Add what `lance.fragment.write_fragments` wrote, in one commit. Raises OSError for a file that was cut short."""
    import lance

    fragments = list(fragments)
    refuse_short(dataset.uri, fragments)
    operation = lance.LanceOperation.Append(fragments)
    committed = lance.LanceDataset.commit(dataset, operation, read_version=dataset.version)
    seen.note(dataset.uri, committed.version)


def merge(dataset: Dataset, builder: Any, rows: Any) -> int:
    """Run a `merge_insert` in one commit; returns the rows updated. Raises OSError for a file that was cut short."""
    import lance

    transaction, counts = builder.execute_uncommitted(rows)
    operation = transaction.operation
    refuse_short(dataset.uri, [*operation.updated_fragments, *operation.new_fragments])
    committed = lance.LanceDataset.commit(dataset, transaction)
    seen.note(dataset.uri, committed.version)
    dataset.checkout_latest()
    return int(counts["num_updated_rows"])


def compact(dataset: Dataset, *, target_rows: int, deleted_share: float) -> None:
    """Merge small files, in one commit. Raises OSError for a file that was cut short."""
    from lance.optimize import Compaction

    options: Any = {
        "target_rows_per_fragment": target_rows, "materialize_deletions": True,
        "materialize_deletions_threshold": deleted_share,
    }  # fmt: skip
    tasks = Compaction.plan(dataset, options).tasks
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # as many at once as Lance's own `compact_files`
        rewrites = list(threads.map(lambda task: task.execute(dataset), tasks))
    refuse_short(dataset.uri, [fragment for rewrite in rewrites for fragment in rewrite.new_fragments])
    if rewrites:
        Compaction.commit(dataset, rewrites, options)


def stretches(dataset: Dataset, rows: int) -> list[tuple[int, ...]]:
    """Return the numbers of the fragments, in order, in groups of neighbours with at most so many rows, or of one."""
    found: list[tuple[int, ...]] = []
    room = 0
    for fragment in dataset.get_fragments():
        count = fragment.metadata.num_rows
        if not found or count > room:
            found.append(())
            room = rows
        found[-1] += (fragment.fragment_id,)
        room -= count
    return found


def refuse_short(uri: str, fragments: Iterable[Fragment], blobs: Iterable[int] = ()) -> None:
    """Raise OSError, as a full disk does, where a file is shorter on disk than the bytes written to it.

    uri: of the dataset; an object store takes a file whole or not at all, and is not asked.
    blobs: bytes of each blob in them; larger ones are in files beside the columns' own.
    """
    if "://" in uri:
        return
    files = [(Path(uri, "data", file.path), file.file_size_bytes) for one in fragments for file in one.files]
    for path, size in files:
        if size and _size(path) < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    beside = [path for column, _ in files for path in column.with_suffix("").glob("*.blob")]
    if sum(map(_size, beside)) < sum(size for size in blobs if size > INLINE_BYTES):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), uri)


def _size(path: Path) -> float:
    """Bytes of a file; of one that is away, which is another trouble than this, endlessly many."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return float("inf")
