"""CFG distillation and consistency against what is known of them in closed form, and as the loop runs them."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reelwright.model.config import AttentionConfig
from reelwright.model.flops import forward_flops
from reelwright.model.lora.adapters import lora_parameters, save_lora
from reelwright.model.sampling.guidance import cfg_zero
from reelwright.model.sampling.schedules import distilled_sigmas, shifted
from reelwright.model.sparse import use_attention
from reelwright.model.text import load_text_encoder, pack_text
from reelwright.training.batch import Batch, draw
from reelwright.training.budget.memory import plan_memory
from reelwright.training.budget.throughput import batch_flops, step_flops
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.lineage import parents_of
from reelwright.training.objectives.cfg_distillation import CfgDistillationConfig
from reelwright.training.objectives.consistency import ConsistencyConfig, pseudo_huber
from reelwright.training.objectives.distilling.distillation import (
    POINTS,
    DistillationConfig,
    Grid,
    RolledConfig,
    jump,
    noised_at,
    rolled,
)
from reelwright.training.objectives.flow import FlowConfig, add_noise
from reelwright.training.recipe import TrainRecipe
from reelwright.training.registry import AdapterPart
from reelwright.training.run import build
from tests.training.batches import make_batch
from tests.training.distilling import Killed, Power, awake, distilling, on_rank, save_base, saved, train
from tests.training.made_up import KINDS
from tests.training.ranks import ranks

ALONE = World.alone("cpu")
BOTH = [{"kind": "cfg_distillation"}, {"kind": "consistency"}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("published") / "model.safetensors")


def batch_of(kind: int = 1, **changes: Any) -> Batch:
    task, cond, frames = KINDS[kind]
    return make_batch(2, task=task, cond_frames=cond, frames=frames, channels=4, seed=kind, **changes)


def objective_of(recipe: TrainRecipe, std: float = 0.3) -> Any:
    return recipe.objective.build(awake(recipe, std=std), recipe, ALONE)


# --- the grid ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [1.0, 6.0, 12.0])
@pytest.mark.parametrize("phases", [1, 4, 16, 50])
def test_phases_begin_where_the_sampler_s_steps_begin(phases: int, shift: float) -> None:
    grid = Grid.of(shift, phases)
    sampler = distilled_sigmas(phases, shift)
    assert torch.equal(grid.sigmas, distilled_sigmas(POINTS, shift))
    assert set(grid.edges.tolist()) == set(sampler[1:].tolist())  # exactly, without tolerance
    for n in range(POINTS):
        assert grid.edges[n] == sampler[sampler < grid.sigmas[n]].max()


def test_the_sixteen_phases_are_the_published_points() -> None:
    grid = Grid.of(12.0, 16)
    ends = [grid.sigmas.tolist().index(edge) for edge in grid.edges.unique(sorted=True).flip(0).tolist()]
    assert ends == [3, 6, 9, 12, 15, 18, 21, 25, 28, 31, 34, 37, 40, 43, 46, 50]


def test_draws_fall_on_every_point_alike_and_levels_on_the_nearest() -> None:
    grid = Grid.of(12.0)
    u = (torch.arange(5000, dtype=torch.float64) + 0.5) / 5000
    assert (grid.drawn(u).bincount() == 100).all()
    assert grid.drawn(torch.tensor([1.0], dtype=torch.float64)).item() == POINTS - 1
    assert torch.equal(grid.nearest(grid.sigmas[:-1]), torch.arange(POINTS))
    assert grid.nearest(torch.tensor([0.0])).item() == POINTS - 1


def test_draws_by_span_show_a_point_as_often_as_its_step_is_long() -> None:
    grid = Grid.of(12.0)
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    spans = -grid.sigmas.diff()
    for share in (0.25, 1.0):
        found = grid.drawn(u, share).bincount(minlength=POINTS) / len(u)
        torch.testing.assert_close(found.double(), (1 - share) / POINTS + share * spans, atol=2e-5, rtol=0)
    assert grid.drawn(torch.tensor([1.0], dtype=torch.float64), 0.5).item() == POINTS - 1


def test_levels_are_the_grid_s_points_or_any_shifted_as_they_are(base: Path) -> None:
    batch = batch_of()
    u = draw(batch.seeds, batch.latents.shape).u
    found = {}
    for levels in ("grid", "continuous"):
        recipe = distilling(base, {"kind": "cfg_distillation", "levels": levels})
        found[levels] = objective_of(recipe).loss(batch).t.double()
        shift = recipe.objective.timestep_shift(3 * 2 * 2)  # 4 x 4 latents in tokens of 2 x 2
    torch.testing.assert_close(found["continuous"], shifted(u, shift).double(), rtol=1e-6, atol=0)
    grid = Grid.of(shift)
    torch.testing.assert_close(found["grid"], grid.sigmas[grid.drawn(u)], rtol=1e-6, atol=0)
    assert not torch.isclose(found["continuous"], found["grid"], rtol=1e-4).any()


@pytest.mark.parametrize("kind", range(4))
def test_clean_frames_are_those_of_base_training(kind: int) -> None:
    batch = batch_of(kind)
    levels = torch.tensor([0.25, 0.75])
    ours, theirs = noised_at(levels, batch, DistillationConfig(), (1, 2, 2)), add_noise(batch, FlowConfig(), t=levels)
    assert torch.equal(ours.x, theirs.x)
    assert torch.equal(ours.t, theirs.t)


# --- the student's own path ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", range(4))
def test_a_rollout_is_euler_s_steps_from_a_clip_noised_higher(base: Path, kind: int) -> None:
    """Each sample goes its own way: one begins at level 1 and has fewer points to go."""
    recipe = distilling(base, {"kind": "cfg_distillation", "rollout": 2})
    objective, batch, grid = objective_of(recipe), batch_of(kind), Grid.of(12.0)
    points, clean = torch.tensor([4, 40]), batch.cond_frames
    found = rolled(objective.roles, batch, recipe.objective, grid, points, (1, 2, 2))
    for i, way in enumerate(([0, 3, 4], [34, 37, 40])):
        begun = noised_at(grid.sigmas[way[0]].repeat(2), batch, recipe.objective, (1, 2, 2))
        x, t = begun.x, begun.t.clone()
        for here, after in itertools.pairwise(way):
            with torch.no_grad():
                velocity = objective.roles.velocity(x, t, batch)[:, :, clean:]
            x[:, :, clean:] += (grid.sigmas[here] - grid.sigmas[after]).float() * velocity
            t[:, clean:] = grid.sigmas[after]
        torch.testing.assert_close(found.x[i], x[i], rtol=1e-4, atol=1e-5)
        assert torch.equal(found.t[i], t[i])
    mixed = noised_at(grid.sigmas[points], batch, recipe.objective, (1, 2, 2))
    assert torch.equal(found.t, mixed.t)
    assert (found.x - mixed.x)[:, :, clean:].abs().mean() > 1e-2
    none = rolled(objective.roles, batch, RolledConfig(), grid, points, (1, 2, 2))
    assert torch.equal(none.x, mixed.x)


@pytest.mark.parametrize("objective", BOTH, ids=lambda o: o["kind"])
def test_a_rollout_is_trained_on_and_validation_is_without(objective: dict[str, Any], base: Path) -> None:
    plain, own = (objective_of(distilling(base, {**objective, "rollout": steps})) for steps in (0, 2))
    batch, t = batch_of(), torch.tensor([0.4, 0.9])
    assert own.loss(batch).total.item() != pytest.approx(plain.loss(batch).total.item(), rel=1e-3)
    assert torch.equal(own.loss(batch).t, plain.loss(batch).t)
    assert torch.equal(own.loss(batch, t=t).total, plain.loss(batch, t=t).total)


def test_a_rollout_needs_the_grid() -> None:
    with pytest.raises(ValueError, match="levels: grid"):
        CfgDistillationConfig(kind="cfg_distillation", levels="continuous", rollout=1)


# --- consistency in closed form ------------------------------------------------------------------------------------


def test_euler_through_a_student_s_phases_of_an_exact_path_is_exact() -> None:
    """x_σ = (1 - a(σ)) x0 + a(σ) ε with a(σ) = σ³: a student that knows the path jumps from edge to edge."""
    grid = Grid.of(12.0, 16)
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 2, 4, 3, 2, 2, generator=generator, dtype=torch.float64)
    path = lambda s: (1 - s**3) * x0 + s**3 * noise  # noqa: E731
    x, sigma, steps = noise, grid.sigmas[0], 0
    while sigma > 0:
        end = grid.edges[(grid.sigmas == sigma).nonzero().item()]
        velocity = (path(end) - x) / (sigma - end)
        x = jump(x, velocity, (sigma - end).repeat(2))
        torch.testing.assert_close(x, path(end), rtol=0, atol=1e-12)
        sigma, steps = end, steps + 1
    assert steps == 16
    torch.testing.assert_close(x, x0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("c", [1e-3, 1.0])
def test_pseudo_huber_is_its_formula_and_keeps_small_errors(c: float) -> None:
    d = torch.logspace(-9, 3, 49, dtype=torch.float64)
    torch.testing.assert_close(pseudo_huber(d, c)[24:], ((d**2 + c**2).sqrt() - c)[24:])
    small = pseudo_huber(torch.tensor([1e-6]), c)
    assert small.item() == pytest.approx(1e-12 / (2 * c), rel=1e-5)  # (√(d² + c²) - c) is 0 in fp32 here


class Straight(torch.nn.Module):
    """Knows x0 and ε of a batch: velocity x0 - ε everywhere, so that every path is straight and consistent."""

    def __init__(self, inner: torch.nn.Module, velocity: Tensor) -> None:
        super().__init__()
        self.inner, self.answer = inner, velocity

    def forward(self, x: Tensor, t: Tensor, text: Any, **_: Any) -> Tensor:
        return self.answer


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("per_span", [True, False])
def test_a_consistent_student_of_a_straight_teacher_has_no_loss(base: Path, kind: int, per_span: bool) -> None:
    recipe = distilling(base, {"kind": "consistency", "per_span": per_span})
    objective, batch = objective_of(recipe), batch_of(kind)
    noised = add_noise(batch, FlowConfig())
    objective.roles.model = Straight(objective.roles.model, noised.target)
    assert objective.loss(batch).total < 1e-7
    objective.roles.model.answer = -noised.target
    assert objective.loss(batch).total < 1e-7  # consistent too, wherever it leads
    calls = iter([noised.target, noised.target, noised.target, -noised.target])  # teacher (2), target, student
    objective.roles.model.forward = lambda *_, **__: next(calls)
    assert objective.loss(batch).total > 1e-4


def test_no_gradient_flows_through_the_target(base: Path) -> None:
    """The gradient is that of the student's own jump against a constant."""
    recipe = distilling(base, {"kind": "consistency", "per_span": False, "huber": 1.0})
    objective, batch = objective_of(recipe), batch_of()
    objective.loss(batch).total.backward()
    found = [p.grad.clone() for p in lora_parameters(objective.roles.model)]
    objective.roles.model.zero_grad()

    places, noised = objective._placed(batch, None)
    t_after = places.after.float()[:, None].repeat(1, 3)
    with torch.no_grad():
        after = jump(noised.x, objective.teacher(noised.x, noised.t, batch), places.here - places.after)
        target = jump(after, objective.roles.velocity(after, t_after, batch), places.after - places.end)
    out = jump(noised.x, objective.roles.velocity(noised.x, noised.t, batch), places.here - places.end)
    ((1 + (out - target).square()).sqrt() - 1).flatten(1).mean(1).sum().div(2).backward()
    for one, expect in zip(found, lora_parameters(objective.roles.model), strict=True):
        torch.testing.assert_close(one, expect.grad, rtol=1e-4, atol=1e-8)
        assert one.any()


