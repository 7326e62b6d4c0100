"""`reel checkpoint export --format …`: what it writes for others, and that `--verify` finds what is wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reelwright.errors import UserError
from reelwright.model.lora.adapters import merge_lora
from reelwright.model.lora.files import load_lora, save_lora
from reelwright.pipelines.generate.loras import find_lora
from reelwright.training.weights.formats import Choice, lora_layers_of, open_network
from reelwright.training.weights.verify import verify_lora, verify_network
from tests.model.weights import peer
from tests.training.weights.test_checkpoint_cli import TINY, adapted, call, published, same, tiny, trained

__all__ = ["call"]


def inputs():
    random = torch.Generator().manual_seed(0)
    return torch.randn(1, 16, 2, 4, 6, generator=random), torch.tensor([300.0]), torch.randn(1, 5, 24, generator=random)


@torch.no_grad()
def test_a_network_goes_out_as_a_folder_for_fastvideo_and_computes_the_same_there(call, tmp_path):
    run = trained(tmp_path / "run", tiny())
    code, said = call("export", run, tmp_path / "out", "--format", "diffusers", "--verify", "--max-shard", "100KB")
    assert code == 0, said
    count = len(tiny().state_dict())
    assert f"verified: {count} tensors read back by their names; outputs equal bit for bit" in said
    files = sorted((tmp_path / "out" / "transformer").glob("*.safetensors"))
    index = json.loads((tmp_path / "out/transformer/diffusion_pytorch_model.safetensors.index.json").read_text())
    assert len(files) > 2
    assert set(index["weight_map"].values()) == {file.name for file in files}
    there = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert len(there) == count + TINY.depth * 6  # weight and bias of q, k, v for qkv, and of k, v for kv_linear
    config = json.loads((tmp_path / "out" / "transformer" / "config.json").read_text())
    assert config["_class_name"] == "LongCatTransformer3DModel"
    assert config["num_attention_heads"] == 4
    assert "num_heads" not in config
    x, t, text = inputs()
    theirs, ours = peer.forward(there, x, t, text, 4), tiny()(x, t, text)
    assert (theirs - ours).norm() < 1e-5 * ours.norm()


def test_that_folder_comes_back_bit_for_bit(call, tmp_path):
    assert call("export", published(tmp_path / "hub"), tmp_path / "out", "--format", "diffusers")[0] == 0
    assert same(tmp_path / "out", tiny())
    assert "FastVideo's, read as the published ones" in call("show", tmp_path / "out")[1]
    code, said = call("import", tmp_path / "out", tmp_path / "in")
    assert code == 0, said
    assert load_file(next((tmp_path / "in").glob("*.safetensors"))).keys() == tiny().state_dict().keys()


@pytest.mark.parametrize("kind", ["adapters", "averages"])
def test_what_goes_out_for_others_is_merged_and_averaged_as_the_published_form_is(call, tmp_path, kind):
    if kind == "adapters":
        run, expected = trained(tmp_path / "run", adapted(), init=published(tmp_path / "base")), adapted()
        merge_lora(expected, keep_base=False)
    else:
        averages = {name: weight.detach() for name, weight in tiny(seed=1).named_parameters()}
        run, expected = trained(tmp_path / "run", tiny(), ema=averages), tiny(seed=1)
    averaged = ["--ema"] if kind == "averages" else []
    code, said = call("export", run, tmp_path / "out", "--format", "diffusers", *averaged)
    assert code == 0, said
    assert same(tmp_path / "out", expected)


def test_a_pipeline_has_its_other_folders_and_a_manifest(call, tmp_path):
    hub = tmp_path / "hub"
    published(hub / "dit")
    for name in ("vae", "text_encoder", "tokenizer", "scheduler"):
        (hub / name).mkdir()
        (hub / name / "config.json").write_text(f'{{"is": "{name}"}}')
    code, said = call("export", hub / "dit", tmp_path / "out", "--format", "diffusers", "--components", hub)
    assert code == 0, said
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert index["_class_name"] == "LongCatPipeline"
    assert index["transformer"] == ["diffusers", "LongCatTransformer3DModel"]
    parts = [name for name, value in index.items() if isinstance(value, list)]
    assert all((tmp_path / "out" / name / "config.json").is_file() for name in parts)
    code, said = call("export", hub / "dit", tmp_path / "no", "--format", "diffusers", "--components", hub / "dit")
    assert code == 1
    assert "no vae, text_encoder, tokenizer, scheduler in it" in said
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("form", ["published", "diffusers", "fastvideo", "comfyui", "kohya"])
def test_an_adapter_goes_out_in_every_form_and_back(call, tmp_path, form):
    run = trained(tmp_path / "run", adapted(), init=published(tmp_path / "base"))
    code, said = call("export", run, tmp_path / "out", "--lora", "--format", form, "--verify")
    assert code == 0, said
    assert "verified: 16 layers read back by their names; outputs equal bit for bit" in said
    code, said = call("import", tmp_path / "out", tmp_path / "in", "--base", tmp_path / "base")
    assert code == 0, said
    save_lora(adapted(), tmp_path / "expected.safetensors")
    found, expected = load_file(tmp_path / "in" / "lora.safetensors"), load_file(tmp_path / "expected.safetensors")
    assert found.keys() == expected.keys()
    other = tiny()
    load_lora(other, find_lora(tmp_path / "out", 1.0, tmp_path / "base").file)
    x, t, text = inputs()
    assert torch.equal(other(x, t, text), adapted()(x, t, text))
    assert "rank 4" in call("show", tmp_path / "out")[1]


def test_one_form_becomes_another_without_a_checkpoint(call, tmp_path):
    save_lora(adapted(), tmp_path / "some.safetensors")
    code, said = call(
        "export", tmp_path / "some.safetensors", tmp_path / "out", "--format", "comfyui", "--dtype", "bf16"
    )
    assert code == 0, said
    tensors = load_file(tmp_path / "out" / "lora.safetensors")
    key = "diffusion_model.blocks.0.self_attn.q"
    assert tensors[f"{key}.lora_down.weight"].shape == (4, 48)
    assert tensors[f"{key}.lora_up.weight"].dtype == torch.bfloat16
    assert tensors[f"{key}.alpha"] == 2.0


def test_verify_finds_a_wrong_tensor_and_a_wrong_scale(call, tmp_path):
    hub = published(tmp_path / "hub")
    assert call("export", hub, tmp_path / "out", "--format", "diffusers")[0] == 0
    network = open_network(hub, Choice())
    verify_network(network, tmp_path / "out")
    (file,) = (tmp_path / "out" / "transformer").glob("*.safetensors")
    tensors = load_file(file)
    at = "blocks.1.self_attn"
    tensors[f"{at}.to_q.weight"], tensors[f"{at}.to_k.weight"] = (
        tensors[f"{at}.to_k.weight"],
        tensors[f"{at}.to_q.weight"],
    )
    save_file(tensors, file)
    with pytest.raises(UserError, match="blocks.1.attn.qkv.weight is not what was written"):
        verify_network(network, tmp_path / "out")
    save_lora(adapted(), tmp_path / "some.safetensors")
    assert call("export", tmp_path / "some.safetensors", tmp_path / "small", "--format", "kohya")[0] == 0
    layers, _ = lora_layers_of(tmp_path / "some.safetensors", Choice())
    file = tmp_path / "small" / "lora.safetensors"
    verify_lora(layers, file)
    tensors = load_file(file)
    tensors["lora_unet_blocks_0_ffn_w2.alpha"] *= 2
    save_file(tensors, file)
    with pytest.raises(UserError, match="blocks.0.ffn.w2 gives other outputs than its source"):
        verify_lora(layers, file)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("hub", "w", "--format", "comfyui"), "'comfyui': a network goes out as published, diffusers"),
        (("some.safetensors", "w", "--format", "peft"), "'peft': a LoRA goes out as published, diffusers, fastvideo"),
        (("hub", "w", "--components", "hub"), "--components goes with --format diffusers"),
        (("hub", "hub", "--format", "diffusers"), "not empty"),
        (("empty", "w", "--format", "diffusers"), "no checkpoint here"),
    ],
)
def test_what_cannot_go_out_is_one_sentence(call, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    published(Path("hub"))
    Path("empty").mkdir()
    save_lora(adapted(), "some.safetensors")
    code, said = call("export", *arguments)
    assert code == 1
    assert sentence in said.splitlines()[-1]
