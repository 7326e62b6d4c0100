"""`reel checkpoint import | export | show`, and the printed plan of `reel train --plan`."""

import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from reelwright.model.checkpoint import load_model, save_model
from reelwright.model.config import DiTConfig, LoRAConfig
from reelwright.model.dit import DiT
from reelwright.model.lora.adapters import add_lora, lora_parameters, merge_lora
from reelwright.model.lora.files import load_lora, save_lora
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.recipe import TrainRecipe

TINY = DiTConfig(hidden_size=48, depth=2, num_heads=4, caption_channels=24, adaln_tembed_dim=16)
LORA = LoRAConfig(rank=4, alpha=2)


@pytest.fixture
def call(capsys, monkeypatch):
    """Run `reel checkpoint ARGUMENTS`, or another command's, here: (exit code, output)."""
    import sys

    from reelwright.pipelines.cli.main import main

    def run(*arguments, command="checkpoint"):
        monkeypatch.setattr(sys, "argv", ["reel", command, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        seen = capsys.readouterr()
        return stop.value.code or 0, seen.out + seen.err

    return run


def tiny(seed=0) -> DiT:
    torch.manual_seed(seed)
    model = DiT(TINY)
    for p in model.parameters():
        p.data = torch.randn_like(p)
    return model


def adapted(seed=0) -> DiT:
    model = tiny(seed)
    add_lora(model, LORA)
    for p in lora_parameters(model):
        p.data = torch.randn_like(p)
    return model


def published(folder: Path, model=None) -> Path:
    """As it comes from the hub: shards, and a config with fields that mean nothing here."""
    save_model(model or tiny(), TINY, folder, max_shard_bytes=100_000, extra={"enable_bsa": True, "bsa_params": {}})
    return folder


def trained(folder: Path, model: DiT, init="", ema=None) -> Path:
    """A run's checkpoint, of what the loop keeps of such a model."""
    recipe = TrainRecipe(model=TINY, init=str(init), lora=LORA if init else None)
    tensors = {f"model.{k}": v.detach() for k, v in model.state_dict().items() if not init or ".lora." in k}
    tensors |= {f"ema.{k}": v for k, v in (ema or {}).items()}
    checkpoints = Checkpoints(folder / "checkpoints", 1)
    about = {"recipe": recipe.model_dump(mode="json"), "recipe_fingerprint": recipe.fingerprint}
    checkpoints.save(7, tensors, about | {"snapshot": {"name": "train-v1", "content_hash": "c0ffee"}})
    checkpoints.wait()
    return folder


def same(folder: Path, model) -> bool:
    found, expected = load_model(folder).state_dict(), model.state_dict()
    return found.keys() == expected.keys() and all(torch.equal(found[k], v) for k, v in expected.items())


def test_published_weights_come_in_whole_and_the_report_says_so(call, tmp_path):
    code, said = call("import", published(tmp_path / "hub"), tmp_path / "w", "--max-shard", "1GB")
    assert code == 0, said
    count = len(tiny().state_dict())
    assert f"{count} keys fit; 0 missing, 0 unexpected, 0 of another shape" in said
    assert "2 blocks, hidden 48" in said
    assert "bsa_params, enable_bsa" in said
    assert f"--set init={tmp_path / 'w'}" in said
    assert same(tmp_path / "w", tiny())
    assert json.loads((tmp_path / "w" / "config.json").read_text())["enable_bsa"] is True
    about = json.loads((tmp_path / "w" / "about.json").read_text())
    assert about["parameters"] == sum(p.numel() for p in tiny().parameters())
    code, shown = call("show", tmp_path / "w")
    assert code == 0
    assert about["sha256"] in shown


def test_an_empty_folder_is_written_to_as_a_new_one(call, tmp_path):
    (tmp_path / "w").mkdir()
    code, said = call("import", published(tmp_path / "hub"), tmp_path / "w")
    assert code == 0, said
    assert same(tmp_path / "w", tiny())


def test_keys_that_do_not_fit_stop_an_import_unless_they_may(call, tmp_path):
    state = tiny().state_dict()
    del state["blocks.0.attn.qkv.bias"]
    save_model(state | {"blocks.9.odd": torch.zeros(2)}, TINY, tmp_path / "hub")
    code, said = call("import", tmp_path / "hub", tmp_path / "w")
    assert code == 1
    assert "missing    blocks.0.attn.qkv.bias" in said
    assert "unexpected blocks.9.odd" in said
    assert "error: " in said.splitlines()[-1]
    assert not (tmp_path / "w").exists()
    code, said = call("import", tmp_path / "hub", tmp_path / "w", "--allow-missing", "--allow-unexpected")
    assert code == 0, said
    assert load_model(tmp_path / "w").state_dict().keys() == tiny().state_dict().keys()


def test_a_trained_network_goes_out_and_comes_back_bit_for_bit(call, tmp_path):
    run = trained(tmp_path / "run", tiny())
    code, said = call("export", run, tmp_path / "out", "--max-shard", "100KB")
    assert code == 0, said
    assert same(tmp_path / "out", tiny())
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    assert about["snapshot"]["name"] == "train-v1"
    assert about["step"] == 7
    assert call("import", tmp_path / "out", tmp_path / "in")[0] == 0
    assert same(tmp_path / "in", tiny())
    code, _ = call("export", run, tmp_path / "half", "--dtype", "bf16")
    assert code == 0
    assert same(tmp_path / "half", tiny().bfloat16())
    assert "train-v1" in call("show", run)[1]


def test_averaged_weights_go_out_if_they_were_kept(call, tmp_path):
    averages = dict(tiny(seed=1).named_parameters())
    run = trained(tmp_path / "run", tiny(), ema={k: v.detach() for k, v in averages.items()})
    assert call("export", run, tmp_path / "out", "--ema")[0] == 0
    assert same(tmp_path / "out", tiny(seed=1))
    code, said = call("export", trained(tmp_path / "plain", tiny()), tmp_path / "no", "--ema")
    assert code == 1
    assert "no averaged weights" in said


def test_an_adapter_goes_out_alone_with_published_keys(call, tmp_path):
    run = trained(tmp_path / "run", adapted(), init=published(tmp_path / "base"))
    code, said = call("export", run, tmp_path / "out", "--lora")
    assert code == 0, said
    save_lora(adapted(), tmp_path / "expected.safetensors")
    found, expected = load_file(tmp_path / "out" / "lora.safetensors"), load_file(tmp_path / "expected.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[k], v) for k, v in expected.items())
    other = tiny()
    load_lora(other, tmp_path / "out" / "lora.safetensors")
    assert all(torch.equal(v, adapted().state_dict()[k]) for k, v in other.state_dict().items())


def test_an_adapter_is_merged_into_what_its_run_began_with(call, tmp_path):
    base = published(tmp_path / "base")
    run = trained(tmp_path / "run", adapted(), init=base)
    code, said = call("export", run, tmp_path / "out")
    assert code == 0, said
    expected = adapted()
    merge_lora(expected, keep_base=False)
    assert same(tmp_path / "out", expected)
    base.rename(tmp_path / "moved")
    code, said = call("export", run, tmp_path / "again")
    assert code == 1
    assert "say where with --base" in said
    assert call("export", run, tmp_path / "again", "--base", tmp_path / "moved")[0] == 0
    assert same(tmp_path / "again", expected)


def test_a_lora_file_is_checked_against_its_base(call, tmp_path):
    save_lora(adapted(), tmp_path / "some.safetensors")
    code, said = call("import", tmp_path / "some.safetensors", tmp_path / "w", "--base", published(tmp_path / "base"))
    assert code == 0, said
    assert "LoRA of 16 layers, rank 4, alpha 2" in said
    assert load_file(tmp_path / "w" / "lora.safetensors").keys() == load_file(tmp_path / "some.safetensors").keys()
    assert "rank 4" in call("show", tmp_path / "w")[1]
    code, said = call("import", tmp_path / "some.safetensors", tmp_path / "x")  # the published network is larger
    assert code == 1
    assert "--base" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("import", "nowhere", "w"), "no such file or folder"),
        (("export", "nowhere", "w"), "no checkpoint here"),
        (("import", "hub", "w", "--max-shard", "big"), "is no size"),
        (("import", "hub", "w", "--dtype", "int4"), "is none of fp32, bf16, fp16"),
        (("import", "hub", "hub"), "not empty"),
        (("export", "run", "w", "--lora"), "it has none; without --lora"),
    ],
)
def test_what_cannot_be_is_one_sentence(call, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    published(tmp_path / "hub")
    trained(tmp_path / "run", tiny())
    code, said = call(*arguments)
    assert code == 1
    assert sentence in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_plan_says_whether_it_fits_and_what_to_turn():
    from reelwright.pipelines.train.memory_estimate import print_plan
    from reelwright.training.budget.memory import plan_memory
    from reelwright.training.recipe import DataConfig

    lines: list[str] = []
    deep = TINY.model_copy(update={"depth": 12})
    recipe = TrainRecipe(model=deep, data=DataConfig(sizes=("256p",), ratios=("1:1",), batches_per_step=8))
    less = 0.8 * plan_memory(recipe, ranks=2).total / 2**30
    plan = print_plan(recipe, gpus=2, gpu_memory_gb=less, peak_tflops=100, seconds=1, say=lines.append)
    said = "\n".join(lines)
    assert f"{plan.total / 2**30:.2f} GiB" in said
    assert "does not fit" in said
    assert "would fit   --set compute.checkpointing=" in said
    assert "MFU needed" in said


@pytest.mark.exhaustive
def test_a_plan_proposes_no_micro_batches_that_leave_a_gpu_idle():
    """And a step that sees as many tokens as before."""
    from reelwright.pipelines.train.memory_estimate import FEW_TOKENS, knobs, with_settings
    from reelwright.training.recipe import DataConfig

    data = DataConfig(sizes=("256p",), frames=(1,), ratios=("1:1",), tokens_per_batch=65536)
    recipe = TrainRecipe(model=TINY, data=data, compute={"checkpointing": "full"})
    proposed = [
        (dict(pair.split("=") for pair in settings.split() if pair != "--set"), plan)
        for settings, plan in knobs(recipe, gpus=1, memory_gib=1000)
    ]
    tokens = [plan.recipe.data.tokens_per_batch for _, plan in proposed]
    assert tokens == [32768, 16384, FEW_TOKENS]
    assert {plan.recipe.data.tokens_per_batch * plan.recipe.data.batches_per_step for _, plan in proposed} == {
        65536 * 8
    }
    assert all(with_settings(recipe, {k: int(v) for k, v in given.items()}) == plan.recipe for given, plan in proposed)


def test_a_plan_proposes_one_number_of_gpus_that_share_a_sample():
    """The first that fits; a smaller micro-batch is not crowded out by larger ones."""
    from reelwright.pipelines.train.memory_estimate import knobs
    from reelwright.training.recipe import DataConfig

    data = DataConfig(sizes=("256p",), frames=(1,), ratios=("1:1",), tokens_per_batch=16384, batches_per_step=8)
    recipe = TrainRecipe(model=TINY, data=data, compute={"checkpointing": "full"})
    assert [settings for settings, _ in knobs(recipe, gpus=8, memory_gib=1000)] == [
        "--set parallel.context=2", "--set data.tokens_per_batch=8192 --set data.batches_per_step=16"
    ]  # fmt: skip


@pytest.mark.exhaustive
def test_a_plan_warns_of_gpus_that_do_not_divide_a_step():
    from reelwright.pipelines.train.memory_estimate import print_plan
    from reelwright.training.recipe import DataConfig

    lines: list[str] = []
    recipe = TrainRecipe(model=TINY, data=DataConfig(sizes=("64p",), ratios=("1:1",), batches_per_step=8))
    plan = print_plan(recipe, gpus=16, gpu_memory_gb=80, say=lines.append)
    said = "\n".join(lines)
    assert "16 ranks take batches, and do not divide the 8 of a step" in said
    assert "Take 1, 2, 4, 8 GPUs, or data.batches_per_step=16, as planned here" in said
    assert plan.recipe.data.batches_per_step == 16
    assert "--set parallel.replicate=2 keeps that inside each node of 8" in said
    assert "others measured 18 to 23 %" in said


@pytest.mark.exhaustive
def test_a_plan_s_time_is_that_of_the_costliest_bucket(call, tmp_path):
    """Of the same tokens, images cost much less attention than a video."""
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({
        "model": TINY.model_dump(mode="json"), "steps": 10,
        "data": {"sizes": ["256p"], "ratios": ["1:1"], "tokens_per_batch": 7000, "batches_per_step": 2},
    }))  # fmt: skip
    figures = ("--peak-tflops", "1", "--mfu", "0.5", "--seconds", "2", "--gpu-memory", "80")
    code, said = call(tmp_path / "r.yaml", "--plan", *figures, command="train")
    assert code == 0, said
    assert "× 1x256x256" in said
    assert "costliest     1 × 93x256x256" in said
    assert "at 50% MFU" in said
    assert "peak          1 TFLOP/s per GPU, dense bf16 (as given)" in said
    assert "for 2 s per step" in said


def test_others_may_read_what_is_exported_and_imported(tmp_path, call):
    before = os.umask(0o022)
    try:
        source = published(tmp_path / "source")
        save_lora(adapted(), tmp_path / "lora.safetensors")
        assert call("import", source, tmp_path / "weights")[0] == 0
        assert call("import", tmp_path / "lora.safetensors", tmp_path / "lora", "--base", source)[0] == 0
        os.umask(0o077)
        assert call("import", source, tmp_path / "private")[0] == 0
    finally:
        os.umask(before)
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in tmp_path.rglob("*") if "private" not in str(p)}
    assert set(modes.values()) == {"0o755", "0o644"}
    private = [p for p in tmp_path.rglob("*.safetensors") if "private" in str(p)]
    assert {p.stat().st_mode & 0o777 for p in private} == {0o600}
