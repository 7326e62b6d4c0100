"""What it takes to list a folder of a bucket, with an S3 server on loopback that makes up the names it answers.

    python -m benchmarks.bucket [--pages] [KIND …] [OBJECTS …]        # 100_000 500_000

Processes of their own list a folder of so many objects, flat (`folder`), by a glob in it (`glob`), and by a glob of
the whole bucket (`tree`); half of the objects are no videos, so that skipped ones count too. With `--pages` a stand-in
for s3fs's client answers pages in the process, as it answers them parsed: nearly all the time is the client's, so what
remains is ours, and 10_000_000 take two minutes. Prints `name value` lines: seconds of wall and CPU, MiB of resident
memory beyond what importing takes, the largest so far, and MiB of temporary files; then, of the least and the largest
size, the bytes that one object more takes.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from reelwright.curation.ingest.resolve import list_inputs

SIZES = (100_000, 500_000)
PAGE = 1_000
FOLDER = "crawl-2026"
NAMES = {"folder": f"s3://films/{FOLDER}", "glob": f"s3://films/{FOLDER}/*.mp4", "tree": "s3://films/**/*.mp4"}
XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def main() -> None:
    by_pages, given = "--pages" in sys.argv, sys.argv[1:]
    sizes = [int(a) for a in given if a.isdigit()] or list(SIZES)
    for kind in [kind for kind in NAMES if kind in given] or NAMES:
        found = {size: measured(kind, size, by_pages) for size in sizes}
        for size, figures in found.items():
            for key, value in figures.items():
                print(f"bucket.{kind}.{size}.{key} {value:.2f}", flush=True)
        if len(sizes) > 1:
            least, most = min(sizes), max(sizes)
            for key in ("mib", "disk_mib"):
                each = (found[most][key] - found[least][key]) * 2**20 / (most - least)
                print(f"bucket.{kind}.{key.replace('mib', 'bytes')}_per_object {each:.1f}", flush=True)


def measured(kind: str, objects: int, by_pages: bool) -> dict[str, float]:
    """Have a process of its own list. by_pages: with a stand-in for the client."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), bucket_of(objects))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    keys = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    try:
        command = [sys.executable, "-m", "benchmarks.bucket", "--list", NAMES[kind], str(objects)]
        command += ["--pages"] if by_pages else []
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | keys).stdout
    finally:
        server.shutdown()
        server.server_close()
    return dict(json.loads(said.splitlines()[-1]))


def listed(uri: str, objects: int, by_pages: bool) -> dict[str, float]:
    import fsspec

    files, _ = fsspec.core.url_to_fs(uri)
    assert files.exists("films/no such file") is False  # the client is there, with all that it imports
    if by_pages:
        files.call_s3 = StandInForClient(objects)
    idle, wall, cpu = resident(), time.monotonic(), time.process_time()
    found = list_inputs([uri])
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    assert len(found.files) == objects // 2, len(found.files)
    return {"wall_s": wall, "cpu_s": cpu, "mib": resident() - idle, "disk_mib": temporary() / 2**20}


class StandInForClient:
    """Answers pages of names as s3fs's client does once it has parsed them. objects: of the folder."""

    def __init__(self, objects: int) -> None:
        self._objects = objects

    def __call__(self, method: str, **asked: Any) -> dict[str, Any]:
        """Return a page. asked: as S3's ListObjectsV2 takes it."""
        assert method == "list_objects_v2", method
        numbers = page_of(self._objects, int(asked.get("ContinuationToken", 0)), asked["MaxKeys"], asked["Prefix"])
        page: dict[str, Any] = {"IsTruncated": numbers.stop < self._objects}
        page["Contents"] = [{"Key": key_of(n), "Size": 5_000_000, "ETag": f'"{n:032x}"'} for n in numbers]
        return page | ({"NextContinuationToken": str(numbers.stop)} if page["IsTruncated"] else {})


def page_of(objects: int, first: int, most: int, prefix: str) -> range:
    """Return the numbers of the objects of a page."""
    return range(first, min(objects, first + most) if f"{FOLDER}/".startswith(prefix) else first)


def key_of(number: int) -> str:
    """Return an object's name: a video's and a text's by turns."""
    return f"{FOLDER}/{number // 2:032x}.{'json' if number % 2 else 'mp4'}"


def bucket_of(objects: int) -> type[BaseHTTPRequestHandler]:
    """A server of one folder with so many objects, a video and a text by turns."""

    class Bucket(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(404, b"")

        def do_GET(self) -> None:
            asked = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
            (first,) = map(int, asked.get("continuation-token", ["0"]))
            (prefix,), (most,) = asked.get("prefix", [""]), map(int, asked.get("max-keys", [str(PAGE)]))
            numbers = page_of(objects, first, most, prefix)
            rows = "".join(
                f"<Contents><Key>{key_of(n)}</Key>"
                f'<LastModified>2026-11-30T00:00:00.000Z</LastModified><ETag>"{n:032x}"</ETag>'
                "<Size>5000000</Size><StorageClass>STANDARD</StorageClass></Contents>"
                for n in numbers
            )
            last = numbers.stop
            more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < objects else ""
            text = (
                f"<?xml version='1.0' encoding='UTF-8'?><ListBucketResult {XMLNS}><Name>films</Name>"
                f"<Prefix>{prefix}</Prefix><KeyCount>{last - first}</KeyCount><MaxKeys>{most}</MaxKeys>"
                f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{rows}</ListBucketResult>"
            )
            self._answer(200, text.encode())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Bucket


def resident() -> float:
    """MiB, at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def temporary() -> int:
    """Bytes of files without a name that this process holds open."""
    found = 0
    for held in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # what lists this folder is in it
            found += held.stat().st_size if "(deleted)" in os.readlink(held) else 0
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--list"]:
        print(json.dumps(listed(sys.argv[2], int(sys.argv[3]), "--pages" in sys.argv)))
    else:
        main()
