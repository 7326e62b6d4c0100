"""Weights in the published layout: bitwise both ways, in shards, within the model's memory, and misfits said."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from reelwright.model.checkpoint import compare_keys, load_model, load_weights, save_model, weights_hash
from reelwright.model.config import LONGCAT_VIDEO, DiTConfig, LoRAConfig
from reelwright.model.dit import DiT
from reelwright.model.errors import ModelError
from reelwright.model.lora.adapters import add_lora, merge_lora
from reelwright.model.weights.weight_files import CLASS_NAME, STEM, infer_config, open_weights, read_config
from tests.conftest import ROOT

TINY = DiTConfig(hidden_size=48, depth=2, num_heads=4, caption_channels=24, adaln_tembed_dim=16, in_channels=8,
                 out_channels=8, frequency_embedding_size=32)  # fmt: skip


def tiny(seed=0, dtype=torch.float32) -> DiT:
    """Every tensor with values of its own."""
    torch.manual_seed(seed)
    model = DiT(TINY)
    for p in model.parameters():
        p.data = torch.randn_like(p)
    return model.to(dtype)


def same(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("max_bytes", [10**9, 50_000])
def test_saved_and_loaded_bit_for_bit(tmp_path, dtype, max_bytes):
    model = tiny(dtype=dtype)
    files = save_model(model, TINY, tmp_path / "w", max_shard_bytes=max_bytes)
    assert same(load_model(tmp_path / "w"), model)
    stored = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert stored.keys() == model.state_dict().keys()
    if max_bytes == 10**9:
        assert [f.name for f in files] == [f"{STEM}.safetensors"]
        return
    assert [f.name for f in files] == [f"{STEM}-{i + 1:05d}-of-{len(files):05d}.safetensors" for i in range(len(files))]
    assert len(files) > 3
    index = json.loads((tmp_path / "w" / f"{STEM}.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in stored.values())
    assert all(name in load_file(tmp_path / "w" / file) for name, file in index["weight_map"].items())
    sizes = {f: sum(t.nbytes for t in load_file(f).values()) for f in files}
    assert all(size <= max_bytes or len(load_file(f)) == 1 for f, size in sizes.items())


def test_another_s_reader_reads_the_shards(tmp_path):
    from huggingface_hub import load_torch_model

    save_model(tiny(), TINY, tmp_path / "w", max_shard_bytes=50_000)
    other = tiny(seed=1)
    load_torch_model(other, tmp_path / "w", strict=True, safe=True, filename_pattern=STEM + "{suffix}.safetensors")
    assert same(other, tiny())


def test_the_config_has_the_published_names_and_carries_others_along(tmp_path):
    published = {"_class_name": CLASS_NAME, "_diffusers_version": "0.35.0", "enable_bsa": False, "cp_split_hw": None}
    published |= {"bsa_params": {"sparsity": 0.9375}, **TINY.model_dump(mode="json", exclude={"text_tokens"})}
    save_model(tiny(), TINY, tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text(json.dumps(published))
    config, extra = read_config(tmp_path / "a")
    assert config == TINY
    assert extra.keys() == {"_diffusers_version", "enable_bsa", "cp_split_hw", "bsa_params"}
    save_model(load_model(tmp_path / "a"), config, tmp_path / "b", extra=extra)
    assert json.loads((tmp_path / "b" / "config.json").read_text()) == published


def test_a_pipeline_s_folder_and_one_file_load_too(tmp_path):
    model = tiny()
    save_model(model, TINY, tmp_path / "pipeline" / "dit")
    assert same(load_model(tmp_path / "pipeline"), model)
    save_file({f"model.{k}": v for k, v in model.state_dict().items()}, tmp_path / "alone.safetensors")
    assert same(load_model(tmp_path / "alone.safetensors"), model)
    config = json.dumps(TINY.model_dump(mode="json"))
    save_file(model.state_dict(), tmp_path / "with.safetensors", metadata={"config": config})
    assert load_model(tmp_path / "with.safetensors").config == TINY


@pytest.mark.parametrize("config", [TINY, LONGCAT_VIDEO, TINY.model_copy(update={"mlp_ratio": 16 // 8})])
def test_sizes_follow_from_shapes(config):
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in DiT(config).state_dict().items()}
    found = infer_config(shapes)
    assert found.model_copy(update={"mlp_ratio": config.mlp_ratio}) == config
    assert found.ffn_width == config.ffn_width


def test_a_cast_and_weights_into_a_model_that_is_there(tmp_path):
    model = tiny()
    save_model(model, TINY, tmp_path / "w")
    assert same(load_model(tmp_path / "w", dtype=torch.bfloat16), tiny(dtype=torch.bfloat16))
    save_model(model, TINY, tmp_path / "half", dtype=torch.bfloat16)
    assert same(load_model(tmp_path / "half"), tiny(dtype=torch.bfloat16))
    other = tiny(seed=1)
    add_lora(other, LoRAConfig(rank=2))
    assert load_weights(other, tmp_path / "w").fits
    merge_lora(other, keep_base=False)
    assert same(other, model)
    load_weights(other, tmp_path / "half")
    assert same(other, tiny(dtype=torch.bfloat16).float())


def test_the_hash_is_of_the_tensors_not_of_the_files(tmp_path):
    save_model(tiny(), TINY, tmp_path / "one")
    save_model(tiny(), TINY, tmp_path / "many", max_shard_bytes=50_000)
    save_model(tiny(seed=1), TINY, tmp_path / "other")
    one, many, other = (weights_hash(open_weights(tmp_path / n)) for n in ("one", "many", "other"))
    assert one == many == weights_hash(tiny().state_dict())
    assert one != other


def test_a_report_names_what_does_not_fit(tmp_path):
    state = tiny().state_dict()
    del state["blocks.0.attn.qkv.bias"]
    state["blocks.0.extra"] = torch.zeros(1)
    state["final_layer.linear.bias"] = torch.zeros(3)
    report = compare_keys(tiny(), state)
    assert report.missing == ("blocks.0.attn.qkv.bias",)
    assert report.unexpected == ("blocks.0.extra",)
    assert report.mismatched == (("final_layer.linear.bias", (32,), (3,)),)
    assert not report.fits
    lines = list(report.lines())
    assert lines[0].endswith("1 missing, 1 unexpected, 1 of another shape")
    assert "  shape      final_layer.linear.bias: [32] in the model, [3] in the file" in lines
    save_model(state, TINY, tmp_path / "w")
    with pytest.raises(ModelError, match=r"w does not fit the model \(.*for example final_layer.linear.bias"):
        load_model(tmp_path / "w")


def test_missing_and_unexpected_keys_where_they_are_allowed(tmp_path):
    state = tiny().state_dict()
    del state["blocks.0.attn.qkv.bias"]
    save_model(state | {"blocks.0.extra": torch.zeros(1)}, TINY, tmp_path / "w")
    with pytest.raises(ModelError, match="1 missing, 1 unexpected"):
        load_model(tmp_path / "w", allow_missing=True)
    model = load_model(tmp_path / "w", allow_missing=True, allow_unexpected=True)
    assert torch.isfinite(model.blocks[0].attn.qkv.bias).all()
    assert torch.equal(model.blocks[1].attn.qkv.bias, tiny().blocks[1].attn.qkv.bias)


def _break(folder, kind):
    config = json.loads((folder / "config.json").read_text())
    index = folder / f"{STEM}.safetensors.index.json"
    if kind == "class":
        (folder / "config.json").write_text(json.dumps(config | {"_class_name": "WanTransformer3DModel"}))
    elif kind == "value":
        (folder / "config.json").write_text(json.dumps(config | {"depth": "deep"}))
    elif kind == "json":
        (folder / "config.json").write_text("{")
    elif kind == "config":
        (folder / "config.json").unlink()
    elif kind == "shard":
        next(iter(folder.glob("*00002-of*"))).unlink()
    elif kind == "outside":
        index.write_text(json.dumps({"weight_map": {"a": "../../a.safetensors"}}))
    elif kind == "index":
        index.unlink()
    else:
        next(iter(folder.glob("*00002-of*"))).write_bytes(b"torn")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("class", "is of a WanTransformer3DModel"),
        ("value", "depth: Input should be a valid integer"),
        ("json", "not JSON"),
        ("config", "config.json is missing"),
        ("shard", r"1 of \d+ files are missing"),
        ("outside", "is not the name of a safetensors file"),
        ("index", "and no index"),
        ("torn", "not a safetensors file"),
    ],
)
def test_a_broken_folder_is_one_sentence(tmp_path, kind, sentence):
    save_model(tiny(), TINY, tmp_path / "w", max_shard_bytes=50_000)
    _break(tmp_path / "w", kind)
    with pytest.raises(ModelError, match=sentence) as error:
        load_model(tmp_path / "w")
    assert "\n" not in str(error.value)


def test_nothing_is_written_over_or_half(tmp_path):
    save_model(tiny(), TINY, tmp_path / "w")
    with pytest.raises(ModelError, match="not empty"):
        save_model(tiny(), TINY, tmp_path / "w")
    adapted = tiny()
    add_lora(adapted, LoRAConfig(rank=2))
    with pytest.raises(ModelError, match="has adapters"):
        save_model(adapted, TINY, tmp_path / "x")
    with pytest.raises(ModelError, match="no such file or folder"):
        load_model(tmp_path / "x")
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


PEAK = """
import sys
import torch
from reelwright.model.checkpoint import load_model
torch.set_num_threads(1)
def peak(): return int([l for l in open("/proc/self/status") if l.startswith("VmHWM")][0].split()[1]) * 1024
load_model(sys.argv[2])  # code and small things
before = peak()
model = load_model(sys.argv[1], dtype=torch.bfloat16)
print((peak() - before) / sum(p.nbytes for p in model.parameters()))
"""


@pytest.mark.exhaustive
def test_loading_needs_the_memory_of_the_model_once_not_twice(tmp_path):
    """A cast makes each tensor anew: beside the model in bf16, all files' pages in fp32 would make it three times."""
    big = TINY.model_copy(update={"hidden_size": 512, "depth": 6})
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in DiT(big).state_dict().items()}
    save_model(((k, torch.ones(shape)) for k, shape in shapes.items()), big, tmp_path / "big", max_shard_bytes=10**7)
    save_model(tiny(), TINY, tmp_path / "small")
    made = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "big", tmp_path / "small"], capture_output=True, text=True, cwd=ROOT
    )
    assert made.returncode == 0, made.stderr
    assert float(made.stdout) < 1.6
