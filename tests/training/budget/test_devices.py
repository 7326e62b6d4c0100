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


@pytest.mark.parametrize(
    ("name", "units", "operations", "ghz"),
    [
        ("A800", 108, 2048, 1.41), ("A40", 84, 1024, 1.74), ("A10", 72, 1024, 1.695), ("L4", 58, 1024, 2.04),
        ("RTX 3090", 82, 512, 1.695), ("MI325X", 304, 2048, 2.1), ("MI250X", 110, 1024, 1.7),
    ],
)  # fmt: skip
def test_a_peak_is_what_all_units_do_at_the_stated_clock(name: str, units: int, operations: int, ghz: float) -> None:
    """operations: of a unit (SM or CU) in a clock, a multiply-add is two."""
    peak = peak_of(name)
    assert peak is not None
    assert peak.tflops == pytest.approx(units * operations * ghz / 1000, rel=3e-3)


@pytest.mark.parametrize(("name", "like"), [("GB300", "GB200"), ("B300", "B200"), ("H800 PCIe", "H100 PCIe")])
def test_what_differs_in_memory_or_links_alone_computes_alike(name: str, like: str) -> None:
    one, other = peak_of(name), peak_of(like)
    assert one is not None
    assert other is not None
    assert one.tflops == other.tflops


def test_no_name_hides_behind_another() -> None:
    assert all(peak_of(peak.name) is peak for peak in PEAKS)
