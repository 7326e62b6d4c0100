"""Adapters: what they compute against the formula, merging exactly undone, several at once, files both ways."""

import itertools

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reelwright.model.blocks import Modulation
from reelwright.model.config import LoRAConfig
from reelwright.model.errors import ModelError
from reelwright.model.lora.adapters import (
    LoRALinear,
    add_lora,
    init_lora,
    lora_parameters,
    merge_lora,
    remove_lora,
    set_lora_weights,
    unmerge_lora,
)
from reelwright.model.lora.files import DOT, load_lora, lora_state, save_lora
from tests.training.ranks import ranks

CONFIG = LoRAConfig(rank=3, alpha=6, targets=("*.qkv", "*.proj", "*.kv_linear"))


class Block(nn.Module):
    """Two linears, one fused, under the names that matter."""

    def __init__(self, width: int = 12):
        super().__init__()
        self.qkv, self.kv_linear = nn.Linear(width, 3 * width), nn.Linear(width, 2 * width, bias=False)
        self.proj = nn.Linear(5 * width, width)

    def forward(self, x):
        return self.proj(torch.cat([self.qkv(x), self.kv_linear(x)], -1))


class Net(nn.Module):
    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([Block().to(dtype), Block().to(dtype)])
        self.head = nn.Linear(12, 4).to(dtype)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def adapted(name="default", *, seed=1, net=None, config=CONFIG) -> Net:
    """A net whose adapter does something."""
    net = net or Net()
    add_lora(net, config, name=name, seed=seed)
    torch.manual_seed(seed)
    for p in lora_parameters(net, name):
        p.data = torch.randn_like(p)
    return net


X = torch.linspace(-1, 1, 2 * 5 * 12).view(2, 5, 12)


def test_a_new_adapter_changes_nothing_and_alone_is_trained():
    net, plain = Net(), Net()
    names = set(net.state_dict())
    assert add_lora(net, CONFIG) == [f"blocks.{i}.{n}" for i in (0, 1) for n in ("qkv", "kv_linear", "proj")]
    assert torch.equal(net(X), plain(X))
    assert names < set(net.state_dict())
    assert "blocks.0.qkv.lora.default.down.weight" in net.state_dict()
    net(X).sum().backward()
    trained = [p for p in net.parameters() if p.grad is not None]
    assert {id(p) for p in trained} == {id(p) for p in lora_parameters(net)}
    ups = [net.blocks[0].qkv.lora["default"].up[j].weight for j in range(3)]
    assert all(u.grad.abs().max() > 0 for u in ups)


