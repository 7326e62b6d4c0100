"""LoRA files by name, their records, and which go together."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reelwright.errors import UserError
from reelwright.model.checkpoint import save_model
from reelwright.model.codec import latent_size
from reelwright.model.config import AttentionConfig, LoRAConfig, TimestepShift
from reelwright.model.lora.adapters import add_lora, load_lora
from reelwright.model.lora.layers import lora_layers
from reelwright.model.refinement.noise import FULL
from reelwright.model.refinement.plan import Refinement
from reelwright.model.sampling.settings import Settings
from reelwright.model.sampling.video_file import read_about
from reelwright.pipelines.cli.generate_options import AttentionForm, StageOptions
from reelwright.pipelines.generate.loras import (
    Expert,
    LoRA,
    check_network,
    check_stack,
    expert_of,
    find_lora,
    refined_as,
    sampling_of,
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


def lora_run(folder: Path, objective: dict[str, Any], **sections: Any) -> TrainRecipe:
    """Leave a run's folder with its adapter, and beside it the network `base` that it was trained on."""
    from reelwright.training.checkpoints import Checkpoints

    lora = LoRAConfig(rank=2, alpha=1, targets=("*.qkv",))
    model = network(1)
    add_lora(model, lora)
    recipe = TrainRecipe(model=MODEL, init="base", lora=lora, objective=objective, **sections)
    kept = Checkpoints(folder / "checkpoints", 1)
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items() if ".lora." in name}
    kept.save(5, state, {"recipe": recipe.model_dump(mode="json"), "recipe_fingerprint": recipe.fingerprint})
    kept.wait()
    if not (folder.parent / "base").exists():
        save_model(network(1), MODEL, folder.parent / "base")
    return recipe


def test_an_exported_lora_and_its_copies_say_how_they_were_trained(here: Invoke, tmp_path: Path) -> None:
    """A copy by import, by a link, in another form, and such a one in a third form."""
    pair = {**PAIR["data"], "pair": {"first_stage": "64p", "timing": "exact"}}
    attention = {"form": "sparse", "block": [2, 2, 2], "keep": 0.25}
    law = {"shift_at_reference": 6.0, "reference_tokens": 24}
    fine = {"kind": "refinement", "threshold": 0.4, "shift": 7.0}
    lora_run(tmp_path / "fine", fine, sampling=law, attention=attention, data=pair)
    lora_run(tmp_path / "quick", {"kind": "consistency", "phases": 8})
    for name in ("quick", "fine"):
        (tmp_path / f"{name}-link").mkdir()
        (tmp_path / f"{name}-link" / "short.safetensors").symlink_to(tmp_path / f"{name}-copied" / "lora.safetensors")
        for command in (
            ("export", name, f"{name}-exported", "--lora"),
            ("import", f"{name}-exported/lora.safetensors", f"{name}-copied", "--base", "base"),
            ("export", f"{name}-exported", f"{name}-comfy", "--format", "comfyui"),
            ("export", f"{name}-comfy", f"{name}-kohya", "--format", "kohya"),
        ):
            made = here("checkpoint", *command)
            assert made.exit_code == 0, made.output
    expert = Expert(
        {"latent_multiple": 1, "threshold": 0.4, "schedule": replace(FULL, shift=7.0), "timing": "exact"},
        AttentionConfig.model_validate(attention),
    )
    for way in ("exported", "copied", "link/short.safetensors", "comfy", "kohya"):
        found = find_lora(Path(f"quick-{way}"), 1, tmp_path)
        assert (found.objective, found.steps, found.law) == ("consistency", 8, TimestepShift())
        found = find_lora(Path(f"fine-{way}"), 1, tmp_path)
        assert (found.expert, found.law) == (expert, TimestepShift(**law))


def test_a_distilled_run_and_its_merged_weights_are_sampled_as_they_were_distilled(
    run: Path, here: Invoke, tmp_path: Path
) -> None:
    """By the steps of the distilled grid, without guidance; options stand over it, and other runs are as before."""
    shape = {"samples": {"size": (64, 48), "frames": 9}}
    lora_run(tmp_path / "quick", {"kind": "consistency", "phases": 2}, **shape)
    assert here("checkpoint", "export", "quick", "merged").exit_code == 0

    def sampled(network: str | Path, *more: str) -> tuple[Any, ...]:
        made = here("generate", network, "-p", "x", "-q", "--out", "x.mp4", "--force", *more)
        assert made.exit_code == 0, made.output
        settings = read_about(tmp_path / "x.mp4")["settings"]
        return tuple(settings[name] for name in ("distilled", "steps", "guidance"))

    assert sampled("quick") == (True, 2, 1.0)
    assert sampled("merged", "--distilled") == (True, 2, 1.0)
    assert sampled("merged", "--steps", "3", "--guidance", "2") == (True, 3, 2.0)
    assert sampled(run) == (False, 2, 4.0)


