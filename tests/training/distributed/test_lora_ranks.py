"""LoRA on published weights, the whole way on two ranks: laid out without storage, adapted, sharded, given its weights,
trained, saved; gone on with by one process, and exported."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from reelwright.model.dit import DiT
from reelwright.model.lora.files import load_lora
from reelwright.training.checkpoints import find_checkpoint, read_tensors, tensor_names
from reelwright.training.distributed.world import World, start
from reelwright.training.logs import read_log
from reelwright.training.loop import Hooks, Trainer
from reelwright.training.recipe import TrainRecipe
from reelwright.training.run import build
from reelwright.training.weights.convert import export_lora, export_weights
from tests.training.made_up import ABOUT, MadeUp, recipe_of
from tests.training.ranks import ranks


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network's weights as one file in the published layout, none of them zero."""
    file = tmp_path_factory.mktemp("published") / "model.safetensors"
    generator = torch.Generator().manual_seed(3)
    shapes = DiT(recipe_of().model).state_dict()
    save_file({name: 0.2 * torch.randn(t.shape, generator=generator) for name, t in shapes.items()}, file)
    return file


@pytest.mark.exhaustive
def test_two_ranks_train_adapters_as_one_does_and_one_goes_on_and_exports(base: Path, tmp_path: Path) -> None:
    _train(base, tmp_path / "whole", World.alone("cpu"), steps=4)
    ranks(2, _two_steps, str(base), str(tmp_path / "parts"))
    names = tensor_names(find_checkpoint(tmp_path / "parts"))
    assert names
    assert all(".lora." in name for name in names)
    _train(base, tmp_path / "parts", World.alone("cpu"), steps=4)
    expect, found = ([row["loss"] for row in read_log(tmp_path / at) if "loss" in row] for at in ("whole", "parts"))
    assert found == pytest.approx(expect, rel=1e-5)

    recipe = _recipe(base, steps=4)
    model, _ = build(recipe, World.alone("cpu"))
    saved = read_tensors(find_checkpoint(tmp_path / "parts"), "model.")
    model.load_state_dict(saved, strict=False)
    assert any(tensor.any() for name, tensor in saved.items() if ".up." in name)
    adapters = export_lora(tmp_path / "parts", tmp_path / "lora", ema=False, dtype=None, name="default")
    other, _ = build(recipe, World.alone("cpu"))
    load_lora(other, adapters.path / "lora.safetensors")
    whole = export_weights(tmp_path / "parts", tmp_path / "merged", ema=False, dtype=None, max_shard_bytes=1 << 30)
    merged, _ = build(recipe_of(init=str(whole.path)), World.alone("cpu"))
    outputs = [_output(one) for one in (model, other, merged)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=0)
    plain = _output(build(recipe_of(init=str(base)), World.alone("cpu"))[0])
    assert (outputs[2] - outputs[0]).norm() < 0.02 * outputs[0].norm()  # merged in fp32, then rounded
    assert (plain - outputs[0]).norm() > 0.2 * outputs[0].norm()


def _recipe(base: Path | str, steps: int) -> TrainRecipe:
    """In bf16: a block's frozen linears are bf16, its adapters and modulation fp32."""
    sections: dict[str, Any] = {
        "lora": {"rank": 2, "alpha": 2, "targets": ["*.qkv", "*.proj", "*adaLN_modulation.1"]},
        "compute": {"precision": "bf16"}, "optim": {"ema": 0.0, "lr": 0.1}, "validation": {"every": 0},
    }  # fmt: skip
    return recipe_of(init=str(base), steps=steps, **sections)


def _train(base: Path | str, folder: Path, world: World, steps: int) -> None:
    recipe = _recipe(base, steps)
    model, parent = build(recipe, world)
    metadata = ABOUT | {"recipe": recipe.model_dump(mode="json"), "parent": parent}
    Trainer(
        recipe=recipe, data=MadeUp(recipe, world), model=model, world=world, folder=folder, metadata=metadata,
        hooks=Hooks(say=str),
    ).run()  # fmt: skip


def _two_steps(base: str, folder: str) -> None:
    _train(base, Path(folder), start(recipe_of().parallel, device="cpu"), steps=2)


def _output(model: DiT) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x, text = torch.randn(1, 4, 3, 4, 4, generator=generator), torch.randn(1, 4, 8, generator=generator)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        return model(x, torch.tensor([300.0]), text, cond_frames=1)
