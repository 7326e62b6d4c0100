"""A step without ranks: its operations are those that are counted by hand, its collectives those of the layout."""

from collections import Counter
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from reelwright.model.config import DiTConfig
from reelwright.training.budget.memory import plan_memory, shape_of
from reelwright.training.budget.step_trace import Collective, Counts, StepTrace, _lasting, _Recorder, trace_step
from reelwright.training.budget.step_trace import _trace as _step
from reelwright.training.budget.throughput import step_flops
from reelwright.training.budget.traced import Shape, TracedRun, made_up_ranks
from reelwright.training.distributed.world import World
from reelwright.training.recipe import TrainRecipe

CONFIG = DiTConfig(hidden_size=256, depth=2, num_heads=8, caption_channels=64, adaln_tembed_dim=32)
GRID = (3, 32, 32)  # 3,072 tokens: long enough to be kept
SHAPE = Shape(1, (3, 64, 64))


def _recipe(**over: object) -> TrainRecipe:
    data = {"sizes": ["512x512"], "frames": [9], "tokens_per_batch": 3072, "batches_per_step": 16}
    text = {"tokens": 64, "dim": 64}
    return TrainRecipe.model_validate({"model": CONFIG, "data": data, "text": text, "tasks": {"t2v": 1}, **over})


def _trace(ranks: int = 8, **over: object) -> StepTrace:
    return trace_step(_recipe(**over), ranks, SHAPE)


@pytest.mark.exhaustive
def test_operations_are_the_formula_s_and_a_kept_attention_is_computed_once() -> None:
    """The kernel computes scores again in its backward pass: 2.5 times its forward, where MFU counts 2."""
    none, attention, full = (_trace(compute={"checkpointing": form}).counts for form in ("none", "attention", "full"))
    model = step_flops(
        CONFIG, None, GRID, batch=1, cond_frames=0, text_tokens=64, attention=_recipe().attention
    )  # fmt: skip
    own = 4 * 3072**2 * 256 * CONFIG.depth
    tokens, keys = (4 * 3072 * n * 256 * CONFIG.depth for n in (64, 80))  # captions' keys are a multiple of 16
    read, more = keys, 3.5 * keys - 3 * tokens
    assert none.flops == pytest.approx(2 * (model + own / 2 + more), rel=1e-4)  # 16 micro-batches on 8 ranks
    assert none.attention_flops == 2 * 3.5 * (own + read)
    assert attention.attention_flops == none.attention_flops + 2 * read
    assert full.attention_flops == attention.attention_flops + 2 * own
    products = [c.flops - c.attention_flops for c in (none, attention, full)]
    assert products[0] < products[1] == products[2]


def test_counts_add_up_and_leave_out_a_kind_of_collective() -> None:
    of = {kind: Collective(kind, (0, 1)) for kind in ("all-gather", "all-reduce")}
    once = Counts(Counter(mm=2), 10, 3, 7, 5, Counter({of["all-gather"]: 8, of["all-reduce"]: 4}),
                  Counter({of["all-gather"]: 1, of["all-reduce"]: 2}))  # fmt: skip
    whole = Counts()
    whole.add(once)
    assert whole == once
    whole.add(once.without("all-reduce"), times=3)
    assert whole == Counts(Counter(mm=8), 40, 12, 28, 20, Counter({of["all-gather"]: 32, of["all-reduce"]: 4}),
                           Counter({of["all-gather"]: 4, of["all-reduce"]: 2}))  # fmt: skip


def test_an_operator_s_bytes_are_read_and_written_once_and_a_view_moves_none() -> None:
    a, b, row = torch.ones(4, 8), torch.ones(8, 2), torch.ones(8)
    with _Recorder() as recorder:
        product = a @ b
        made = recorder.take()
        combined = a.view(2, 16).view(4, 8) + row.expand(4, 8)
        other = recorder.take()
    assert (made.moved, made.product_moved) == (4 * (32 + 16 + 8),) * 2
    assert (made.flops, made.attention_flops) == (2 * product.numel() * 8, 0)
    assert (other.moved, other.product_moved, other.flops) == (4 * (32 + 8) + combined.nbytes, 0, 0)
    assert other.operators["aten.add.Tensor"] == 1
    assert recorder.take() == Counts()


def test_weights_and_their_two_averages_last_and_frozen_ones_alone() -> None:
    def lasting(**over: object) -> tuple[int, int, int]:
        run = TracedRun(_recipe(**over), World.alone("cpu"), SHAPE, sharded=False)
        held = [(p.numel(), p.requires_grad) for p in run.model.parameters()]
        return _lasting(run), sum(n for n, trained in held if trained), sum(n for n, trained in held if not trained)

    found, trained, frozen = lasting()
    assert (found, frozen) == (4 * 3 * trained, 0)
    assert lasting(optim={"ema": 0.9})[0] == 4 * 4 * trained
    found, trained, frozen = lasting(lora={"rank": 2, "alpha": 2}, init="x", compute={"precision": "fp32"})
    assert found == 4 * (3 * trained + frozen)
    assert 0 < trained < frozen


def test_a_collective_brings_what_the_other_ranks_have() -> None:
    """Of 8 ranks; a sum travels twice, as a ring makes it."""
    part, whole = torch.ones(16), torch.ones(8 * 16)
    size = 7 / 8 * whole.nbytes
    with made_up_ranks(_recipe().parallel, 8), _Recorder() as recorder:
        dist.all_gather_into_tensor(whole, part)
        dist.reduce_scatter_tensor(part, whole)
        dist.all_reduce(whole)
        found = recorder.take()
    kinds = {kind: Collective(kind, tuple(range(8))) for kind in ("all-gather", "reduce-scatter", "all-reduce")}
    assert found.calls == Counter(kinds.values())
    assert {kind: found.received[of] for kind, of in kinds.items()} == {
        "all-gather": size, "reduce-scatter": size, "all-reduce": 2 * size,
    }  # fmt: skip


