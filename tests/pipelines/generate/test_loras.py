"""LoRA files by name, their records, and which go together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reelwright.errors import UserError
from reelwright.model.checkpoint import save_model
from reelwright.model.codec import latent_size
from reelwright.model.config import LoRAConfig, TimestepShift
from reelwright.model.lora.adapters import add_lora, load_lora
from reelwright.model.lora.layers import lora_layers
from reelwright.model.refinement.plan import Refinement
from reelwright.model.sampling.settings import Settings
from reelwright.model.sampling.video_file import read_about
from reelwright.pipelines.generate.loras import (
    LoRA,
    check_network,
    check_stack,
    expert_settings,
    find_lora,
    refined_as,
)
from reelwright.pipelines.generate.refine import SecondStage, refining
from reelwright.pipelines.generate.run import LoadOptions, Request, find_source, generate, load
from reelwright.training.batch import Task
from reelwright.training.data.schedule import latent_condition
from reelwright.training.recipe import TrainRecipe
from tests.pipelines.generate.lora_files import loras, save_adapter
from tests.pipelines.generate.test_generate import MODEL, film, here, network, run

__all__ = ["film", "here", "loras", "run"]  # fixtures

PAIR = {"data": {"pair": {"first_stage": "64p"}, "sizes": ["128p"], "frames": [9]}}

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
        assert found.law == TimestepShift()


def test_loras_of_one_purpose_go_with_any_style(tmp_path: Path) -> None:
    style, quick = LoRA(tmp_path / "style.safetensors"), LoRA(tmp_path / "q.safetensors", 1, "dmd", 4)
    check_stack([style, quick, style])
    assert quick.sampling["steps"] == 4


def test_a_network_s_own_adapter_counts_as_its_loras_do(tmp_path: Path) -> None:
    """A run's adapter is merged into its network, where no second stage can take it off."""

    def trained(kind: str) -> TrainRecipe:
        return TrainRecipe(model=MODEL, init="base", lora=LoRAConfig(rank=2), objective={"kind": kind}, **PAIR)

    place, quick, style = Path("runs/quick"), LoRA(tmp_path / "q", 1, "consistency"), LoRA(tmp_path / "style")
    for recipe in (None, TrainRecipe(model=MODEL)):
        check_network(place, recipe, [quick, style], refines=True)
    check_network(place, trained("cfg_distillation"), [style], refines=False)
    for loras_, refines, says in (([quick], False, "--lora"), ([], True, "the LoRA of --refine")):
        with pytest.raises(UserError, match=f"its adapter excludes {says}.*reel checkpoint export runs/quick OUT"):
            check_network(place, trained("cfg_distillation"), loras_, refines=refines)
    with pytest.raises(UserError, match="does not sample from noise; .* reel refine VIDEO runs/quick"):
        check_network(place, trained("refinement"), [], refines=False)


def test_a_second_stage_without_a_lora_does_not_keep_the_first_one_s(
    run: Path, loras: Path, here: Invoke, tmp_path: Path
) -> None:
    loaded = load(find_source(run), LoadOptions(loras=[find_lora(loras / "quick", 1, tmp_path)]))
    settings = Settings.of(width=64, height=48, frames=9, steps=1, overlap=5)
    request = Request([["a dog"]], [0], settings, tmp_path / "x.mp4", 12, refine=SecondStage(None))
    with pytest.raises(UserError, match="would keep the first stage's LoRA .*quick.* on; name a refinement LoRA"):
        generate(loaded, request)
    assert not list(tmp_path.iterdir())

    model = load(find_source(run), LoadOptions()).generator
    load_lora(model.model, loras / "quick" / "lora.safetensors", name="style")
    adapters = [layer.lora["style"] for _, layer in lora_layers(model.model)]
    with refining(model, SecondStage(None)):
        assert all(adapter.strength == 0 for adapter in adapters)
    assert all(adapter.strength == 1 for adapter in adapters)


