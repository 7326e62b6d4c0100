"""Stores written to on a disk that is full now and then: `python -m benchmarks.full_disk`; needs the right to mount.

A neighbour fills a small disk and empties it again, some hundred times per second, while rows are appended, merged and
compacted. Then there is room: is every row there that was said to be written? `--unmeasured` leaves out what
`curation/store/fragments.py` does, which shows what Lance makes of it alone.
"""

import os
import random
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from reelwright.curation.store import Store, StoreError, fragments

WRITES = 60
PAGES = 400  # of 4 KiB that the neighbour writes at most


def main(stores: int = 20, unmeasured: Annotated[bool, typer.Option("--unmeasured")] = False) -> None:
    os.environ["LANCE_LOG"] = "error"
    if unmeasured:
        fragments.refuse_short = lambda *_: None
    counts: Counter[str] = Counter(stores=stores, whole=0, refused=0)
    for seed in range(stores):
        with _disk() as disk:
            expected = _write(disk, random.Random(seed), counts)
            _mount("remount,size=16m", disk)
            counts["whole"] += _is_whole(disk / "store", expected)
    for name, value in counts.items():
        print(f"{name:10s} {value}")


@contextmanager
def _disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        _mount("size=1m", Path(folder))
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def _mount(options: str, folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)


def _write(disk: Path, drawn: random.Random, counts: Counter[str]) -> set[str]:
    """The uris that were said to be written."""
    store, there = Store.open(disk / "store", create=True), set()
    stop = threading.Event()
    neighbour = threading.Thread(target=_fill_and_empty, args=(disk / "neighbour", random.Random(drawn.random()), stop))
    neighbour.start()
    for number in range(WRITES):
        uris = {f"/{number}/{i}" * drawn.randrange(1, 6) for i in range(drawn.randrange(1, 40))}
        try:
            if number % 5 == 4:
                _merge(store, number)
            elif number % 11 == 10:
                store.compact()
            else:
                store.append("sources", [{"uri": uri, "state": "ok"} for uri in uris])
                there |= uris
        except StoreError:
            counts["refused"] += 1
    stop.set()
    neighbour.join()
    return there


def _merge(store: Store, value: int) -> None:
    rows = store.read("sources", ["uri"])
    store.merge("sources", rows.append_column("bytes", pa.array([value] * len(rows), pa.int64())), on="uri")


def _fill_and_empty(path: Path, drawn: random.Random, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            with path.open("wb", buffering=0) as file:
                for _ in range(PAGES):
                    file.write(bytes(4096))
        except OSError:  # full
            time.sleep(0.003 * drawn.random())
        path.open("wb").close()
        time.sleep(0.003 * drawn.random())


def _is_whole(path: Path, expected: set[str]) -> bool:
    try:
        return set(Store.open(path).read("sources", ["uri"]).column(0).to_pylist()) == expected
    except StoreError:
        return False


if __name__ == "__main__":
    typer.run(main)
