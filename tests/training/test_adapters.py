"""LoRA training on a base that is held in bf16: the same to the bit as on fp32, alone and sharded."""

from pathlib import Path

import pytest
import torch

from reelwright.model.checkpoint import save_model
from reelwright.model.config import LoRAConfig
from reelwright.model.lora.adapters import add_lora, load_lora, lora_parameters, save_lora, set_lora_weights
from reelwright.training.adapters import adapt, base_state, trainable_state
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.distributed.parallel import accumulate, autocast, parallelize
from reelwright.training.distributed.world import World, start
from reelwright.training.objectives.flow import FlowConfig, flow_loss
from reelwright.training.optim import make_optimizer
from reelwright.training.recipe import ComputeConfig, OptimConfig, ParallelConfig, TrainRecipe
from reelwright.training.run import build
from tests.training.ranks import ranks
from tests.training.steps import CONFIG, MICROS, PLAIN, make_batch, tiny

HALF = ComputeConfig(precision="bf16")
LORA = LoRAConfig(rank=2, alpha=2)


def losses(world: World, *, half: bool = True) -> list[float]:
    """Three steps."""
    model = tiny()
    if half:
        adapt(model, LORA, HALF)
    else:
        add_lora(model, LORA)
    parallelize(model, ParallelConfig(), HALF, world)
    optimizer = make_optimizer(dict(model.named_parameters()), OptimConfig(lr=1e-2))
    found = []
    for step in range(3):
        mine, total = range(world.data_rank, MICROS, world.data_size), 0.0
        for micro in mine:
            accumulate(model, ParallelConfig(), last=micro == mine[-1])
            with autocast(HALF, world.device):
                loss = flow_loss(model, make_batch(step, micro), FlowConfig())
            loss.total.backward()
            total += loss.total.item()
        optimizer.step()
        optimizer.zero_grad()
        found += world.sum([total])
    return found


def test_a_base_in_bf16_changes_no_bit() -> None:
    found = losses(World.alone("cpu"))
    assert found == losses(World.alone("cpu"), half=False)
    assert len(set(found)) == 3


def test_a_base_in_bf16_may_be_sharded() -> None:
    for found in ranks(2, _sharded):
        assert found == pytest.approx(losses(World.alone("cpu")), rel=1e-4)


def _sharded() -> list[float]:
    return losses(start(ParallelConfig(), device="cpu"))


def test_what_is_held_in_which_type() -> None:
    model = tiny()
    adapt(model, LORA, HALF)
    assert {p.dtype for p in lora_parameters(model)} == {torch.float32}
    half = {name for name, p in model.named_parameters() if p.dtype == torch.bfloat16}
    assert half
    assert all(".attn." in n or ".cross_attn." in n or ".ffn." in n for n in half)
    assert not [n for n in half if "norm" in n]
    assert not [n for n, p in model.named_parameters() if p.requires_grad and n in half]


def test_a_second_adapter_on_a_bf16_base_leaves_the_first_in_fp32() -> None:
    model = tiny()
    for name in ("default", "critic"):
        adapt(model, LORA, HALF, name=name)
    assert {p.dtype for p in lora_parameters(model)} == {torch.float32}
    assert model.blocks[0].ffn.w1.weight.dtype == torch.bfloat16


def test_two_adapters_side_by_side_on_one_base(tmp_path: Path) -> None:
    """Each learns, is saved and loaded under its own name, and counts by its weight."""
    model = tiny()
    adapt(model, LORA, PLAIN, name="refine")
    adapt(model, LoRAConfig(rank=3, alpha=6, targets=("*.qkv",)), PLAIN, name="distil", seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in ("refine", "distil"):
            for parameter in lora_parameters(model, name):
                parameter.normal_(std=0.1, generator=generator)
    outputs = {}
    for weights in ((0, 0), (1, 0), (0, 1), (1, 1)):
        set_lora_weights(model, dict(zip(("refine", "distil"), weights, strict=True)))
        outputs[weights] = flow_loss(model, make_batch(0, 0), FlowConfig()).per_sample
    assert len({tuple(out.tolist()) for out in outputs.values()}) == 4
    torch.testing.assert_close(outputs[0, 0], flow_loss(tiny(), make_batch(0, 0), FlowConfig()).per_sample)

    other = tiny()
    for name in ("refine", "distil"):
        save_lora(model, tmp_path / f"{name}.safetensors", name=name)
        load_lora(other, tmp_path / f"{name}.safetensors", name=name)
    torch.testing.assert_close(flow_loss(other, make_batch(0, 0), FlowConfig()).per_sample, outputs[1, 1])


def test_a_checkpoint_holds_what_is_trained() -> None:
    model = tiny()
    whole = set(trainable_state(model))
    assert whole == set(model.state_dict())
    adapt(model, LORA, PLAIN, name="refine")
    adapt(model, LORA, PLAIN, name="distil")
    assert set(base_state(model)) == whole
    assert set(trainable_state(model)) == set(model.state_dict()) - whole
    for parameter in lora_parameters(model, "refine"):
        parameter.requires_grad_(False)
    assert trainable_state(model)
    assert all(".lora.distil." in name for name in trainable_state(model))
    next(model.parameters()).requires_grad_(True)  # of the base, which then changes too
    assert set(trainable_state(model)) == set(model.state_dict())


@pytest.mark.parametrize("kind", ["published", "trained"])
def test_weights_to_begin_with_are_rounded_as_they_are_read(kind: str, tmp_path: Path) -> None:
    model = tiny()
    if kind == "published":
        save_model(model, CONFIG, tmp_path, max_shard_bytes=100_000)
    else:
        checkpoints = Checkpoints(tmp_path / "checkpoints", 1)
        checkpoints.save(1, {f"model.{name}": tensor.detach() for name, tensor in model.state_dict().items()}, {})
        checkpoints.wait()
    begun, _ = build(TrainRecipe(model=CONFIG, lora=LORA, compute=HALF, init=str(tmp_path)), World.alone("cpu"))
    state = begun.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor.to(state[name].dtype)), name
    assert state["blocks.0.attn.qkv.weight"].dtype == torch.bfloat16
