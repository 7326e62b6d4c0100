"""Whatever the layout of ranks, a run's losses are those of one process."""

import re
from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import checkpoint
from torch.utils._python_dispatch import TorchDispatchMode

from reelwright.model.dit import DiT
from reelwright.training.distributed.parallel import accumulate, parallelize
from reelwright.training.distributed.world import World, start
from reelwright.training.recipe import ComputeConfig, ParallelConfig
from tests.training.ranks import ranks
from tests.training.steps import CONFIG, PLAIN, alone, begin, losses, tiny

TWO = {
    "fsdp": {},
    "fsdp, whole gradients": {"gradients": "whole"},
    "ulysses": {"context": 2},
    "ring": {"context": 2, "context_form": "ring"},
}
FOUR = {
    "hsdp": {"replicate": 2},
    "hsdp, whole gradients": {"replicate": 2, "gradients": "whole"},
    "fsdp × ulysses": {"context": 2},
    "fsdp × ring": {"context": 2, "context_form": "ring"},
}


@pytest.mark.parametrize(
    ("size", "layouts"),
    [(2, TWO), pytest.param(4, FOUR, marks=pytest.mark.exhaustive)],
    ids=["two ranks", "four ranks"],
)
def test_losses_are_those_of_one_process(size: int, layouts: dict[str, dict[str, object]]) -> None:
    expect = alone()
    assert expect[-1] < expect[0]
    for found in ranks(size, _losses, layouts):
        for name, values in found.items():
            assert values == pytest.approx(expect, rel=1e-5), name