@pytest.mark.parametrize(
    ("objective", "expect"),
    [
        ({"kind": "flow"}, {}),
        ({"kind": "cfg_distillation"}, {"guidance": 1.0}),
        ({"kind": "consistency"}, {"guidance": 1.0, "distilled": True, "steps": 16}),
        ({"kind": "dmd", "start": "quick"}, {"guidance": 1.0, "distilled": True, "steps": 4}),
    ],
)
def test_what_a_network_wants_of_sampling_follows_from_its_objective(
    objective: dict[str, Any], expect: dict[str, Any]
) -> None:
    assert sampling_of(TrainRecipe(model=MODEL, init="base", lora=LoRAConfig(rank=2), objective=objective)) == expect
    assert sampling_of(None) == {}


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
    """Its record has threshold, shift, timing and attention; --published and one without a record are as published."""
    attention = {"form": "sparse", "block": [2, 2, 2], "keep": 0.25, "dense_steps": 20}
    note = {
        "objective": {"kind": "refinement", "threshold": 0.4, "shift": 7.0}, "timing": "exact", "attention": attention,
    }  # fmt: skip
    (tmp_path / "fine").mkdir()
    save_adapter(tmp_path / "fine" / "lora.safetensors", 0, note)
    save_adapter(tmp_path / "refinement_lora.safetensors", 0)
    lora = find_lora(Path("fine"), 1, tmp_path)
    names = ("threshold", "timing", "latent_multiple")

    def refined(command: str, *more: str | Path) -> tuple[Any, ...]:
        made = here(command, *more, "--to", "128x64", "-q", "--out", "x.mp4", "--force")
        assert made.exit_code == 0, made.output
        about = read_about(tmp_path / "x.mp4")["refined"]
        seen = about["attention"]
        seen = seen if seen == "dense" else (*seen["block"], seen["keep"])
        return (*(about[name] for name in names), about["steps_of"]["shift"], seen)

    first = (run, "-p", "x", "--frames", "9")
    ours = (0.4, "exact", 1, 7.0, (2, 2, 2, 0.25))
    assert refined("generate", *first, "--refine", "fine") == ours
    assert refined("generate", *first, "--refine", "fine", "--timing", "published")[1] == "published"
    assert refined("generate", *first, "--refine", "fine", "--video", film, "--overlap", "5") == ours
    published = (0.5, "published", 4, 12.0, (4, 4, 4, 1 / 16))
    parity = ("--published", "--size", "64x48", "--steps", "1")
    assert refined("generate", *first, "--refine", "fine", *parity) == published
    assert refined("generate", *first, "--refine", "refinement_lora.safetensors") == published
    assert refined("refine", film, run, "--lora", "fine", "--window", "17") == ours
    for trained in (AttentionConfig(), AttentionConfig.model_validate(attention)):
        own = TrainRecipe(model=MODEL, objective=note["objective"], attention=trained, **PAIR)
        assert expert_of(None, own) == Expert({**lora.expert.settings, "timing": "published"}, trained)


@pytest.mark.parametrize(
    ("trained", "options", "expect"),
    [
        (None, {}, {"form": "sparse"}),
        ({"form": "sparse", "cdf": 0.9}, {"refine_keep": 0.5}, {"form": "sparse", "keep": 0.5}),
        ({"form": "sparse", "block": (2, 2, 2)}, {"refine_attention": "dense"}, {"block": (2, 2, 2)}),
        ({}, {}, {}),
        ({}, {"refine_attention": "sparse", "refine_keep": 0.5}, {"form": "sparse", "keep": 0.5}),
        ({}, {"refine_keep": 0.5}, "this expert's is dense: add --refine-attention sparse"),
        (None, {"refine_attention": "dense", "refine_keep": 0.5}, "leave one of the two out"),
    ],
)
def test_options_stand_over_the_attention_that_an_expert_was_trained_with(
    trained: dict[str, Any] | None, options: dict[str, Any], expect: dict[str, Any] | str
) -> None:
    form = AttentionForm(options.get("refine_attention", "auto"))
    stage = StageOptions(refine_attention=form, refine_keep=options.get("refine_keep"))
    known = None if trained is None else AttentionConfig(**trained)
    if isinstance(expect, str):
        with pytest.raises(UserError, match=expect):
            stage.attention(known)
    else:
        assert stage.attention(known) == AttentionConfig(**expect)


def test_a_record_of_an_attention_that_there_is_not_is_refused_in_a_sentence(tmp_path: Path) -> None:
    note = {"objective": {"kind": "refinement"}, "attention": {"form": "sparse", "block": [0, 2, 2]}}
    save_adapter(tmp_path / "lora.safetensors", 0, note)
    with pytest.raises(UserError, match="the attention in the record beside it cannot be read .*; correct it"):
        find_lora(tmp_path, 1, tmp_path)


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
