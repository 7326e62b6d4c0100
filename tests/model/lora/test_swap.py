"""Adapters of one stage for a while, and the weights as they were after it."""

import pytest
import torch

from reelwright.model.config import LoRAConfig
from reelwright.model.dit import DiT
from reelwright.model.errors import ModelError
from reelwright.model.lora.adapters import add_lora, lora_layers, merge_lora, set_lora_weights
from reelwright.model.lora.swap import only_adapters
from tests.model.test_cache import CONFIG, inputs, stirred


@pytest.fixture
def model() -> DiT:
    """A network with two adapters, of different layers, that do something."""
    model = stirred(CONFIG)
    for name, targets in (("first", ("*.qkv", "*.w?")), ("second", ("*.qkv", "*adaLN*", "final_layer.linear"))):
        add_lora(model, LoRAConfig(rank=2, alpha=1, targets=targets), name=name)
    noise = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".up." in name:
                weight.copy_(torch.randn(weight.shape, generator=noise))
    return model


def run(model: DiT) -> torch.Tensor:
    with torch.no_grad():
        return model(*inputs())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("merged", [True, False])
def test_all_is_as_it_was_bit_for_bit(model: DiT, merged: bool, dtype: torch.dtype) -> None:
    model.to(dtype)
    set_lora_weights(model, {"first": 0.7, "second": 0.0})
    if merged:
        merge_lora(model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with only_adapters(model, {"second": 1.0}):
        assert {layer.base is None for _, layer in lora_layers(model)} == {True}
        within = run(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert torch.equal(weight, after[name]), name
    assert [layer.base is not None for _, layer in lora_layers(model)] == [merged] * len(lora_layers(model))
    assert (within - run(model)).abs().max() > 1e-2


def test_within_there_is_the_named_adapter_alone(model: DiT) -> None:
    set_lora_weights(model, {"first": 0.0, "second": 0.5})
    alone = run(model)
    set_lora_weights(model, {"first": 1.0, "second": 0.0})
    merge_lora(model)
    with only_adapters(model, {"second": 0.5}):
        torch.testing.assert_close(run(model), alone, rtol=0, atol=0)
    with only_adapters(model, {}):
        torch.testing.assert_close(run(model), run(stirred(CONFIG)), rtol=0, atol=0)


def test_an_error_within_restores_too(model: DiT) -> None:
    merge_lora(model)
    before = run(model)
    with pytest.raises(RuntimeError, match="stop"), only_adapters(model, {"second": 1.0}):
        raise RuntimeError("stop")
    torch.testing.assert_close(run(model), before, rtol=0, atol=0)
    with pytest.raises(ModelError, match="no adapter is called 'third'"), only_adapters(model, {"third": 1.0}):
        pass
    torch.testing.assert_close(run(model), before, rtol=0, atol=0)