# --- the teacher ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", range(4))
def test_the_teacher_is_the_sampler_s_guidance_on_the_bare_base(base: Path, kind: int) -> None:
    recipe = distilling(base, {"kind": "cfg_distillation"})
    objective, batch = objective_of(recipe), batch_of(kind)
    clean = batch.cond_frames
    t = torch.full((2, batch.latents.shape[2]), 0.6)
    t[:, :clean] = 0
    found = objective.teacher(batch.latents, t, batch)[:, :, clean:]

    plain, _ = build(recipe.model_copy(update={"lora": None}), ALONE)
    states = load_text_encoder(recipe.text).encode(["blurred, still"])[0].bfloat16()
    negative = pack_text([states, states], 4)
    with torch.no_grad():
        cond, uncond = (plain(batch.latents, 1000 * t, text, cond_frames=clean) for text in (batch.text, negative))
    torch.testing.assert_close(found, cfg_zero(cond[:, :, clean:], uncond[:, :, clean:], 4.0))


@pytest.mark.parametrize("kind", range(4))
def test_student_and_teacher_are_one_at_guidance_one_and_no_effect(base: Path, kind: int) -> None:
    """At guidance 1 nothing is left to learn for an adapter without effect; with effect there is."""
    recipe = distilling(base, {"kind": "cfg_distillation", "guidance": 1.0})
    model, _ = build(recipe, ALONE)
    objective = recipe.objective.build(model, recipe, ALONE)
    assert objective.loss(batch_of(kind)).total == 0
    assert objective_of(recipe).loss(batch_of(kind)).total > 1e-3
    guided = distilling(base, {"kind": "cfg_distillation"})
    model, _ = build(guided, ALONE)
    assert guided.objective.build(model, guided, ALONE).loss(batch_of(kind)).total > 1e-3