def test_a_lora_is_sampled_at_the_shift_that_it_was_trained_at(run: Path, here: Invoke, tmp_path: Path) -> None:
    """On a published folder too, whose own shift is 12; a distilled one's stands over a style's."""
    laws = {
        "style": {"shift_at_reference": 6.0, "reference_tokens": 24},
        "quick": {"shift_at_reference": 5.0, "reference_tokens": 48},
    }
    for name, kind in (("style", "flow"), ("quick", "consistency")):
        (tmp_path / name).mkdir()
        note = {"objective": {"kind": kind, "phases": 2, "shift_at_reference": 1.0}, "sampling": laws[name]}
        save_adapter(tmp_path / name / "lora.safetensors", 0, note)
    save_model(network(1), MODEL, tmp_path / "published")
    asked = ("--codec", "dct", "--text-encoder", "hashing", "--size", "64x48", "--frames", "9", "--steps", "1")
    tokens = 3 * 3 * 4  # latent frames, rows and columns of tokens

    def shift(*more: str) -> float:
        made = here("generate", "published", "-p", "x", *asked, *more, "--out", "x.mp4", "--force")
        assert made.exit_code == 0, made.output
        assert ("as it was trained" in made.output) is (more[:1] == ("--lora",) and "--shift" not in more)
        return read_about(tmp_path / "x.mp4")["settings"]["shift"]

    assert shift() == 12
    assert shift("--lora", "style") == pytest.approx(6 * (tokens / 24) ** 0.5)
    assert shift("--lora", "style", "--lora", "quick") == pytest.approx(max(1, 5 * (tokens / 48) ** 0.5))
    assert shift("--lora", "quick", "--lora", "style") == pytest.approx(5 * (tokens / 48) ** 0.5)
    assert shift("--lora", "style", "--shift", "3") == 3


def test_an_expert_refines_as_it_was_trained(run: Path, here: Invoke, film: Path, tmp_path: Path) -> None:
    """Its record has threshold, shift and timing; --published and a file without a record are as published."""
    note = {"objective": {"kind": "refinement", "threshold": 0.4, "shift": 7.0}, "timing": "exact"}
    (tmp_path / "fine").mkdir()
    save_adapter(tmp_path / "fine" / "lora.safetensors", 0, note)
    save_adapter(tmp_path / "refinement_lora.safetensors", 0)
    lora = find_lora(Path("fine"), 1, tmp_path)
    names = ("threshold", "timing", "latent_multiple")

    def refined(command: str, *more: str | Path) -> tuple[Any, ...]:
        made = here(command, *more, "--to", "128x64", "-q", "--out", "x.mp4", "--force")
        assert made.exit_code == 0, made.output
        about = read_about(tmp_path / "x.mp4")["refined"]
        return (*(about[name] for name in names), about["steps_of"]["shift"])

    first = (run, "-p", "x", "--frames", "9")
    assert refined("generate", *first, "--refine", "fine") == (0.4, "exact", 1, 7.0)
    assert refined("generate", *first, "--refine", "fine", "--timing", "published")[1] == "published"
    published = (0.5, "published", 4, 12.0)
    parity = ("--published", "--size", "64x48", "--steps", "1")
    assert refined("generate", *first, "--refine", "fine", *parity) == published
    assert refined("generate", *first, "--refine", "refinement_lora.safetensors") == published
    assert refined("refine", film, run, "--lora", "fine", "--window", "17") == (0.4, "exact", 1, 7.0)
    own = TrainRecipe(model=MODEL, objective=note["objective"], **PAIR)
    assert expert_settings(None, own) == {**lora.refines, "timing": "published"}


@pytest.mark.parametrize(
    ("task", "given", "spatial_only"),
    [("t2v", 0, False), ("i2v", 1, False), ("i2v", 1, True), ("continuation", 13, False), ("continuation", 13, True)],
)
def test_an_expert_of_ours_sees_as_many_clean_latents_as_in_training(
    task: Task, given: int, spatial_only: bool
) -> None:
    """As in batches of configs/train/refinement-720p.yaml, of 93 frames, or of 189 at twice the rate."""
    how = Refinement(spatial_only=spatial_only, **refined_as({}, None))
    sampled = how.plan(93, 480, 832, given).padding
    trained = latent_size(93 if spatial_only else 189, 704, 1280)[0]
    assert (sampled.cond_latents, sampled.latents) == (latent_condition(task, 13 if spatial_only else 29), trained)
