"""What it takes to list a folder of a bucket, with an S3 server on loopback that makes up the names it answers.

    python -m benchmarks.bucket [OBJECTS …]        # 100_000 500_000

Processes of their own list a folder of so many objects, flat (`folder`), and by a glob (`glob`); half of the objects
are no videos, so that skipped ones count too. Prints `name value` lines: seconds of wall and CPU, MiB of resident
memory beyond what importing takes, the largest so far, and MiB of temporary files; then, of two sizes, the bytes that
one object more takes.
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

from reelwright.curation.ingest.resolve import list_inputs

SIZES = (100_000, 500_000)
PAGE = 1_000
FOLDER = "crawl-2026"
NAMES = {"folder": f"s3://films/{FOLDER}", "glob": f"s3://films/{FOLDER}/*.mp4"}
XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def main() -> None:
    sizes = [int(a) for a in sys.argv[1:]] or list(SIZES)
    for kind in NAMES:
        found = {size: measured(kind, size) for size in sizes}
        for size, figures in found.items():
            for key, value in figures.items():
                print(f"bucket.{kind}.{size}.{key} {value:.2f}", flush=True)
        if len(sizes) > 1:
            least, most = min(sizes), max(sizes)
            for key in ("mib", "disk_mib"):
                each = (found[most][key] - found[least][key]) * 2**20 / (most - least)
                print(f"bucket.{kind}.{key.replace('mib', 'bytes')}_per_object {each:.1f}", flush=True)


def measured(kind: str, objects: int) -> dict[str, float]:
    """Have a process of its own list."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), bucket_of(objects))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    keys = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    try:
        command = [sys.executable, "-m", "benchmarks.bucket", "--list", NAMES[kind], str(objects)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | keys).stdout
    finally:
        server.shutdown()
        server.server_close()
    return dict(json.loads(said.splitlines()[-1]))


def listed(uri: str, objects: int) -> dict[str, float]:
    import fsspec

    files, _ = fsspec.core.url_to_fs(uri)
    assert files.exists("films/no such file") is False  # the client is there, with all that it imports
    idle, wall, cpu = resident(), time.monotonic(), time.process_time()
    found = list_inputs([uri])
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    assert len(found.files) == objects // 2, len(found.files)
    return {"wall_s": wall, "cpu_s": cpu, "mib": resident() - idle, "disk_mib": temporary() / 2**20}


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
            last = min(objects, first + most) if f"{FOLDER}/".startswith(prefix) else first
            rows = "".join(
                f"<Contents><Key>{FOLDER}/{n // 2:032x}.{'json' if n % 2 else 'mp4'}</Key>"
                f'<LastModified>2026-11-30T00:00:00.000Z</LastModified><ETag>"{n:032x}"</ETag>'
                "<Size>5000000</Size><StorageClass>STANDARD</StorageClass></Contents>"
                for n in range(first, last)
            )
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
        print(json.dumps(listed(sys.argv[2], int(sys.argv[3]))))
    else:
        main()