def test_an_adapter_teaches_in_one_pass_and_a_student_begins_as_it(base: Path, tmp_path: Path) -> None:
    cfg = distilling(base, {"kind": "cfg_distillation"}, steps=2)
    train(cfg, tmp_path / "cfg")
    taught = distilling(base, {"kind": "consistency", "start": str(tmp_path / "cfg"), "teacher": str(tmp_path / "cfg")})
    model, _ = build(taught, ALONE)
    own = {n.replace(".default.", ".X."): p for n, p in model.named_parameters() if ".lora.default." in n}
    teacher = {n.replace(".teacher.", ".X."): p for n, p in model.named_parameters() if ".lora.teacher." in n}
    assert own.keys() == teacher.keys()
    assert all(torch.equal(own[name], teacher[name]) for name in own)
    assert any(p.any() for n, p in own.items() if ".up." in n)
    objective = taught.objective.build(model, taught, ALONE)
    calls = []
    forward = model.forward
    model.forward = lambda *a, **k: calls.append(objective.roles.role) or forward(*a, **k)
    objective.loss(batch_of())
    assert calls == ["teacher", "default", "default"]

    save_lora(model, tmp_path / "lora.safetensors")
    from_file = taught.model_copy(
        update={"objective": taught.objective.model_copy(update={"start": str(tmp_path / "lora.safetensors")})}
    )
    for mine, expect in zip(lora_parameters(build(from_file, ALONE)[0], "default"), own.values(), strict=True):
        assert torch.equal(mine, expect)

    train(taught.model_copy(update={"steps": 2}), tmp_path / "consistency")
    assert not [name for name in saved(tmp_path / "consistency") if ".lora.teacher." in name]
    other = distilling(base, {"kind": "consistency", "start": str(tmp_path / "cfg")}, lora={"rank": 2, "alpha": 2})
    with pytest.raises(TrainError, match="alpha / rank"):
        build(other, ALONE)


