"""The modelled step: what bounds it follows from the rates."""

from collections import Counter

import pytest

from reelwright.training.budget.step_time import Rates, step_time
from reelwright.training.budget.step_trace import Collective, Counts

NODE, FAR = Collective("all-gather", tuple(range(8))), Collective("all-reduce", (0, 8))
EXCHANGE = Collective("all-to-all", (0, 1))
COUNTS = Counts(
    flops=7 * 10**15, attention_flops=2 * 10**15, moved=3 * 10**12, product_moved=10**12,
    received=Counter({NODE: 10**11, FAR: 10**10, EXCHANGE: 10**10}),
)  # fmt: skip
RATES = Rates(
    peak_tflops=1000, products=0.5, attention=0.5, memory_gb_s=1000, fused=2, node_gb_s=100, network_gb_s=10
)  # fmt: skip


def test_each_part_takes_its_amount_over_its_rate() -> None:
    found = step_time(COUNTS, RATES)
    assert found.seconds == pytest.approx(
        {"products": 10, "attention": 4, "memory": 1, "exchange": 0.1, "sharding": 1 + 1}
    )
    assert found.total == pytest.approx(15.1)  # sharding hides behind the rest
    assert found.bound == "compute"


def test_the_slowest_part_bounds_a_step() -> None:
    assert step_time(COUNTS, Rates(**{**vars(RATES), "memory_gb_s": 10})).bound == "memory"
    slow = step_time(COUNTS, Rates(**{**vars(RATES), "network_gb_s": 0.1}))
    assert slow.bound == "network"
    assert slow.total == pytest.approx(101)
