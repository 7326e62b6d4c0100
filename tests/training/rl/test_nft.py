"""DiffusionNFT's loss against its equations; its sampling policy over steps, resumes and ranks."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from reelwright.model.lora.adapters import lora_parameters
from reelwright.model.sampling.schedules import shifted, sigmas
from reelwright.model.sampling.solvers import euler
from reelwright.training.batch import draw
from reelwright.training.distributed.world import World
from reelwright.training.objectives.nft import Nft
from reelwright.training.recipe import TrainRecipe
from reelwright.training.rl.batch import MadeBatch
from reelwright.training.rl.streams import first_noise
from tests.training.distilling import saved
from tests.training.ranks import ranks
from tests.training.rl.rolling import Clips, batch_of, network, on_rank, rolling, save_base, train
from tests.training.rl.test_rollouts import Killed, Power, numbers

ALONE = World.alone("cpu")
NFT = {"kind": "nft", "guidance": 1.0, "mixing": 0.5, "old_rate": 0.1}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("published") / "model.safetensors")


def nft(base: Path, **objective: object) -> TrainRecipe:
    recipe = rolling(base, {**NFT, **objective})
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"batches_per_step": 2})})


def objective_of(recipe: TrainRecipe) -> Nft:
    return recipe.objective.build(network(recipe, std=0.3), recipe, ALONE)


def made_of(objective: Nft, kind: int, worth: list[float]) -> MadeBatch:
    batch = batch_of(kind)
    advantages = torch.tensor([worth] * 2)
    found = objective.micro_batches(batch, objective.roll(batch), advantages)
    assert len(found) == 3
    assert sum(len(one.seeds) / one.samples_in_step for one in found) == 1
    return found[0]


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("worth", [5.0, -2.0, -9.0])
def test_the_loss_is_that_of_the_equations(base: Path, kind: int, worth: float) -> None:
    objective = objective_of(nft(base, beta=0.3))
    batch, clean = made_of(objective, kind, [worth, 0.0, 0.0]), batch_of(kind).cond_frames
    loss = objective.loss(batch)
    draws = draw(batch.seeds, batch.latents.shape)
    t = shifted(draws.u, objective.config.timestep_shift((batch.latents.shape[2] - clean) * 4)).float()
    at = t.view(-1, 1, 1, 1, 1)
    x = (1 - at) * batch.latents + at * draws.noise
    x[:, :, :clean] = batch.latents[:, :, :clean]
    levels = t[:, None].repeat(1, x.shape[2])
    levels[:, :clean] = 0
    velocity = {}
    for role in ("default", "old", "base"):
        with torch.no_grad(), objective.roles.playing(role):
            velocity[role] = objective.roles.velocity(x, levels, batch)[:, :, clean:]
    assert (velocity["default"] - velocity["old"]).abs().max() > 1e-3
    rho = 0.5 + 0.5 * max(-1.0, min(1.0, worth / 5))
    plus, minus = (velocity["old"] + s * 0.5 * (velocity["default"] - velocity["old"]) for s in (1, -1))

    def far(led: Tensor) -> Tensor:
        away = (x[:, :, clean:] + at * led - batch.latents[:, :, clean:]).flatten(1)
        return away.square().mean(1) / away.abs().mean(1)

    expect = 5 / 0.5 * (rho * far(plus) + (1 - rho) * far(minus))
    expect = expect + 0.3 * (velocity["default"] - velocity["base"]).square().flatten(1).mean(1)
    torch.testing.assert_close(loss.per_sample, expect, rtol=1e-4, atol=1e-5)
    assert loss.total.item() == pytest.approx(expect.sum().item() / 6, rel=1e-4)


def test_a_good_video_pulls_and_a_bad_one_pushes(base: Path) -> None:
    """The gradient of a video of no worth is the opposite of that of the best, where both policies are one."""
    objective = objective_of(nft(base, beta=0.0))
    with torch.no_grad():
        for (_, old), (_, new) in zip(objective._named("old"), objective._named("default"), strict=True):
            old.copy_(new)
    student = [p for p in lora_parameters(objective.roles.model) if p.requires_grad]
    found = []
    for worth in (5.0, -5.0, 0.0):
        batch = made_of(objective, 0, [worth, 0.0, 0.0])
        found.append(torch.autograd.grad(objective.loss(batch).total, student))
    for good, bad, neither in zip(*found, strict=True):
        torch.testing.assert_close(good, -bad, rtol=1e-4, atol=1e-6)
        assert neither.abs().max() < 1e-5
    assert max(g.abs().max() for g in found[0]) > 1e-4


def test_videos_begin_with_noises_of_their_own_and_go_by_euler(base: Path) -> None:
    objective = objective_of(nft(base))
    batch = batch_of(0)
    made = objective.roll(batch).latents
    assert objective.paths.calls == objective.paths.alone == 2 * 3 * 4
    levels = sigmas(4, objective.config.timestep_shift(2 * 4))
    for i in range(3):
        noise = first_noise(batch.seeds, batch.latents.shape[1:], i)
        with torch.no_grad(), objective.roles.playing("old"):
            expect = euler(lambda x, t: objective.roles.model(x, t, batch.text), noise, levels).latents
        torch.testing.assert_close(made[:, i], expect, rtol=1e-4, atol=1e-4)


def test_the_sampling_policy_follows_and_a_killed_run_goes_on_to_the_bit(base: Path, tmp_path: Path) -> None:
    recipe = nft(base)
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(Power):
        train(recipe, tmp_path / "parts", data=Killed(recipe, ALONE))
    assert numbers(train(recipe, tmp_path / "parts")) == numbers(whole)
    expect, found = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert all(torch.equal(found[name], expect[name]) for name in expect)
    olds = [n for n in expect if n.startswith("objective.old.") and ".up." in n]
    assert olds
    name = olds[0].removeprefix("objective.old.")
    trained = next(n for n in expect if n.startswith("model.") and n.replace(".lora.default.", ".").endswith(name))
    assert not torch.equal(expect[olds[0]], expect[trained])
    assert not [n for n in expect if n.startswith("model.") and ".old." in n]


def test_after_a_step_the_old_policy_is_a_mean(base: Path) -> None:
    objective = objective_of(nft(base, old_rate=0.1, old_most=0.25))
    before = [(old.clone(), new.clone()) for (_, old), (_, new) in zip(
        objective._named("old"), objective._named("default"), strict=True
    )]  # fmt: skip
    objective.after_step(2)
    for (old, new), (_, now) in zip(before, objective._named("old"), strict=True):
        torch.testing.assert_close(now, 0.2 * old + 0.8 * new)
    objective.after_step(9)
    for (old, new), (_, now) in zip(before, objective._named("old"), strict=True):
        torch.testing.assert_close(now, 0.25 * (0.2 * old + 0.8 * new) + 0.75 * new)


def test_passes_are_counted_per_video_of_a_group(base: Path) -> None:
    """Of 3 videos in 4 steps: 12 to make them, one each of the old policy and of the base, and one trained each."""
    plain = nft(base).objective.passes
    assert (plain.forward, plain.trained) == (12 + 3 + 3, 3 - 1)
    assert nft(base, beta=0.0).objective.passes.forward == 12 + 3
    guided = nft(base, guidance=2.0).objective.passes
    assert (guided.forward, guided.trained) == (2 * (12 + 3 + 3), 2 * 3 - 1)


def test_shared_rollouts_serve_it_too(base: Path) -> None:
    objective = objective_of(nft(base, solver="critical"))
    objective.roll(batch_of(0))
    assert objective.paths.calls < objective.paths.alone


@pytest.mark.parametrize("parallel", [{}, {"context": 2}], ids=["sharded", "ulysses"])
@pytest.mark.every(2)
def test_two_ranks_learn_as_one_does(parallel: dict[str, int], base: Path, tmp_path: Path) -> None:
    recipe = rolling(base, NFT, steps=2)
    expect = numbers(train(recipe, tmp_path / "one", data=Clips(recipe, ALONE)))
    two = rolling(base, NFT, steps=2, parallel=parallel)
    ranks(2, on_rank, two.model_dump(mode="json"), str(tmp_path / "two"))
    from reelwright.training.logs import read_log

    found = numbers([row for row in read_log(tmp_path / "two") if "loss" in row])
    for a, b in zip(expect, found, strict=True):
        assert b == pytest.approx(a, rel=2e-3, abs=2e-4)


def test_without_a_clip_there_is_no_scale(base: Path) -> None:
    with pytest.raises(ValueError, match="advantage_clip must be above 0"):
        nft(base, advantage_clip=0.0)