def test_a_recipe_without_lora_is_refused(base: Path) -> None:
    recipe = distilling(base, {"kind": "cfg_distillation"}, lora=None)
    model, _ = build(recipe, ALONE)
    with pytest.raises(TrainError, match="needs lora"):
        recipe.objective.build(model, recipe, ALONE)


# --- in the loop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", BOTH, ids=lambda o: o["kind"])
@pytest.mark.every(2)
def test_a_killed_run_goes_on_to_the_bit_and_learns(objective: dict[str, Any], base: Path, tmp_path: Path) -> None:
    recipe = distilling(base, objective)
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(Power):
        train(recipe, tmp_path / "parts", data=Killed(recipe, ALONE))
    assert train(recipe, tmp_path / "parts") == whole
    expect, found = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert found.keys() == expect.keys()
    assert all(torch.equal(found[name], expect[name]) for name in expect)
    assert len(set(whole)) == 6


@pytest.mark.parametrize(
    "objective",
    [pytest.param(BOTH[0], marks=pytest.mark.exhaustive), BOTH[1]],  # consistency has the guided teacher too
    ids=lambda o: o["kind"],
)
def test_two_sharded_ranks_learn_as_one_does(objective: dict[str, Any], base: Path, tmp_path: Path) -> None:
    """FSDP2 with activation checkpointing on two ranks, and two ranks that share each sample's tokens."""
    expect = train(distilling(base, objective, steps=3), tmp_path / "one")
    layouts = {
        "sharded": {"compute": {"checkpointing": "full"}},
        "ulysses": {"parallel": {"context": 2}},
    }
    for name, sections in layouts.items():
        recipe = distilling(base, objective, steps=3, **sections)
        ranks(2, on_rank, recipe.model_dump(mode="json"), str(tmp_path / name))
        found = train(recipe.model_copy(update={"parallel": type(recipe.parallel)()}), tmp_path / name)
        assert found == pytest.approx(expect, rel=2e-4), name


