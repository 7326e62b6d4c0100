"""LoRA files by name, their records, and which go together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reelwright.model.checkpoint import save_model
from reelwright.model.config import LoRAConfig
from reelwright.model.lora.adapters import add_lora
from reelwright.pipelines.generate.loras import LoRA, check_stack, find_lora
from tests.pipelines.generate.lora_files import loras, save_adapter
from tests.pipelines.generate.test_generate import MODEL, here, network

__all__ = ["here", "loras"]  # fixtures

Invoke = Callable[..., Any]


def test_published_loras_are_found_by_name(loras: Path, tmp_path: Path) -> None:
    for name in ("cfg_step_lora", "refinement_lora"):
        (tmp_path / "weights" / "lora").mkdir(parents=True, exist_ok=True)
        save_adapter(tmp_path / "weights" / "lora" / f"{name}.safetensors", 0)
    (tmp_path / "weights" / "dit").mkdir()
    for beside in (tmp_path / "weights", tmp_path / "weights" / "dit"):
        step = find_lora(Path("cfg_step_lora"), 0.9, beside)
        assert (step.objective, step.weight) == ("consistency", 0.9)
        assert step.sampling == {"distilled": True, "steps": 16, "guidance": 1.0}
        assert find_lora(Path("refinement_lora"), 1, beside).objective == "refinement"
    assert find_lora(loras / "fine", 1, tmp_path).objective == "refinement"
    copy = tmp_path / "copy"  # `reel checkpoint import weights/dit copy`
    copy.mkdir()
    (copy / "about.json").write_text(json.dumps({"kind": "weights", "source": str(tmp_path / "weights" / "dit")}))
    assert find_lora(Path("cfg_step_lora"), 1, copy).objective == "consistency"


def test_an_exported_lora_and_its_copies_say_what_they_are_for(here: Invoke, tmp_path: Path) -> None:
    from reelwright.training.checkpoints import Checkpoints
    from reelwright.training.recipe import TrainRecipe

    lora = LoRAConfig(rank=2, alpha=1, targets=("*.qkv",))
    model = network(1)
    add_lora(model, lora)
    recipe = TrainRecipe(model=MODEL, init="base", lora=lora, objective={"kind": "consistency", "phases": 8})
    kept = Checkpoints(tmp_path / "quick" / "checkpoints", 1)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items() if ".lora." in name}
    kept.save(5, state, {"recipe": recipe.model_dump(mode="json"), "recipe_fingerprint": recipe.fingerprint})
    kept.wait()
    save_model(network(1), MODEL, tmp_path / "base")
    assert here("checkpoint", "export", "quick", "exported", "--lora").exit_code == 0
    copied = here("checkpoint", "import", "exported/lora.safetensors", "copied", "--base", "base")
    assert copied.exit_code == 0, copied.output
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "short.safetensors").symlink_to(tmp_path / "copied" / "lora.safetensors")
    for place in ("exported", "copied", "links/short.safetensors"):
        found = find_lora(Path(place), 1, tmp_path)
        assert (found.objective, found.steps) == ("consistency", 8)


def test_loras_of_one_purpose_go_with_any_style(tmp_path: Path) -> None:
    style, quick = LoRA(tmp_path / "style.safetensors"), LoRA(tmp_path / "q.safetensors", 1, "dmd", 4)
    check_stack([style, quick, style])
    assert quick.sampling["steps"] == 4
