"""Roles on one network: what each computes, that none leaks into another, and that a wrong backward pass is refused."""

import pytest
import torch

from reelwright.model.config import LoRAConfig
from reelwright.model.dit import DiT
from reelwright.model.lora.adapters import add_lora, lora_parameters, remove_lora
from reelwright.training.distributed.parallel import parallelize
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ComputeConfig, ParallelConfig
from reelwright.training.roles import BASE, Roles
from tests.training.steps import make_batch, tiny

LORA = LoRAConfig(rank=2, alpha=2)
ALONE = World.alone("cpu")


def two_adapters() -> DiT:
    model = tiny()
    generator = torch.Generator().manual_seed(0)
    for name in ("default", "critic"):
        add_lora(model, LORA, name=name)
        with torch.no_grad():
            for parameter in lora_parameters(model, name):
                parameter.normal_(std=0.2, generator=generator)
    return model


def velocity(roles: Roles) -> torch.Tensor:
    batch = make_batch(0, 0)
    return roles.velocity(batch.latents, torch.full((2, 3), 0.4), batch)


def test_a_role_is_the_network_with_its_adapter_alone() -> None:
    model = two_adapters()
    roles = Roles(model, {"critic": "critic"})
    found = {"default": velocity(roles)}
    for role in (BASE, "critic"):
        with roles.playing(role):
            found[role] = velocity(roles)
    torch.testing.assert_close(velocity(roles), found["default"], rtol=0, atol=0)  # it rests as the student

    for role, dropped in (("default", "critic"), ("critic", "default"), (BASE, None)):
        alone = two_adapters()
        remove_lora(alone, dropped)
        batch = make_batch(0, 0)
        expect = alone(batch.latents, torch.full((2, 3), 400.0), batch.text)
        torch.testing.assert_close(found[role], expect, rtol=0, atol=0)


def test_roles_nest_and_an_error_leaves_none_on() -> None:
    roles = Roles(two_adapters(), {"critic": "critic"})
    with roles.playing("critic"):
        with roles.playing(BASE):
            assert roles.role == BASE
        assert roles.role == "critic"
    with pytest.raises(ZeroDivisionError), roles.playing("critic"):
        raise ZeroDivisionError
    assert roles.role == "default"


@pytest.mark.parametrize("checkpointing", ["none", "attention", "selective", "full"])
def test_checkpointed_gradients_are_the_role_s_own(checkpointing: str) -> None:
    """Recomputed blocks wear what the forward pass wore, also after passes in other roles."""

    def gradients(form: str) -> list[torch.Tensor]:
        compute = ComputeConfig.model_validate({"precision": "fp32", "checkpointing": form})
        model = parallelize(two_adapters(), ParallelConfig(), compute, ALONE)
        roles = Roles(model, {"critic": "critic"})
        with torch.no_grad(), roles.playing(BASE):
            target = velocity(roles)
        with roles.playing("critic"):
            (velocity(roles) - target).square().mean().backward()
        (velocity(roles) - target).square().mean().backward()
        return [p.grad for name in ("default", "critic") for p in lora_parameters(model, name)]

    for found, expect in zip(gradients(checkpointing), gradients("none"), strict=True):
        torch.testing.assert_close(found, expect, rtol=1e-6, atol=1e-9)
        assert expect.any()


def test_a_backward_pass_in_another_role_is_refused() -> None:
    roles = Roles(two_adapters(), {"critic": "critic"})
    with roles.playing("critic"):
        loss = velocity(roles).sum()
    with pytest.raises(RuntimeError, match="backward pass of role 'critic' began in role 'default'"):
        loss.backward()


def test_a_network_without_adapters_has_no_roles() -> None:
    with pytest.raises(TrainError, match="needs lora"):
        Roles(tiny())


@pytest.mark.exhaustive
def test_a_switch_compiles_nothing_again() -> None:
    """One graph per role, shape and grad mode; the same roles played again find their graphs."""
    graphs = 0

    def counting(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        nonlocal graphs
        graphs += 1
        return graph.forward

    torch._dynamo.reset()
    compute = ComputeConfig(precision="fp32", compile=True)
    model = parallelize(two_adapters(), ParallelConfig(), compute, ALONE, backend=counting)
    roles, seen = Roles(model, {"critic": "critic"}), []
    for _ in range(3):
        with torch.no_grad(), roles.playing(BASE):
            velocity(roles)
        with roles.playing("critic"):
            velocity(roles).sum().backward()
        velocity(roles).sum().backward()
        seen.append(graphs)
    assert seen[0] >= 3
    assert seen[1:] == seen[:1] * 2
    torch._dynamo.reset()