@pytest.mark.parametrize("objective", BOTH, ids=lambda o: o["kind"])
def test_sparse_attention_teaches_and_learns(objective: dict[str, Any], base: Path) -> None:
    """Of one block of keys per query nothing else is seen; with all of them kept it is dense attention."""
    losses = {}
    for keep in (0.01, 1.0):
        attention = {"form": "sparse", "block": [1, 1, 1], "keep": keep}
        recipe = distilling(base, objective, attention=attention)
        model = awake(recipe)
        use_attention(model, recipe.attention)
        losses[keep] = recipe.objective.build(model, recipe, ALONE).loss(batch_of()).total.item()
    dense = objective_of(distilling(base, objective)).loss(batch_of()).total.item()
    assert losses[1.0] == pytest.approx(dense, rel=1e-4)
    assert losses[0.01] != pytest.approx(dense, rel=1e-3)


@pytest.mark.parametrize(
    ("objective", "beside"),
    [(BOTH[0], 2), (BOTH[1], 3), ({**BOTH[0], "rollout": 2}, 4), ({**BOTH[1], "rollout": 2}, 5)],
    ids=["cfg_distillation", "consistency", "cfg_distillation rolled", "consistency rolled"],
)
def test_teachers_are_counted(objective: dict[str, Any], beside: int, base: Path) -> None:
    recipe, batch = distilling(base, objective), batch_of()
    dense = AttentionConfig()
    sizes = {"batch": 2, "cond_frames": 0, "text_tokens": batch.text.keys_per_caption}
    grid = (3, 2, 2)
    expect = step_flops(recipe.model, recipe.lora, grid, **sizes, attention=dense)
    expect += beside * forward_flops(recipe.model, grid, **sizes)
    assert batch_flops(recipe, batch, dense) == expect
    assert objective_of(recipe).flops(batch, dense) == expect
    small = distilling(base, objective, data={"sizes": ["64x64"], "frames": [9], "tokens_per_batch": 64})
    plans = [plan_memory(r, device="cpu") for r in (small, small.model_copy(update={"objective": FlowConfig()}))]
    assert plans[0].flops > (1 + 0.25 * beside) * plans[1].flops
    assert plans[0].bytes["activations"] >= plans[1].bytes["activations"]


def test_lineage_follows_adapters_and_the_base() -> None:
    base = {"path": "base", "parent": None}
    cfg = {"path": "cfg", "parent": base, "adapters": {}}
    run = {"path": "run", "parent": base, "adapters": {"default": cfg, "teacher": cfg}}
    assert [one["path"] for one in parents_of(run)] == ["cfg", "base"]
    assert [one["path"] for one in parents_of({"parent": {"path": "b", "parent": base}})] == ["b", "base"]


def test_a_guided_teacher_answers_in_two_passes_and_an_adapter_in_one() -> None:
    assert DistillationConfig().passes.forward == 2
    assert DistillationConfig(teacher="x").passes.forward == DistillationConfig(guidance=1).passes.forward == 1
    assert ConsistencyConfig().passes.forward == 3  # and the target's own


def test_an_adapter_that_teaches_is_not_trained() -> None:
    assert DistillationConfig(start="s").adapters == (AdapterPart("default", "s"),)
    teacher = AdapterPart("teacher", "t", trained=False)
    assert DistillationConfig(teacher="t").adapters == (AdapterPart("default"), teacher)
