"""`reel sql` over an object store: requests and bytes of a filter over a million rows.

`python -m benchmarks.sql_s3` builds a store of synthetic clips, copies it to a server of the S3 protocol on loopback
(moto behind the tests' proxy, which counts) and asks the five-condition filter of `benchmarks.scale`, first in a store
that was just opened, then again. Prints `name value` lines. Requests and bytes are of the protocol, as the server saw
them; seconds are of a loopback whose server is Python, and say little of a real one.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmarks.scale import CLIPS, CONDITIONS, QUERIES, build
from reelwright.curation.store import Store
from tests.pipelines.object_store import ObjectStore, environment

ASKED = {
    "count": f"SELECT count(*) FROM clips WHERE {CONDITIONS}",
    "ids": QUERIES["filter5_ids"],
    "all_columns": QUERIES["filter5_all_columns"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=CLIPS)
    args = parser.parse_args()
    os.environ.update(environment())
    with tempfile.TemporaryDirectory() as folder, ObjectStore() as server:
        local = build(Path(folder) / "store", args.clips)
        bucket = server.bucket("bench")
        server.files.put(f"{folder}/store/", "bench/store/", recursive=True)
        size = sum(p.stat().st_size for p in (Path(folder) / "store" / "clips.lance").rglob("*") if p.is_file())
        say("sql_s3.clips", local.count("clips"))
        say("sql_s3.table_mb", size / 1e6)
        for name, query in ASKED.items():
            for again in (False, True):
                if not again:
                    store = Store.open(f"{bucket}/store")
                server.clear_log()
                clock = time.monotonic()
                rows = store.sql(query).num_rows
                seconds = time.monotonic() - clock
                log, which = server.log(), "again" if again else "first"
                say(f"sql_s3.{name}.{which}.rows", rows)
                say(f"sql_s3.{name}.{which}.requests", len(log))
                say(f"sql_s3.{name}.{which}.lists", sum("list-type" in line.target for line in log))
                say(f"sql_s3.{name}.{which}.mb", sum(line.received for line in log) / 1e6)
                say(f"sql_s3.{name}.{which}.s", seconds)


def say(name: str, value: float) -> None:
    print(name, f"{value:.6g}", flush=True)


if __name__ == "__main__":
    main()
