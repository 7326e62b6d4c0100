"""A real server of the S3 protocol on loopback, and what tells a client of it."""

import functools
import socket
from pathlib import Path
from typing import Any


@functools.cache
def environment() -> dict[str, str]:
    """The usual variables of an object store, as a user sets them. The port is kept for this process before the server
    is there: Ray's workers have the environment of its start."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    return {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip


class ObjectStore:
    """Holds buckets in memory while it is open."""

    def __enter__(self) -> "ObjectStore":
        import logging

        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
        port = int(environment()["AWS_ENDPOINT_URL"].rpartition(":")[2])
        self.server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
        self.server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.stop()

    @property
    def files(self) -> Any:
        """An s3fs file system that sees what is there now."""
        import s3fs

        return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)

    def bucket(self, name: str, *films: Path) -> str:
        """`s3://name` of a new bucket with these files in its folder `in`."""
        files = self.files
        files.mkdir(name)
        for film in films:
            files.put_file(str(film), f"{name}/in/{film.name}")
        return f"s3://{name}"
