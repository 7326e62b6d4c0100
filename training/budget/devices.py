"""Peaks of GPUs: dense bf16 products with fp32 sums, as MFU divides by them.

Each names the document that states it. The documents themselves were not at hand; the figures were compared with tables
that others publish: A100, H100, H200, B200, MI300X and MI250X with zeroband's `get_peak_flops`, which links the makers'
pages; H20, H800, A800 and A10 with LLM-Prof's `hardware_spec.md`; GB200, GB300, B200 and B300 with
verda.com/blog/gb300-nvl72-architecture and glennklockwood.com/garden/processors; L40S, L40, L4, A40 and the RTX cards
with the tables of several training programs. All agree to the digits given but two: Verda has 2,250 for GB200, where
NVIDIA's own table (5 PFLOP/s with sparsity) and the other have 2,500; and one page has 3,500 for B300. An RTX 5090
reached 254 in a published measurement (github.com/xzwgit/gpu-flops-bench), above its stated clock.
"""

import re
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Peak:
    """name: as devices call themselves, without maker and memory. tflops: without sparsity. source: of the figure."""

    name: str
    tflops: float
    source: str

    @property
    def flops(self) -> float:
        """FLOP/s."""
        return self.tflops * 1e12

    def __str__(self) -> str:
        return f"{self.tflops:g} TFLOP/s per GPU, dense bf16 ({self.source})"


_HALVED = "halved, as it is with sparsity"
PEAKS = (
    Peak("GB300", 2500, f"NVIDIA GB300 NVL72 data sheet, of 72 GPUs, {_HALVED}"),
    Peak("B300", 2250, f"NVIDIA HGX B300 data sheet, of 8 GPUs, {_HALVED}"),
    Peak("GB200", 2500, f"NVIDIA GB200 NVL72 data sheet, of 72 GPUs, {_HALVED}"),
    Peak("B200", 2250, f"NVIDIA HGX B200 data sheet, of 8 GPUs, {_HALVED}"),
    Peak("GH200", 989.5, f"NVIDIA GH200 data sheet, {_HALVED}"),
    Peak("H200 NVL", 835.5, f"NVIDIA H200 data sheet, {_HALVED}"),
    Peak("H200", 989.5, f"NVIDIA H200 data sheet, {_HALVED}"),
    Peak("H100 PCIe", 756.5, f"NVIDIA H100 PCIe data sheet, {_HALVED}"),
    Peak("H100 NVL", 835.5, f"NVIDIA H100 data sheet, {_HALVED}"),
    Peak("H100", 989.5, f"NVIDIA H100 SXM data sheet, {_HALVED}"),
    Peak("H800 PCIe", 756.5, f"NVIDIA H800 PCIe data sheet, {_HALVED}"),
    Peak("H800", 989.5, f"NVIDIA H800 SXM data sheet, {_HALVED}"),
    Peak("H20", 148, "NVIDIA H20 data sheet"),
    Peak("A100", 312, "NVIDIA A100 data sheet"),
    Peak("A800", 312, "NVIDIA A800 data sheet"),
    Peak("A40", 149.7, "NVIDIA A40 data sheet"),
    Peak("A10", 125, "NVIDIA A10 data sheet"),
    Peak("L40S", 362.05, "NVIDIA L40S data sheet"),
    Peak("L40", 181.05, "NVIDIA L40 data sheet"),
    Peak("L4", 121, f"NVIDIA L4 data sheet, {_HALVED}"),
    Peak("RTX 6000 Ada", 364.2, "NVIDIA RTX 6000 Ada data sheet, a quarter of fp8 with sparsity"),
    Peak("RTX 5090", 209.5, "NVIDIA RTX Blackwell architecture paper, fp32 sums"),
    Peak("RTX 4090", 165.2, "NVIDIA Ada architecture paper, fp32 sums"),
    Peak("RTX 3090", 71, "NVIDIA Ampere GA102 architecture paper, fp32 sums"),
    Peak("MI325X", 1307.4, "AMD Instinct MI325X data sheet"),
    Peak("MI300X", 1307.4, "AMD Instinct MI300X data sheet"),
    Peak("MI250X", 191.5, "AMD Instinct MI250X data sheet, of one of its two dies, which are a device each"),
)
"""A name counts by whole words: an A10G is no A10. Of several, the first."""
_SLOWER = {"laptop", "mobile", "max-q", "mig", "d", "vgpu"}
"""Words that make a device another one, or a part of one."""


def peak_of(name: str) -> Peak | None:
    """Return the peak of a device by the name that it gives itself; None if it is unknown."""
    words = re.split(r"[\s_/]+", name.lower().replace("-", " ").replace("max q", "max-q"))
    if _SLOWER & set(words):
        return None
    said = f" {' '.join(words)} "
    return next((peak for peak in PEAKS if f" {peak.name.lower()} " in said), None)


def peak_here(device: torch.device) -> Peak | None:
    """Return the peak of a GPU of this machine; None for the CPU and for unknown GPUs."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of a GPU that is known; None for others and for the CPU."""
    peak = peak_here(device)
    return peak.flops if peak else None
