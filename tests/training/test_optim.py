"""AdamW's groups and rate, clipping, and the running average."""

import pytest
import torch
from torch import nn

from reelwright.training.ema import Ema
from reelwright.training.optim import clip_gradients, learning_rate, make_optimizer, optimizer_tensors, set_rate
from reelwright.training.recipe import OptimConfig


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))


def backward(model: nn.Module, scale: float = 1.0) -> None:
    x = torch.arange(12.0).view(3, 4)
    (scale * model(x).square().sum()).backward()


def test_decay_is_on_matrices_alone():
    parameters = dict(network().named_parameters())
    groups = make_optimizer(parameters, OptimConfig(weight_decay=0.1)).param_groups
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]
    assert all(p.ndim == 2 for p in groups[0]["params"])
    assert all(p.ndim == 1 for p in groups[1]["params"])
    assert sum(len(g["params"]) for g in groups) == len(parameters)


def test_the_rate_rises_and_stays():
    config = OptimConfig(lr=1.0, warmup_steps=3)
    assert [learning_rate(step, config) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert learning_rate(0, OptimConfig(lr=1.0)) == 1
    optimizer = make_optimizer(dict(network().named_parameters()), config)
    set_rate(optimizer, 0.5)
    assert {g["lr"] for g in optimizer.param_groups} == {0.5}


@pytest.mark.parametrize("scale", [1e-4, 1.0, 100.0])
def test_clipping_is_torch_s(scale):
    ours, theirs = network(), network()
    backward(ours, scale)
    backward(theirs, scale)
    expect = nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
    assert clip_gradients(dict(ours.named_parameters()), 1.0) == pytest.approx(expect.item(), rel=1e-6)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-7)


def test_a_norm_that_is_not_finite_scales_nothing():
    model = network()
    backward(model)
    next(model.parameters()).grad[0, 0] = float("inf")
    kept = [p.grad.clone() for p in model.parameters()]
    assert clip_gradients(dict(model.named_parameters()), 1.0) == float("inf")
    assert all(torch.equal(p.grad, k) for p, k in zip(model.parameters(), kept, strict=True))


def test_state_filled_into_a_new_optimizer_goes_on_the_same():
    models = [network(), network()]
    config = OptimConfig(lr=0.1)
    first, second = (make_optimizer(dict(m.named_parameters()), config) for m in models)
    for _ in range(2):
        backward(models[0])
        first.step()
        first.zero_grad()
    models[1].load_state_dict(models[0].state_dict())
    into = optimizer_tensors(second, dict(models[1].named_parameters()))
    saved = optimizer_tensors(first, dict(models[0].named_parameters()))
    assert into.keys() == saved.keys()
    for name, tensor in into.items():
        tensor.copy_(saved[name])
    for model, optimizer in zip(models, (first, second), strict=True):
        backward(model)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(*(m.parameters() for m in models), strict=True))


def test_the_average_follows_and_is_swapped_in_for_a_while():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = Ema({"weight": model.weight}, 0.5)
    nn.init.ones_(model.weight)
    ema.update(100)
    assert ema.tensors()["ema.weight"].item() == 0.5
    with ema.swapped_in():
        assert model.weight.item() == 0.5
    assert model.weight.item() == 1
    early = Ema({"weight": model.weight}, 0.999)
    nn.init.zeros_(model.weight)
    early.update(1)
    assert early.tensors()["ema.weight"].item() == pytest.approx(2 / 11)  # the first steps count more
