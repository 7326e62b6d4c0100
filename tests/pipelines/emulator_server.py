"""An emulator of Google Cloud Storage or of Azure's blobs, which others made, behind the proxy of `faulty_server`.

Run it as `python -m tests.pipelines.emulator_server gcs|azure PORT PROGRAM`.
"""

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from aiohttp import ClientConnectionError, MultipartWriter, web
from yarl import URL

from tests.pipelines.faulty_server import Line, Proxy, Rule, broken, end_with_parent, error

PR_SET_PDEATHSIG = 1
IF_GENERATION = "x-goog-if-generation-match"


def command(kind: str, program: str, port: int, outer: int) -> list[str]:
    where = ("127.0.0.1", str(port))
    if kind == "gcs":
        return [program, "-backend", "memory", "-scheme", "http", "-host", where[0], "-port", where[1],
                "-public-host", f"{where[0]}:{outer}", "-log-level", "error"]  # fmt: skip
    return [program, "--inMemoryPersistence", "--blobHost", where[0], "--blobPort", where[1], "--disableTelemetry",
            "--skipApiVersionCheck", "--silent"]  # fmt: skip


@dataclass
class GcsProxy(Proxy):
    """What the emulator lacks is put before it: Lance writes by the service's XML interface, which it only reads by.

    An XML upload, a copy and an upload in parts become a request of the JSON interface each, with the same condition:
    whether it holds is the emulator's to say.
    """

    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)

    async def _handed_on(self, request: web.Request, body: bytes, line: Line, rule: Rule | None) -> web.StreamResponse:
        bucket, _, name = request.raw_path.partition("?")[0].removeprefix("/").partition("/")
        is_object = name and bucket not in ("storage", "upload", "download", "b", "batch", "resumable")
        if not is_object or request.method not in ("PUT", "POST", "DELETE"):
            return await super()._handed_on(request, body, line, rule)
        if request.method == "DELETE" and "uploadId" not in request.query:
            return await super()._handed_on(request, body, line, rule)
        upload = request.query.get("uploadId")
        if "uploads" in request.query:
            self.parts[upload := uuid.uuid4().hex] = {}
            return _xml("InitiateMultipartUploadResult", UploadId=upload)
        if upload and upload not in self.parts:
            return error(line, 404, "NoSuchUpload")
        if upload and request.method == "PUT":
            self.parts[upload][int(request.query["partNumber"])] = body
            return web.Response(headers={"ETag": f'"{request.query["partNumber"]}"'})
        if upload and request.method == "DELETE":
            del self.parts[upload]
            return web.Response(status=204)
        if upload:
            wanted = [int(number.text or 0) for number in ElementTree.fromstring(body).findall("{*}Part/{*}PartNumber")]
            body = b"".join(map(self.parts.pop(upload).__getitem__, wanted))
        return await self._written(request, bucket, unquote(name), body, line)

    async def _written(self, request: web.Request, bucket: str, name: str, body: bytes, line: Line) -> web.Response:
        condition = {"ifGenerationMatch": request.headers[IF_GENERATION]} if IF_GENERATION in request.headers else {}
        url, query = f"/upload/storage/v1/b/{bucket}/o", {"uploadType": "multipart"} | condition
        if source := request.headers.get("x-goog-copy-source"):
            there, _, what = unquote(source).removeprefix("/").partition("/")
            to, query = f"rewriteTo/b/{bucket}/o/{quote(name, '')}", condition
            url = f"/storage/v1/b/{there}/o/{quote(what, '')}/{to}"
        data: Any = None
        if not source:
            data = MultipartWriter("related")
            data.append_json({"name": name})
            data.append(body, {"Content-Type": "application/octet-stream"})
        async with self.session.post(URL(self.upstream + url, encoded=True).with_query(query), data=data) as got:
            line.status = got.status
            if line.fault == "unsure":
                return error(line, 503, "SlowDown")
            if line.fault == "unheard":
                return broken(request)
            if got.status != 200:
                return web.Response(status=got.status, text=await got.text())
            made: dict[str, Any] = await got.json(content_type=None)
        made = made.get("resource", made)
        tags = {"ETag": f'"{made["etag"]}"', "x-goog-generation": str(made["generation"])}
        return _xml("CompleteMultipartUploadResult", tags, Bucket=bucket, Key=name, ETag=tags["ETag"])


def _xml(name: str, headers: dict[str, str] | None = None, **fields: str) -> web.Response:
    root = ElementTree.Element(name)
    for field_name, value in fields.items():
        ElementTree.SubElement(root, field_name).text = value
    return web.Response(body=ElementTree.tostring(root), content_type="application/xml", headers=headers)


async def serve(kind: str, port: int, program: str) -> None:
    """Serve until this process ends, and the emulator with it."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        inner = one.getsockname()[1]
    libc = ctypes.CDLL(None)
    emulator = subprocess.Popen(
        command(kind, program, inner, port), preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    proxy = (GcsProxy if kind == "gcs" else Proxy)(f"http://127.0.0.1:{inner}")
    await proxy.start("127.0.0.1", port)
    for _ in range(300):
        try:
            async with proxy.session.get(proxy.upstream):
                break
        except ClientConnectionError:
            if emulator.poll() is not None:
                raise SystemExit(f"{program} ended with {emulator.returncode}") from None
            await asyncio.sleep(0.1)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, args=(os.getppid(),), daemon=True).start()
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
