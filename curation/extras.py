"""How to install the libraries of an optional part: from the clone, since reelwright is on no package index."""

from __future__ import annotations

import shlex
from pathlib import Path

OF_PROTOCOL = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure",
               "adl": "azure"}  # fmt: skip


def install_command(extra: str) -> str:
    """Return the command that installs an extra of pyproject.toml, as it runs in the environment of this process."""
    clone = Path(__file__).resolve().parents[1]
    if (clone / "pyproject.toml").is_file():
        return f"pip install -e {shlex.quote(f'{clone}[{extra}]')}"
    return f"pip install -e '.[{extra}]' in a clone of reelwright"


def install_for_protocol(protocol: str) -> str:
    """Return the command that installs the file system of `protocol://…`."""
    if protocol in OF_PROTOCOL:
        return install_command(OF_PROTOCOL[protocol])
    return f"pip install the package that serves {protocol}:// for fsspec"
