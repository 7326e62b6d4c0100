"""DMD2 against its formulas; its critic beside the student, on ranks, over a resume and in what is exported."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from reelwright.model.config import AttentionConfig
from reelwright.model.lora.adapters import lora_parameters
from reelwright.model.sampling.schedules import distilled_sigmas
from reelwright.model.sparse import use_attention
from reelwright.training.batch import Batch
from reelwright.training.budget.memory import plan_memory
from reelwright.training.distributed.world import World
from reelwright.training.objectives.dmd import Dmd, DmdConfig
from reelwright.training.recipe import TrainRecipe
from reelwright.training.run import build
from tests.training.batches import make_batch
from tests.training.distilling import Killed, Power, awake, distilling, on_rank, save_base, saved, train
from tests.training.made_up import KINDS
from tests.training.ranks import ranks

ALONE = World.alone("cpu")
DMD = {"kind": "dmd", "critic_steps": 2, "critic_lr": 1e-2}
SMALL = {"sizes": ["64x64"], "frames": [9], "tokens_per_batch": 64}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("published") / "model.safetensors")


@pytest.fixture(scope="module")
def begun(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of 16 steps, hardly trained."""
    folder = tmp_path_factory.mktemp("runs") / "consistency"
    train(distilling(base, {"kind": "consistency"}, steps=2), folder)
    return folder


def batch_of(kind: int = 1, **changes: Any) -> Batch:
    task, cond, frames = KINDS[kind]
    return make_batch(2, task=task, cond_frames=cond, frames=frames, channels=4, seed=kind, **changes)


def dmd(base: Path, begun: Path | str, **sections: Any) -> TrainRecipe:
    own = sections.pop("objective", {})
    anchored = {"start": str(begun)} if begun else {"anchor": 0.0}
    return distilling(base, {**DMD, **anchored, **own}, **sections)


@pytest.mark.parametrize("kind", range(4))
def test_the_gradient_on_what_is_made_is_the_difference_of_the_scores(base: Path, kind: int) -> None:
    """dL/dG = δ / (numbers per sample · samples): asked of a student whose velocity is a parameter."""
    recipe = dmd(base, "")
    objective = recipe.objective.build(awake(recipe), recipe, ALONE)
    batch, clean = batch_of(kind), KINDS[kind][1]
    velocity = torch.randn_like(batch.latents).requires_grad_()
    real, answers = objective.roles.velocity, []

    def asked(x: torch.Tensor, t: torch.Tensor, of: Batch, **named: Any) -> torch.Tensor:
        if torch.is_grad_enabled():
            return velocity
        out = real(x, t, of, **named)
        answers.append((objective.roles.role, out))
        return out

    objective.roles.velocity = asked
    objective.loss(batch).total.backward()
    *_, (critic, fake), (_, cond), (_, uncond) = answers
    assert critic == "critic"
    c, u = cond[:, :, clean:], uncond[:, :, clean:]
    fit = (c * u).flatten(1).sum(1) / u.square().flatten(1).sum(1)
    taught = u * fit.view(-1, 1, 1, 1, 1) + 4 * (c - u * fit.view(-1, 1, 1, 1, 1))
    sigmas = distilled_sigmas(4, objective.config.timestep_shift((batch.latents.shape[2] - clean) * 4))
    k = objective._step_of(batch.step, 0)
    toward = (fake[:, :, clean:] - taught).flatten(1)
    found = velocity.grad[:, :, clean:].flatten(1) / sigmas[k]
    cosine = torch.nn.functional.cosine_similarity(found, toward.to(found), dim=1)
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    assert not velocity.grad[:, :, :clean].any()


def test_a_critic_that_is_the_teacher_leaves_nothing_to_match(base: Path) -> None:
    """Without guidance, and with a critic without effect, both scores are the base's."""
    recipe = dmd(base, "", objective={"guidance": 1.0})
    model, _ = build(recipe, ALONE)
    objective = recipe.objective.build(model, recipe, ALONE)
    assert objective.loss(batch_of()).total == 0
    recipe = dmd(base, "")
    model, _ = build(recipe, ALONE)
    assert recipe.objective.build(model, recipe, ALONE).loss(batch_of()).total > 0


