"""A real server of the S3 protocol on loopback, in a process of its own, and what tells a client of it."""

import functools
import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.pipelines.faulty_server import OWN, Line, Rule

SECRET = "never-written-down-7c1f"


@functools.cache
def environment() -> dict[str, str]:
    """The usual variables of an object store, as a user sets them. The port is kept for this process before the server
    is there: Ray's workers have the environment of its start."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip


class ObjectStore:
    """Holds buckets in memory while it is open. host: an address of this machine."""

    protocol = "s3"

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host

    def __enter__(self) -> "ObjectStore":
        self.address = environment()["AWS_ENDPOINT_URL"].replace("127.0.0.1", self.host)
        port = self.address.rpartition(":")[2]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.pipelines.faulty_server", port, self.host], cwd=ROOT, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        _forget_clients()
        return self

    def __exit__(self, *exc: object) -> None:
        _forget_clients()
        self.process.kill()
        self.process.communicate()

    @property
    def files(self) -> Any:
        """An s3fs file system that sees what is there now."""
        import s3fs

        return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)

    def bucket(self, name: str, *films: Path) -> str:
        """The address of a new bucket with these files in its folder `in`."""
        files = self.files
        files.mkdir(name)
        for film in films:
            files.put_file(str(film), f"{name}/in/{film.name}")
        return f"{self.protocol}://{name}"

    @contextmanager
    def faults(self, *rules: dict[str, Any]) -> Iterator[None]:
        """Inject these faults (see `faulty_server.Rule`), and count requests anew."""
        self.clear_log()
        self._ask("POST", "rules", json.dumps(rules).encode())
        try:
            yield
        finally:
            self._ask("POST", "rules", b"[]")

    def freeze_listings(self) -> None:
        """From now on the fault `stale` shows listings as they were last answered before this moment."""
        self._ask("POST", "freeze", b"")

    def clear_log(self) -> None:
        """Forget the requests so far."""
        self._ask("DELETE", "log")

    def log(self) -> list[Line]:
        """Requests since the log was cleared."""
        return [Line(**one) for one in self._ask("GET", "log")]

    def _ask(self, method: str, what: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(self.address + OWN + what, body, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def _forget_clients() -> None:
    """Have clients made anew: fsspec keeps them by their arguments, with the endpoint of the environment then."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def met(log: Sequence[Line]) -> dict[str, int]:
    """Kind of fault -> times that it happened."""
    kinds = [line.fault for line in log if line.fault]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


__all__ = ["SECRET", "Line", "ObjectStore", "Rule", "environment", "met"]
