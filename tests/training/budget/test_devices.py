"""Peaks of devices by the names that they give themselves."""

import pytest

from reelwright.training.budget.devices import PEAKS, peak_of


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA GB200", 2500), ("NVIDIA B200", 2250), ("NVIDIA GH200 480GB", 989.5), ("NVIDIA H200", 989.5),
        ("NVIDIA H100 80GB HBM3", 989.5), ("NVIDIA H100 PCIe", 756.5), ("NVIDIA H100 NVL", 835.5), ("NVIDIA H20", 148),
        ("NVIDIA H800", 989.5), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA A100 80GB PCIe", 312), ("NVIDIA L40S", 362.05),
        ("NVIDIA L40", 181.05), ("NVIDIA GeForce RTX 4090", 165.2), ("NVIDIA GeForce RTX 5090", 209.5),
        ("NVIDIA RTX 6000 Ada Generation", 364.2), ("AMD Instinct MI300X", 1307.4),
    ],
)  # fmt: skip
def test_a_device_is_known_by_its_name(name: str, tflops: float) -> None:
    peak = peak_of(name)
    assert peak is not None
    assert peak.tflops == tflops
    assert peak.source in str(peak)


@pytest.mark.parametrize(
    "name",
    ["NVIDIA A10G", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D",
     "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA B2000", "Tesla T4", ""],
)  # fmt: skip
def test_another_or_a_part_of_one_has_no_peak(name: str) -> None:
    assert peak_of(name) is None


def test_no_name_hides_behind_another() -> None:
    assert all(peak_of(peak.name) is peak for peak in PEAKS)