def test_the_anchor_is_the_reference_s_path(base: Path, begun: Path) -> None:
    """With a reference of one step per step of the student's, a student equal to it is on the path."""
    only = {"match": 0.0, "anchor": 1.0}
    recipe = dmd(base, begun, objective={**only, "anchor_steps": 1})
    model, _ = build(recipe, ALONE)
    assert recipe.objective.build(model, recipe, ALONE).loss(batch_of()).total < 1e-10
    finer = dmd(base, begun, objective=only)
    model, _ = build(finer, ALONE)
    objective = finer.objective.build(model, finer, ALONE)
    assert objective.loss(batch_of()).total > 1e-6
    grid = distilled_sigmas(16, objective.config.timestep_shift(12)).tolist()
    whole = [level.item() for k in range(4) for level in objective._finer(batch_of(), k)[:-1]]
    assert whole == grid[:-1]


@torch.no_grad()
@pytest.mark.parametrize("anchored", [True, False])
def test_held_out_clips_are_measured_over_all_steps_and_without_the_critic(
    anchored: bool, base: Path, begun: Path
) -> None:
    bands = 2
    recipe = dmd(base, begun if anchored else "", validation={"bands": bands})
    model = awake(recipe)
    objective = recipe.objective.build(model, recipe, ALONE)

    def figure() -> float:
        levels = [torch.tensor([(band + 0.3) / bands, (band + 0.9) / bands]) for band in range(bands)]
        batch = batch_of(step=-1)
        return float(torch.stack([objective.loss(batch, t=t).per_sample for t in levels]).mean())

    first = figure()
    assert first > 0
    for parameter in lora_parameters(model, "critic"):
        parameter.normal_(generator=torch.Generator().manual_seed(1))
    assert figure() == first, "the critic is not in it"
    assert sorted(k for band in range(bands) for k in objective._steps_of_band(band / bands)) == [0, 1, 2, 3]
    for parameter in lora_parameters(model, "default"):
        parameter.mul_(1.5)
    assert figure() != first
    if not anchored:
        return
    parts = []
    batch = batch_of(step=-1)
    sigmas = objective._sigmas(batch)
    for k in range(4):
        x, levels = objective._path(batch, sigmas, k, salt=0)
        goal = objective._reference(batch, x, levels, sigmas, k)
        parts.append((objective.roles.velocity(x, levels, batch) - goal).square().mean())
    assert figure() == pytest.approx(float(torch.stack(parts).mean()), rel=1e-5)


@pytest.mark.parametrize("bands", [1, 3, 4, 7])
def test_every_band_of_held_out_clips_has_steps_and_no_step_is_left_out(bands: int, base: Path) -> None:
    recipe = dmd(base, "", validation={"bands": bands})
    objective = recipe.objective.build(awake(recipe), recipe, ALONE)
    found = [objective._steps_of_band((band + 0.5) / bands) for band in range(bands)]
    assert all(found)
    assert {k for steps in found for k in steps} == {0, 1, 2, 3}
    assert found[0][-1] == 3


def test_the_critic_learns_beside_the_student_and_is_not_in_the_network_that_is_exported(
    base: Path, begun: Path, tmp_path: Path
) -> None:
    recipe = dmd(base, begun)
    model, _ = build(recipe, ALONE)
    objective = recipe.objective.build(model, recipe, ALONE)
    before = {name: tensor.clone() for name, tensor in objective.tensors().items()}
    student = [p.clone() for p in lora_parameters(model, "default")]
    objective.loss(batch_of()).total.backward()
    gradients = [p.grad.clone() for p in lora_parameters(model, "default")]
    objective.after_step(1)
    after = objective.tensors()
    ups = [n for n in after if ".up." in n and n.endswith("weight")]
    assert ups
    assert all(not torch.equal(after[n], before[n]) for n in ups)
    assert {after[n].item() for n in after if n.endswith(".step")} == {2}
    for p, old, gradient in zip(lora_parameters(model, "default"), student, gradients, strict=True):
        assert torch.equal(p, old)
        assert torch.equal(p.grad, gradient)
    assert not objective.kept
    assert all(p.grad is None and not p.requires_grad for p in lora_parameters(model, "critic"))

    train(recipe.model_copy(update={"steps": 2}), tmp_path / "run")
    names = saved(tmp_path / "run")
    assert any(n.startswith("objective.critic.") for n in names)
    assert not [n for n in names if ".critic." in n and not n.startswith("objective.")]
    assert not [n for n in names if ".reference." in n]


