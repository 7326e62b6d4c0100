"""The time of a traced step by rates of a machine: a model, to see the bound of a layout before there are GPUs.

Products and attention take their operations at a share of the peak. Everything else takes its bytes at the memory's
rate, fewer where blocks are compiled and element-wise operations fused. Weights and gradients travel beside the
computing, as FSDP2 fetches the next block's; exchanges of context parallelism wait, and are waited for.
"""

from dataclasses import dataclass

from reelwright.training.budget.step_trace import Collective, Counts

NODE = 8
"""GPUs of a node, whose links are faster."""
IN_THE_WAY = {"all-to-all", "ring"}
"""Collectives that nothing overlaps with. A ring's overlap with its own attention, which counts as the other side."""


@dataclass(frozen=True)
class Rates:
    """Of one GPU. The defaults: an H100 SXM with NVLink and 400 Gb/s of network, and shares that kernels reach on it.

    peak_tflops: dense bf16. products, attention: shares of it that are reached (0.7: large products; 0.55: cuDNN's or
    FlashAttention-3's, forward and backward together). memory_gb_s: of HBM3. fused: how many times fewer bytes
    element-wise operations move when compiled; 1: not compiled. node_gb_s, network_gb_s: that a GPU receives from its
    node, and from others.
    """

    peak_tflops: float = 989.5
    products: float = 0.7
    attention: float = 0.55
    memory_gb_s: float = 3350 * 0.8
    fused: float = 3.0
    node_gb_s: float = 350.0
    network_gb_s: float = 40.0


@dataclass(frozen=True)
class StepTime:
    """seconds: of products, attention, memory, exchange (in the way) and sharding (beside). total: of the step."""

    seconds: dict[str, float]
    total: float

    @property
    def bound(self) -> str:
        """Which of compute, memory and network takes most."""
        s = self.seconds
        kinds = {"compute": s["products"] + s["attention"], "memory": s["memory"]}
        kinds["network"] = s["exchange"] + max(0.0, s["sharding"] - sum(kinds.values()))
        return max(kinds, key=lambda kind: kinds[kind])


def step_time(counts: Counts, rates: Rates) -> StepTime:
    """Model a step's time from its counts."""
    peak = rates.peak_tflops * 1e12
    products = (counts.flops - counts.attention_flops) / (peak * rates.products)
    attention = counts.attention_flops / (peak * rates.attention)
    memory = (counts.moved - counts.product_moved) / rates.fused / (rates.memory_gb_s * 1e9)
    exchange = sum(_seconds(of, n, rates) for of, n in counts.received.items() if of.kind in IN_THE_WAY)
    sharding = sum(_seconds(of, n, rates) for of, n in counts.received.items() if of.kind not in IN_THE_WAY)
    seconds = {
        "products": products, "attention": attention, "memory": memory, "exchange": exchange, "sharding": sharding
    }  # fmt: skip
    return StepTime(seconds, max(products + attention + memory + exchange, sharding))


def _seconds(of: Collective, received: int, rates: Rates) -> float:
    inside = len({rank // NODE for rank in of.ranks}) == 1
    return received / ((rates.node_gb_s if inside else rates.network_gb_s) * 1e9)