def test_no_state_of_random_numbers_is_kept_for_what_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network without dropout draws none: PyTorch would save and restore it in every block."""
    kept: list[str] = []
    state = torch.get_rng_state

    def told() -> torch.Tensor:
        kept.append("state")
        return state()

    monkeypatch.setattr(torch, "get_rng_state", told)
    for form in ("attention", "selective", "full"):
        losses(ParallelConfig(), World.alone("cpu"), ComputeConfig(precision="fp32", checkpointing=form), steps=1)
    assert not kept
    checkpoint.checkpoint(torch.sin, torch.ones(1, requires_grad=True), use_reentrant=False)
    assert kept, "PyTorch's default keeps one"


def _losses(layouts: dict[str, dict[str, object]]) -> dict[str, list[float]]:
    found = {}
    for name, options in layouts.items():
        parallel = ParallelConfig.model_validate(options)
        found[name] = losses(parallel, start(parallel, device="cpu"))
    if layouts == TWO:
        found |= _with_memory_savings() | _changed_after_validation()
        _check_first_weights()
    return found


def _with_memory_savings() -> dict[str, list[float]]:
    """Activation checkpointing and sharding together, and with a ring whose collectives then run twice."""
    parallel = [ParallelConfig(), ParallelConfig(context=2, context_form="ring")]
    computes = [ComputeConfig(precision="fp32", checkpointing=form) for form in ("full", "attention")]
    pairs = zip(parallel, computes, strict=True)
    return {f"{p.context} {c.checkpointing}": losses(p, start(p, device="cpu"), c) for p, c in pairs}


def _changed_after_validation() -> dict[str, list[float]]:
    """ZeRO-2: weights swapped after a forward without backward (validation of the averages) count at once."""
    parallel = ParallelConfig(reshard_after_forward=False)
    world = start(parallel, device="cpu")
    run = begin(parallel, world)
    weights, values = list(run.model.parameters()), []
    for step in range(3):
        kept = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            for weight in weights:
                weight.mul_(3)
            run.model(torch.ones(1, 4, 1, 4, 4), torch.ones(1), torch.ones(1, 5, 16))
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)
        values.append(run.step(step))
    return {"swapped": values}


def _check_first_weights() -> None:
    """A model that is laid out without storage, sharded, and then given its first weights: the same on any layout."""
    parallel = ParallelConfig()
    world = start(parallel, device="cpu")
    expect = dict(DiT(CONFIG).init_weights(7).named_parameters())
    with torch.device("meta"):
        model = DiT(CONFIG)
    parallelize(model, parallel, PLAIN, world).to_empty(device="cpu")
    model.init_weights(7)
    for name, tensor in model.state_dict().items():
        assert tensor.to_local().numel() < tensor.numel()
        torch.testing.assert_close(tensor.full_tensor(), expect[name].detach(), rtol=0, atol=0)


@pytest.mark.parametrize("form", ["full", "attention", "selective"])
def test_activations_made_anew_change_nothing(form: str) -> None:
    assert alone({"checkpointing": form}, steps=2) == alone(steps=2)


def test_what_is_made_anew() -> None:
    """Selective: all but matrix products and attention. Full: those too."""
    none, selective, full = (_operations(form) for form in ("none", "selective", "full"))
    costly = ("mm", "addmm", "bmm", "_scaled_dot_product_flash_attention_for_cpu")
    assert sum(none[name] for name in costly) > 20
    assert all(selective[name] == none[name] for name in costly)
    assert all(full[name] > none[name] for name in costly if none[name] and name != "mm")
    assert none["silu"] < selective["silu"] == full["silu"]


def test_long_attention_alone_is_kept() -> None:
    """Of a clean frame's 1,024 keys and all frames' 3,072, the second are worth it; captions are not."""
    none, attention, full = (_operations(form, side=64) for form in ("none", "attention", "full"))
    name = "_scaled_dot_product_flash_attention_for_cpu"
    assert none[name] == 3 * CONFIG.depth
    assert attention[name] == 5 * CONFIG.depth
    assert full[name] == 6 * CONFIG.depth
    assert attention["addmm"] == full["addmm"] > none["addmm"]


def _operations(form: str, side: int = 16) -> Counter[str]:
    """How often each ran in forward and backward."""
    compute = ComputeConfig.model_validate({"precision": "fp32", "checkpointing": form})
    model = parallelize(tiny(), ParallelConfig(), compute, World.alone("cpu"))
    with _Count() as count:
        model(torch.randn(1, 4, 3, side, side), torch.ones(1), torch.randn(1, 5, 16), cond_frames=1).sum().backward()
    return count.seen


def test_the_block_before_is_fetched_while_a_block_s_backward_computes() -> None:
    """Under ZeRO-3 on two ranks; and under ZeRO-2, weights are fetched once per step."""
    for order, gathered in ranks(2, _fetches):
        for i in (3, 2, 1):
            begun, fetched, wanted = (order.index(word) for word in (f"begin {i}", f"fetch {i - 1}", f"begin {i - 1}"))
            assert begun < fetched < wanted
            assert f"fetch {i - 1} modulation" in order[fetched : order.index(f"end {i}")]
        assert gathered == 2 * 4 + 1


def _fetches() -> tuple[list[str], int]:
    """What begins, ends and is fetched in a backward pass of 4 blocks; units gathered in a step of two batches."""
    from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup

    seen: list[str] = []
    unshard = FSDPParamGroup.unshard

    def noted(group: Any, *arguments: Any, **options: Any) -> None:
        there = group.is_unsharded or group._all_gather_result is not None
        unshard(group, *arguments, **options)
        name = re.sub(r"blocks\.(\d+)(\.adaLN_)?", r"\1 ", group._module_fqn or "root").strip()
        if not there:
            seen.append(f"fetch {name}")

    FSDPParamGroup.unshard = noted  # type: ignore[method-assign]
    order = _backward(ParallelConfig(), seen)
    gathered = _backward(ParallelConfig(reshard_after_forward=False), seen, clear=False)
    FSDPParamGroup.unshard = unshard  # type: ignore[method-assign]
    return order, sum(word.startswith("fetch") for word in gathered)


def _backward(parallel: ParallelConfig, seen: list[str], *, clear: bool = True) -> list[str]:
    """What is seen in a step of two micro-batches; with `clear`, in the last backward pass alone."""
    model = parallelize(
        tiny(config=CONFIG.model_copy(update={"depth": 4})), parallel, PLAIN, start(parallel, device="cpu")
    )
    for i, block in enumerate(model.blocks):
        block.register_full_backward_pre_hook(partial(_note, seen, f"begin {i}"))
        block.register_full_backward_hook(partial(_note, seen, f"end {i}"))
    seen.clear()
    for micro in range(2):
        accumulate(model, parallel, last=micro == 1)
        out = model(torch.randn(1, 4, 1, 4, 4), torch.ones(1), torch.randn(1, 5, 16))
        if clear:
            seen.clear()
        out.sum().backward()
    return list(seen)


def _note(seen: list[str], word: str, *_: Any) -> None:
    seen.append(word)


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_names_of_weights_stay() -> None:
    model: nn.Module = tiny()
    names = list(model.state_dict())
    compute = ComputeConfig(checkpointing="full", compile=True)
    assert list(parallelize(model, ParallelConfig(), compute, World.alone("cpu")).state_dict()) == names


def test_bf16_is_near() -> None:
    assert alone({"precision": "bf16"}) == pytest.approx(alone(), rel=0.05)
    assert PLAIN.precision == "fp32"