@pytest.mark.exhaustive
def test_a_killed_run_goes_on_to_the_bit(base: Path, begun: Path, tmp_path: Path) -> None:
    recipe = dmd(base, begun)
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(Power):
        train(recipe, tmp_path / "parts", data=Killed(recipe, ALONE))
    assert train(recipe, tmp_path / "parts") == whole
    expect, found = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert found.keys() == expect.keys()
    assert all(torch.equal(found[name], expect[name]) for name in expect)


@pytest.mark.parametrize("layout", ["sharded", "ulysses", pytest.param("ring", marks=pytest.mark.exhaustive)])
@pytest.mark.every(2)
def test_two_ranks_learn_as_one_does(layout: str, base: Path, begun: Path, tmp_path: Path) -> None:
    """The student's losses follow the critic's weights, so both are held. A step's micro-batches have four shapes."""
    expect = train(dmd(base, begun, steps=3), tmp_path / "one")
    sections = {
        "sharded": {"compute": {"checkpointing": "full"}},
        "ulysses": {"parallel": {"context": 2}},
        "ring": {"parallel": {"context": 2, "context_form": "ring"}},
    }
    recipe = dmd(base, begun, steps=3, **sections[layout])
    ranks(2, on_rank, recipe.model_dump(mode="json"), str(tmp_path / "two"))
    found = train(recipe.model_copy(update={"parallel": type(recipe.parallel)()}), tmp_path / "two")
    assert found == pytest.approx(expect, rel=1e-3)
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two")
    for name in (n for n in one if n.startswith("objective.critic.") and n.endswith(".exp_avg")):
        torch.testing.assert_close(two[name], one[name], rtol=1e-2, atol=1e-5 + 1e-2 * one[name].abs().max().item())


def test_sparse_attention_is_that_of_every_role(base: Path, begun: Path) -> None:
    """Of one block of keys per query nothing else is seen; with all of them kept it is dense attention."""

    def losses(keep: float | None) -> list[float]:
        recipe = dmd(base, begun)
        model = awake(recipe)
        if keep is not None:
            use_attention(model, AttentionConfig(form="sparse", block=(1, 1, 1), keep=keep))
        objective = recipe.objective.build(model, recipe, ALONE)
        with objective.roles.playing("critic"):
            critic = objective._critic_loss(batch_of(), update=1).total.item()
        return [objective.loss(batch_of()).total.item(), critic]

    dense = losses(None)
    assert losses(1.0) == pytest.approx(dense, rel=1e-3)
    assert all(few != pytest.approx(all_, rel=1e-2) for few, all_ in zip(losses(0.01), dense, strict=True))


def test_the_student_has_no_gradients_while_the_critic_is_trained(
    base: Path, begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    after_step = Dmd.after_step

    def looked_at(self: Dmd, step: int) -> None:
        held.append(any(p.grad is not None for p in lora_parameters(self.roles.model, "default")))
        after_step(self, step)

    monkeypatch.setattr(Dmd, "after_step", looked_at)
    train(dmd(base, begun, steps=2), tmp_path)
    assert held == [False, False]


@pytest.mark.exhaustive
def test_the_planner_counts_critic_reference_and_teacher(base: Path, begun: Path) -> None:
    plans = [plan_memory(r, device="cpu") for r in (
        dmd(base, begun, data=SMALL), distilling(base, {"kind": "cfg_distillation"}, data=SMALL),
    )]  # fmt: skip
    assert plans[0].counts.trained == 2 * plans[1].counts.trained
    assert plans[0].bytes["optimizer (AdamW)"] == 2 * plans[1].bytes["optimizer (AdamW)"]
    assert plans[0].bytes["gradients"] == plans[1].bytes["gradients"], "student and critic have theirs in turn"
    assert plans[0].flops > 3 * plans[1].flops


def test_passes_are_counted_in_the_mean_over_the_student_s_steps() -> None:
    """Way to a step and the step, the teacher's two, the reference's four; then five of the critic's."""
    passes = DmdConfig(start="x").passes
    assert (passes.forward, passes.trained) == (1.5 + 1 + 2 + 4 + 5 * 2.5, 5)
    assert DmdConfig(start="x", steps=1, anchor=0.0, critic_steps=2).passes.forward == 0 + 1 + 2 + 2 * 1


def test_an_anchor_needs_a_student_to_begin_as() -> None:
    with pytest.raises(ValidationError, match="name it with start, or set anchor: 0"):
        DmdConfig()