def _calls(counts: Counts) -> dict[str, int]:
    return {f"{of.kind} of {len(of.ranks)}": calls for of, calls in counts.calls.items()}


@pytest.mark.parametrize(
    ("ranks", "parallel", "expect"),
    [
        # 5 units (two blocks, their modulations, the rest); the rest is gathered once per micro-batch
        (8, {}, {"all-gather of 8": 2 * (4 + 4 + 1), "reduce-scatter of 8": 2 * 5}),
        (8, {"reshard_after_forward": False}, {"all-gather of 8": 5, "reduce-scatter of 8": 2 * 5}),
        (8, {"replicate": 2, "reshard_after_forward": False},
         {"all-gather of 4": 5, "reduce-scatter of 4": 2 * 5, "all-reduce of 2": 5}),
        # v, q with k, and the output, forward and backward, in 2 blocks and 2 micro-batches
        (64, {"replicate": 4, "context": 8, "gradients": "whole", "reshard_after_forward": False},
         {"all-gather of 16": 5, "reduce-scatter of 16": 5, "all-reduce of 4": 5, "all-to-all of 8": 3 * 2 * 2 * 2}),
    ],
    ids=["ZeRO-3", "ZeRO-2", "HSDP", "HSDP, whole gradients, Ulysses"],
)  # fmt: skip
def test_collectives_are_those_of_the_layout(ranks: int, parallel: dict[str, object], expect: dict[str, int]) -> None:
    assert _calls(_trace(ranks, parallel=parallel).counts) == expect


@pytest.mark.parametrize("gradients", ["sharded", "whole"])
@pytest.mark.every(2)
def test_micro_batches_between_the_first_and_the_last_count_as_if_they_had_run(gradients: str) -> None:
    """Of four, with replicas, over which gradients are summed once."""
    small = CONFIG.model_copy(update={"hidden_size": 32, "depth": 1, "num_heads": 2})
    recipe = _recipe(model=small, parallel={"replicate": 2, "gradients": gradients})
    with made_up_ranks(recipe.parallel, 4) as world, FakeTensorMode():
        run, other = (TracedRun(recipe, world, Shape(1, (3, 8, 8))) for _ in range(2))
        with _Recorder() as recorder:
            for i in range(4):
                run.micro_batch(last=i == 3)
            expect = recorder.take()
        found = _step(other, 4)
    for name in ("calls", "received", "flops", "attention_flops", "product_moved"):
        assert getattr(found.counts, name) == getattr(expect, name)
    assert found.counts.moved == pytest.approx(expect.moved, rel=0.1)  # copies before the sum are not told apart
    assert any(of.kind == "all-reduce" for of in found.counts.calls)


def test_values_travel_while_queries_and_keys_are_normed() -> None:
    """Outside graphs: where PyTorch traces, it waits for each exchange at once."""
    recipe, names = _recipe(parallel={"context": 2}), []

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            names.append(str(func))
            return func(*args, **(kwargs or {}))

    with made_up_ranks(recipe.parallel, 2) as world:
        run = TracedRun(recipe, world, Shape(1, (3, 8, 8)), sharded=False)
        with Names():
            run.micro_batch()
    sent, waited, normed, attended = (
        [i for i, name in enumerate(names) if word in name]
        for word in ("all_to_all", "wait_tensor", "rsqrt", "scaled_dot_product")
    )
    values, queries_and_keys, output = sent[:3]
    assert any(values < i < queries_and_keys for i in normed)
    assert queries_and_keys < waited[0]
    assert waited[0] < attended[0] < output


def test_a_gathered_weight_is_received_from_all_others_once() -> None:
    """Blocks travel in bf16, the rest in fp32."""
    trace = _trace(parallel={"reshard_after_forward": False})
    counts = plan_memory(_recipe(), ranks=8).counts
    gathered = sum(n for of, n in trace.counts.received.items() if of.kind == "all-gather")
    size = 2 * (counts.blocks - counts.modulation) + 4 * (counts.modulation + counts.rest)
    assert gathered == pytest.approx(7 / 8 * size, rel=0.01)


WIDE = DiTConfig(hidden_size=1024, depth=4, num_heads=8, caption_channels=256, adaln_tembed_dim=64)


@pytest.mark.parametrize(
    ("ranks", "over"),
    [
        (8, {"compute": {"checkpointing": "full"}}),
        (8, {"compute": {"checkpointing": "attention"}, "parallel": {"context": 2, "reshard_after_forward": False}}),
        (64, {"compute": {"checkpointing": "attention"}, "parallel": {"context": 2, "replicate": 8},
              "lora": {"rank": 16, "alpha": 16}, "init": "x"}),
    ],
    ids=["ZeRO-3", "ZeRO-2, Ulysses", "LoRA, HSDP"],
)  # fmt: skip
@pytest.mark.every(3)
def test_the_planner_s_memory_is_the_step_s(ranks: int, over: dict[str, object]) -> None:
    data = {"sizes": ["832x480"], "frames": [33], "tokens_per_batch": 14040, "batches_per_step": 64}
    recipe = _recipe(**{"model": WIDE, "data": data, "text": {"tokens": 64, "dim": 256}, **over})
    plan = plan_memory(recipe, ranks=ranks)
    held = trace_step(recipe, ranks, shape_of(recipe, plan.bucket)).peak
    assert sum(plan.bytes.values()) - plan.bytes["CUDA and libraries"] == pytest.approx(held, rel=0.1)