def test_the_update_is_block_diagonal_with_alpha_over_rank():
    net = adapted()
    layer, adapter = net.blocks[0].qkv, net.blocks[0].qkv.lora["default"]
    down = adapter.down.weight.double()
    update = torch.zeros(36, 12, dtype=torch.float64)
    for j in range(3):  # each projection has its own rank rows of down
        update[12 * j : 12 * j + 12] = adapter.up[j].weight.double() @ down[3 * j : 3 * j + 3]
    expect = X.double() @ (layer.weight.double() + 6 / 3 * update).T + layer.bias.double()
    torch.testing.assert_close(layer(X).double(), expect, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merging_computes_the_same_and_unmerging_is_exact(dtype):
    net = adapted(net=Net(dtype))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x = X.to(dtype)
    apart = net(x)
    merge_lora(net)
    assert not torch.equal(net.blocks[0].qkv.weight, before["blocks.0.qkv.weight"])
    bound = 1e-4 if dtype == torch.float32 else 0.1
    assert (net(x) - apart).abs().max() < bound * apart.abs().max()
    merge_lora(net)  # twice is once
    unmerge_lora(net)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(net(x), apart)


def test_merging_for_good_leaves_a_plain_model():
    net = adapted()
    apart = net(X)
    merge_lora(net, keep_base=False)
    assert not any(isinstance(m, LoRALinear) for m in net.modules())
    assert set(net.state_dict()) == set(Net().state_dict())
    torch.testing.assert_close(net(X), apart, rtol=1e-4, atol=1e-4)


def test_several_adapters_add_up_by_weight():
    plain, a, b = Net(), adapted("a", seed=1), adapted("b", seed=2)
    both = adapted("b", seed=2, net=adapted("a", seed=1))
    layer = lambda net: net.blocks[1].qkv(X)  # noqa: E731
    base = layer(plain)
    for wa, wb in itertools.product((0, 0.5, -1), (0, 1)):
        set_lora_weights(both, {"a": wa, "b": wb})
        expect = base + wa * (layer(a) - base) + wb * (layer(b) - base)
        torch.testing.assert_close(layer(both), expect, rtol=1e-4, atol=1e-4)
        merge_lora(both)
        torch.testing.assert_close(layer(both), expect, rtol=1e-4, atol=1e-4)
        if (wa, wb) != (-1, 1):
            unmerge_lora(both)
    set_lora_weights(both, {"a": 0, "b": 0})  # while merged
    assert torch.equal(layer(both), base)
    with pytest.raises(ModelError, match="no adapter is called 'c'; there are: a, b"):
        set_lora_weights(both, {"c": 1})


def test_removing_gives_the_plain_layers_back():
    both = adapted("b", seed=2, net=adapted("a", seed=1))
    merge_lora(both)
    remove_lora(both, "a")
    unmerge_lora(both)
    torch.testing.assert_close(both(X), adapted("b", seed=2)(X))
    remove_lora(both)
    assert type(both.blocks[0].qkv) is nn.Linear
    assert torch.equal(both(X), Net()(X))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_goes_there_and_back_bit_for_bit(tmp_path, dtype):
    net = adapted(net=Net(dtype))
    save_lora(net, tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    key = f"lora{DOT}blocks{DOT}0{DOT}"
    assert tensors[f"{key}qkv.lora_up.blocks.2.weight"].shape == (12, 3)
    assert tensors[f"{key}proj.lora_up.weight"].shape == (12, 3)
    assert tensors[f"{key}proj.alpha_scale"] == 2.0
    other = Net(dtype)
    assert len(load_lora(other, tmp_path / "a.safetensors", name="again")) == 6
    assert torch.equal(other(X.to(dtype)), net(X.to(dtype)))
    save_lora(other, tmp_path / "b.safetensors", name="again")
    again = load_file(tmp_path / "b.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[k], v) and again[k].dtype == v.dtype for k, v in tensors.items())


def test_loading_fills_an_adapter_that_is_there(tmp_path):
    save_lora(adapted(), tmp_path / "a.safetensors")
    net = Net()
    add_lora(net, CONFIG)
    optimized = lora_parameters(net)
    load_lora(net, tmp_path / "a.safetensors", weight=0.5)
    assert all(p is q for p, q in zip(lora_parameters(net), optimized, strict=True))
    set_lora_weights(net, {"default": 1})
    assert torch.equal(net(X), adapted()(X))


def _broken(tensors, kind):
    key = f"lora{DOT}blocks{DOT}0{DOT}qkv"
    if kind == "keys":
        tensors["blocks.0.qkv.lora_A.weight"] = torch.zeros(3)
    elif kind == "layer":
        tensors = {k.replace(f"blocks{DOT}1", f"blocks{DOT}7"): v for k, v in tensors.items()}
    elif kind == "gap":
        del tensors[f"{key}.lora_up.blocks.1.weight"]
    elif kind == "size":
        tensors[f"{key}.lora_down.weight"] = torch.zeros(9, 13)
    else:
        tensors[f"{key}.lora_down.weight"] = torch.zeros(8, 12)
    return tensors


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("keys", r"1 of 25 keys are no LoRA keys .*: blocks.0.qkv.lora_A.weight"),
        ("layer", r"3 of its 6 layers are not in the model: blocks.7.kv_linear"),
        ("gap", r"blocks.0.qkv is not whole"),
        ("size", r"blocks.0.qkv: 13 -> 36; the model has 12 -> 36"),
        ("uneven", r"blocks.0.qkv: down and up do not fit each other"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence_and_changes_nothing(tmp_path, kind, sentence):
    save_file(_broken(lora_state(adapted()), kind), tmp_path / "a.safetensors")
    net = Net()
    with pytest.raises(ModelError, match=sentence):
        load_lora(net, tmp_path / "a.safetensors")
    assert set(net.state_dict()) == set(Net().state_dict())


def test_wrong_use_is_one_sentence(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="not a LoRA file"):
        load_lora(Net(), tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="no linear layer matches"):
        add_lora(Net(), LoRAConfig(targets=("*.nothing",)))
    with pytest.raises(ModelError, match="has an adapter called 'default'"):
        add_lora(adapted(), CONFIG)
    with pytest.raises(ModelError, match="no adapter called 'z'"):
        save_lora(adapted(), tmp_path / "y.safetensors", name="z")
    with pytest.raises(ModelError, match="no name of an adapter"):
        add_lora(Net(), CONFIG, name="a.b")


def test_on_the_meta_device_and_then_filled():
    with torch.device("meta"):
        net = Net()
    add_lora(net, CONFIG, seed=3)
    net.to_empty(device="cpu")
    net.load_state_dict(Net().state_dict(), strict=False)
    init_lora(net, seed=3)
    assert torch.equal(net(X), Net()(X))
    direct = Net()
    add_lora(direct, CONFIG, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), direct.state_dict().values(), strict=True))


def test_under_autocast_with_adapters_of_another_dtype():
    net = Net(torch.bfloat16)
    add_lora(net, CONFIG, dtype=torch.float32)
    assert net.blocks[0].qkv.lora["default"].down.weight.dtype == torch.float32
    assert net(X.bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        net(X).float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in lora_parameters(net))


def test_modulation_is_fp32_with_its_adapters_in_a_bf16_network():
    layer = Modulation(8, 4, 6)
    holder = torch.nn.ModuleDict({"adaLN_modulation": layer.bfloat16()})
    add_lora(holder, LoRAConfig(rank=2, alpha=2, targets=("*.1",)), dtype=torch.float32)
    adapter = layer[1].lora["default"]
    torch.nn.init.normal_(adapter.up[0].weight)
    t = torch.randn(2, 3, 8)
    hidden = torch.nn.functional.silu(t)
    weight, bias = layer[1].weight.float() + adapter.update(), layer[1].bias.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(t)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, hidden @ weight.T + bias, rtol=1e-5, atol=1e-5)


def test_sharded_by_fsdp2_it_trains_merges_and_saves_as_on_one_rank(tmp_path):
    """Two gloo ranks do what tests/model/lora/lora_ranks.py says; the same in one process here."""
    from tests.model.lora.lora_ranks import train_merge_and_save

    ranks(2, train_merge_and_save, tmp_path)
    net = Net()
    add_lora(net, CONFIG, seed=5)
    optimizer = torch.optim.SGD(lora_parameters(net), lr=0.1)
    for _ in range(2):
        net(X).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    sharded = load_file(tmp_path / "sharded.safetensors")
    for key, value in lora_state(net).items():
        torch.testing.assert_close(sharded[key], value, rtol=1e-5, atol=1e-6)
    merged = load_file(tmp_path / "merged.safetensors")["out"]
    torch.testing.assert_close(merged, net(X).detach(), rtol=1e-4, atol=1e-5)
