"""What `reel checkpoint show` and `--verify` say, by hand."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reelwright.errors import UserError
from reelwright.model.lora.files import published_tensors, read_lora, save_lora, write_lora
from reelwright.model.lora.layer_weights import LayerWeights
from reelwright.training.weights.describe import describe, lora_line
from reelwright.training.weights.verify import Verified, verify_lora
from tests.training.weights.test_checkpoint_cli import TINY, adapted, published, tiny, trained


def count(tensors: dict[str, torch.Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def test_a_checkpoint_is_told_by_its_values(tmp_path: Path) -> None:
    averages = {name: weight for name, weight in tiny().state_dict().items() if "qkv" in name}
    lines = describe(trained(tmp_path / "run", tiny(), ema=averages))
    assert lines[0].startswith(f"training checkpoint {tmp_path}")
    assert lines[1:5] == [
        "step         7",
        "model        2 blocks, hidden 48, 4 heads, 16 latent channels, patch 1×2×2, text width 24",
        f"ema          {count(averages) / 1e6:,.3f} M values",
        f"model        {count(tiny().state_dict()) / 1e6:,.3f} M values",
    ]
    assert lines[-1] == 'snapshot     {"name": "train-v1", "content_hash": "c0ffee"}'
    base = published(tmp_path / "base")
    assert "adapters     default" in describe(trained(tmp_path / "lora", adapted(), init=str(base)))


def test_a_network_is_told_by_its_parameters_and_files(tmp_path: Path) -> None:
    lines = describe(published(tmp_path / "hub"))
    state, files = tiny().state_dict(), len(list((tmp_path / "hub").glob("*.safetensors")))
    assert lines[2] == f"parameters   {count(state) / 1e9:,.4f} B, F32, {files} files"
    assert count(state) > 1e5
    assert lines[3].startswith(f"keys         {len(state)} keys fit")
    assert [line[:12] for line in lines[4:]] == [" " * 12] * len(lines[4:])


def test_a_lora_is_told_by_its_layers() -> None:
    one = LayerWeights(torch.zeros(2, 10), [torch.zeros(20, 2)], torch.tensor(0.5))
    three = LayerWeights(torch.zeros(12, 10), [torch.zeros(30, 4)] * 3, torch.tensor(2.0))
    layers = {"blocks.0.attn.proj": one, "blocks.0.attn.qkv": three, "blocks.1.attn.qkv": three}
    values = (20 + 40) + 2 * (120 + 360)
    assert lora_line(layers) == (
        f"LoRA of 3 layers, rank 2 to 4, alpha 1 to 8, {values / 1e6:,.3f} M parameters: attn.proj, attn.qkv"
    )
    assert ", rank 2, alpha 1, " in lora_line({"blocks.0.attn.proj": one})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_outputs_may_differ_by_the_rounding_of_the_type_and_the_largest_is_told(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    save_lora(adapted(), tmp_path / "some.safetensors")
    layers = {
        name: LayerWeights(one.down.to(dtype), [up.to(dtype) for up in one.ups], one.scale)
        for name, one in read_lora(tmp_path / "some.safetensors").items()
    }
    rounding = 2.0 ** -{torch.float32: 20, torch.float16: 10, torch.bfloat16: 7}[dtype]  # a little above half a step
    first = sorted(layers)[0]
    for by, fits in ((0.0, True), (rounding, True), (32 * rounding, False)):
        given = dict(layers)
        given[first] = LayerWeights(layers[first].down, layers[first].ups, layers[first].scale * (1 + by))
        write_lora(published_tensors(given), tmp_path / f"{by}.safetensors")
        if not fits:
            with pytest.raises(UserError, match=f"{first} gives other outputs than its source, by "):
                verify_lora(layers, tmp_path / f"{by}.safetensors")
            continue
        found = verify_lora(layers, tmp_path / f"{by}.safetensors")
        assert found.compared == len(layers)
        assert found.error == pytest.approx(by, rel=0.1)
    tensors = load_file(tmp_path / "0.0.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if first.replace(".", "___lorahyphen___") not in name}
    save_file(kept, tmp_path / "fewer.safetensors")
    if len(kept) < len(tensors):
        with pytest.raises(UserError, match=f"1 layers are on one side alone, for example {first}"):
            verify_lora(layers, tmp_path / "fewer.safetensors")


def test_a_comparison_says_how_near() -> None:
    assert Verified(3, 0.0).line("layers") == "verified: 3 layers read back by their names; outputs equal bit for bit"
    assert Verified(3, 1.234e-3).line("layers").endswith("outputs equal to 1.2e-03 of their norm")
    assert TINY.depth == 2
