"""Whole runs on rollouts: resumed to the bit, the same on one, two and four ranks, with rewards that fail."""

import signal
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from reelwright.model.codec.wan import WanCodec
from reelwright.training.batch import Batch
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.loop import Hooks
from reelwright.training.recipe import TrainRecipe
from reelwright.training.rewards.contract import Score, Video
from reelwright.training.rewards.in_process import InProcess
from reelwright.training.rewards.scoring import Done
from reelwright.training.rl.rollouts import make_rollouts
from reelwright.training.rl.videos import Decoder
from tests.model.published import save_vae
from tests.training.distilling import saved
from tests.training.ranks import ranks
from tests.training.rl.rolling import (
    NAMED,
    OTHER,
    Brightness,
    Clips,
    Redness,
    network,
    on_rank,
    rolling,
    save_base,
    scorer,
    train,
)

ALONE = World.alone("cpu")
CLOCKS = ("time", "_s", "_per_s", "data_wait_share", "idle_s", "busy_s", "idle_share")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("published") / "model.safetensors")


class Power(Exception):
    pass


class Killed(Clips):
    """The power goes as the last step is rolled out."""

    def batches(self, start_step: int) -> Iterator[Batch]:
        for batch in super().batches(start_step):
            if batch.step == self.recipe.steps - 1 and batch.micro:
                raise Power
            yield batch


def numbers(rows: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Rows of a log without clocks."""
    return [{name: value for name, value in row.items() if not name.endswith(CLOCKS)} for row in rows]


def test_a_killed_run_goes_on_to_the_bit(base: Path, tmp_path: Path) -> None:
    recipe = rolling(base, {"clip": 0.1})
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(Power):
        train(recipe, tmp_path / "parts", data=Killed(recipe, ALONE))
    assert numbers(train(recipe, tmp_path / "parts")) == numbers(whole)
    expect, found = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert found.keys() == expect.keys()
    assert all(torch.equal(found[name], expect[name]) for name in expect)
    assert {row["ratio"] for row in whole} == {1.0}
    assert ["rollout/training_s" in row for row in whole] == [False, True, True]
    assert len({row["reward/brightness"] for row in whole}) == 3
    assert whole[0]["kl"] == 0 < whole[1]["kl"]
    assert whole[0]["rollout/calls"] < whole[0]["rollout/calls_unshared"] == 3 * 3 * 4


class Signalled(InProcess):
    """Gets SIGTERM as it is handed the videos of the last step's first micro-batch."""

    handed = 0

    def submit(self, videos: Sequence[Video], labels: Collection[str] | None = None) -> Any:
        self.handed += 1
        if self.handed == 5:
            signal.raise_signal(signal.SIGTERM)
        return super().submit(videos, labels)


def test_a_signal_in_a_rollout_ends_it_before_the_next_groups_and_the_run_goes_on_to_the_bit(
    base: Path, tmp_path: Path
) -> None:
    recipe = rolling(base, checkpoints={"every": 100})
    whole = train(recipe, tmp_path / "whole")
    signalled = Signalled({"brightness": Brightness(), "redness": Redness()})
    begun = train(recipe, tmp_path / "parts", rewards=signalled)
    assert (len(begun), signalled.handed) == (2, 5)  # two micro-batches per step
    assert numbers(train(recipe, tmp_path / "parts")) == numbers(whole)
    expect, found = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert all(torch.equal(found[name], expect[name]) for name in expect)


def test_a_run_takes_another_s_state_only_where_it_remembers_the_same_rewards(base: Path, tmp_path: Path) -> None:
    uses = {"brightness": {"kind": "sharpness_standin"}, "redness": {"kind": "smoothness_standin"}}
    train(rolling(base, {"rewards": uses}, steps=1), tmp_path / "first")
    first = Checkpoints(tmp_path / "first" / "checkpoints", 9).latest()
    longer = rolling(base, {"rewards": uses, "beta": 0.2}, steps=2)
    assert [row["step"] for row in train(longer, tmp_path / "longer", resume_from=first)] == [2]
    fewer = rolling(base, {"rewards": {"brightness": uses["brightness"]}, "held_out": {"redness": uses["redness"]}})
    with pytest.raises(TrainError, match=r"remembers the rewards brightness \w+, redness \w+, and .* redness \(held"):
        train(fewer, tmp_path / "fewer", resume_from=first)
    other = rolling(base, {"rewards": uses | {"redness": {"kind": "sharpness_standin"}}})
    with pytest.raises(TrainError, match="remembers the rewards"):
        train(other, tmp_path / "other", resume_from=first)


LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {
    "sharded": (2, {"compute": {"checkpointing": "full"}}),
    "ulysses": (2, {"parallel": {"context": 2}}),
    "ring": (2, {"parallel": {"context": 2, "context_form": "ring"}}),
    "four": (4, {"parallel": {"context": 2}}),
}
SLOW = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def one(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    train(rolling(base, steps=2), folder)
    return folder


@pytest.mark.parametrize("layout", ["sharded", "ulysses", pytest.param("ring", marks=SLOW), "four"])
def test_ranks_make_the_groups_and_advantages_of_one_process(
    layout: str, base: Path, one: Path, tmp_path: Path
) -> None:
    """Micro-batches have one or two prompts and three shapes, so ranks need other numbers of passes."""
    from reelwright.training.logs import read_log

    size, sections = LAYOUTS[layout]
    recipe = rolling(base, {"videos_at_once": 2}, **{"steps": 2, **sections})
    ranks(size, on_rank, recipe.model_dump(mode="json"), str(tmp_path))
    expect, found = (numbers([row for row in read_log(at) if "loss" in row]) for at in (one, tmp_path))
    for a, b in zip(expect, found, strict=True):
        assert b == pytest.approx(a, rel=2e-3, abs=2e-4)
    tensors, two = saved(one), saved(tmp_path)
    for name in (n for n in tensors if n.startswith("model.")):
        torch.testing.assert_close(two[name], tensors[name], rtol=1e-2, atol=2e-3)


def test_replicas_stay_equal(base: Path) -> None:
    """HSDP with replicas only: each rank has all weights, and after two steps the same ones."""
    recipe = rolling(base, steps=2, parallel={"replicate": 2, "shard": 1})
    first, second = ranks(2, _weights, recipe.model_dump(mode="json"))
    assert first == second
    assert any(value for values in first.values() for value in values)


def _weights(recipe: dict[str, Any]) -> dict[str, list[float]]:
    import tempfile

    from reelwright.model.lora.adapters import lora_parameters
    from reelwright.training.distributed.world import start
    from reelwright.training.loop import Trainer
    from tests.training.made_up import ABOUT

    given = TrainRecipe.model_validate(recipe)
    world = start(given.parallel, device="cpu")
    model = network(given, world)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            recipe=given, data=Clips(given, world), model=model, world=world, folder=Path(folder), metadata=ABOUT,
            hooks=Hooks(say=str, scorer=scorer()),
        ).run()  # fmt: skip
    parts = [getattr(p, "_local_tensor", p).flatten().tolist() for p in lora_parameters(model)]
    return {str(i): part for i, part in enumerate(parts)}


def test_a_failed_score_is_masked_and_counted_and_too_many_stop_the_run(base: Path, tmp_path: Path) -> None:
    rows = train(rolling(base), tmp_path / "some", rewards=scorer(fails=True))
    failed = [row["reward/redness/failed"] for row in rows]
    assert 0 < sum(failed) < 27
    assert {row["reward/brightness/failed"] for row in rows} == {0}
    with pytest.raises(TrainError, match=r"reward 'redness' failed for \d+ of 9 videos of a step, such as: too round"):
        train(rolling(base, {"max_failed": 0.0}), tmp_path / "none", rewards=scorer(fails=True))


@dataclass
class Recorded:
    """A scorer that keeps what it was given."""

    seen: list[Video]
    value: Score = 0.0
    asked: list[tuple[str, int]] = field(default_factory=list)

    def submit(self, videos: Sequence[Video], labels: Collection[str] | None = None) -> Done:
        self.seen += videos
        labels = ("brightness", "redness") if labels is None else labels
        self.asked += [(label, len(videos)) for label in labels]
        return Done({label: [self.value] * len(videos) for label in labels})

    def figures(self) -> dict[str, float]:
        return {"busy_s": 1.5}

    def describe(self) -> dict[str, dict[str, object]]:
        return {}

    def close(self) -> None:
        pass


def rolled_by(
    recipe: TrainRecipe, *, std: float = 0.0, recorded: Recorded | None = None
) -> tuple[list[Any], list[Video]]:
    """The first step's batches, and the videos that they were made of."""
    model, recorded = network(recipe, std=std), recorded or Recorded([])
    objective = recipe.objective.build(model, recipe, ALONE)
    data = make_rollouts(Clips(recipe, ALONE), objective, recipe.objective, recipe, ALONE, recorded)
    return list(islice(filter(None, data.batches(0)), 2)), recorded.seen


def test_rewards_see_frames_rate_prompt_and_how_many_were_given(base: Path) -> None:
    recipe = rolling(base, data={"fps": 12, "frames": [5, 9], "frame_rates": [8, 24]})
    batches, videos = rolled_by(recipe)
    assert [video.prompt for video in videos] == ["a red fox"] * 3 + ["a grey sea"] * 6
    assert {video.frames.shape for video in videos[:6]} == {(5, 32, 32, 3)}
    assert {video.frames.shape for video in videos[6:]} == {(9, 32, 32, 3)}
    assert [video.rate for video in videos] == [8] * 6 + [24] * 3
    assert [video.given for video in videos] == [0] * 6 + [1] * 3  # an image
    assert all(video.frames.dtype == "uint8" for video in videos)
    assert all((video.frames[0] == videos[6].frames[0]).all() for video in videos[7:])  # the given frame is shared
    assert not (videos[6].frames[1:] == videos[7].frames[1:]).all()
    assert [batch.advantages.shape for batch in batches] == [(2, 3), (1, 3)]
    assert all(not batch.advantages.any() for batch in batches)  # every score is the same
    assert batches[0].figures["advantage/zero"] == 1
    assert batches[0].figures["scoring/busy_s"] == 1.5


@pytest.mark.parametrize(("given", "used"), [(0, 256), (64, 64)])
def test_videos_are_decoded_by_tiles_of_the_recipe_or_of_256_pixels(given: int, used: int, tmp_path: Path) -> None:
    """Whole frames of the VAE would not fit beside weights and optimizer."""
    codec = {"kind": "wan", "path": str(save_vae(tmp_path)), "tile": given}
    found = Decoder(rolling("base", codec=codec), ALONE).codec
    assert isinstance(found, WanCodec)
    assert found.tile == found.vae.tile_sample_min_height == used


def test_latents_that_are_not_finite_are_failures_not_scores(base: Path) -> None:
    recipe = rolling(base, {"max_failed": 1.0})
    model = network(recipe)
    with torch.no_grad():
        model.final_layer.linear.bias.fill_(float("nan"))
    objective, recorded = recipe.objective.build(model, recipe, ALONE), Recorded([])
    data = make_rollouts(Clips(recipe, ALONE), objective, recipe.objective, recipe, ALONE, recorded)
    batch = next(filter(None, data.batches(0)))
    assert not recorded.seen
    assert batch.figures["reward/brightness/failed"] == 9
    assert not batch.advantages.any()


def test_prompts_of_a_file_are_drawn_each_once_a_pass_and_without_state(base: Path, tmp_path: Path) -> None:
    from reelwright.model.text import load_text_encoder
    from reelwright.training.rl.prompts import prompts_of

    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(f"prompt {i}" for i in range(5)) + "\n\n")
    recipe = rolling(base, {"prompts": str(file)}, tasks={"t2v": 1}, data={"frames": [5]})
    prompts = prompts_of(str(file), recipe, ALONE)
    clips = Clips(recipe, ALONE)
    seen: list[str] = []
    for step in range(3):
        for micro in range(2):  # of two prompts and of one, as sizes hold more or fewer
            batch = prompts.of(replace(clips.batch(step, micro, 2), place=len(seen)))
            seen += batch.captions
            expect = load_text_encoder(recipe.text).encode(list(batch.captions))
            for one_text, other in zip(batch.text.unpacked(), expect, strict=True):
                torch.testing.assert_close(one_text, other.to(one_text.dtype))
    assert sorted(seen[:5]) == [f"prompt {i}" for i in range(5)]
    assert len(set(seen[5:])) == 4
    assert seen[:4] != seen[5:]


@pytest.mark.parametrize(
    ("written", "sections", "says"),
    [
        (None, {}, "cannot be read"),
        ("\n \n", {}, "has no prompts"),
        ("a fox", {"tasks": {"t2v": 1, "i2v": 1}}, "which another clip's words do not fit"),
        ("a fox", {"data": {"caption_dropout": 0.1}}, "set data.caption_dropout: 0"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(
    base: Path, tmp_path: Path, written: str | None, sections: dict[str, Any], says: str
) -> None:
    from reelwright.training.rl.prompts import prompts_of

    file = tmp_path / "prompts.txt"
    if written is not None:
        file.write_text(written)
    with pytest.raises(TrainError, match=says):
        prompts_of(str(file), rolling(base, **{"tasks": {"t2v": 1}, **sections}), ALONE)


def test_without_a_scorer_the_recipe_s_rewards_score_here(base: Path) -> None:
    recipe = rolling(base, {"rewards": {"sharp": NAMED}, "held_out": {"smooth": OTHER}})
    objective = recipe.objective.build(network(recipe), recipe, ALONE)
    data = make_rollouts(Clips(recipe, ALONE), objective, recipe.objective, recipe, ALONE, None)
    batches = data.batches(0)
    batch = next(filter(None, batches))
    assert batch.figures["reward/sharp"] > 0 > batch.figures["held_out/smooth"]
    assert batch.advantages.any()
    batches.close()
    with pytest.raises(RuntimeError):
        data.scorer.submit([])


def test_a_reward_of_tiny_deviations_counts_whole_where_the_eps_is_smaller_still(base: Path) -> None:
    sizes = []
    for eps in (1e-4, 1e-9):
        recipe = rolling(base, {"rewards": {"tiny": NAMED}, "advantage_eps": eps})
        scorer = InProcess({"tiny": Brightness(scale=1e-6)})
        objective = recipe.objective.build(network(recipe), recipe, ALONE)
        data = make_rollouts(Clips(recipe, ALONE), objective, recipe.objective, recipe, ALONE, scorer)
        sizes.append(next(filter(None, data.batches(0))).advantages.abs().max().item())
        scorer.close()
    assert sizes[0] < 0.01 < 0.5 < sizes[1]


def test_a_reward_of_some_tasks_has_not_failed_for_the_others(base: Path, tmp_path: Path) -> None:
    rewards = {"brightness": NAMED, "redness": {**NAMED, "tasks": ["i2v", "continuation"]}}
    recipe = rolling(base, {"rewards": rewards, "max_failed": 0.0})
    recorded = Recorded([])
    first, second = rolled_by(recipe, recorded=recorded)[0]
    assert (first.task, second.task) == ("t2v", "i2v")
    assert recorded.asked == [("brightness", 6), ("brightness", 3), ("redness", 3)]  # and computes nothing for them
    assert first.figures["reward/redness/failed"] == first.figures["reward/redness/left_out"] == 0
    rows = train(recipe, tmp_path / "run")  # steps of t2v, i2v; i2v, continuation; continuation, t2v
    alone = train(rolling(base, {"rewards": {**rewards, "brightness": {**NAMED, "weight": 0}}}), tmp_path / "alone")
    assert {row["reward/redness/failed"] for row in rows} == {0}
    assert alone[0]["advantage/zero"] == pytest.approx(2 / 3)  # of 9 videos, 6 are made from text alone
    assert alone[1]["advantage/zero"] == 0


def test_a_run_does_not_go_on_with_other_prompts(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a red fox\na grey sea\n")
    sections = {"tasks": {"t2v": 1}, "data": {"frames": [5], "tokens_per_batch": 8}}
    recipe = rolling(base, {"prompts": str(file)}, **sections)
    train(recipe.model_copy(update={"steps": 1}), tmp_path / "run")
    file.write_text("a red fox\nrain\n")
    with pytest.raises(TrainError, match="has other prompts than .* learned from"):
        train(recipe, tmp_path / "run")
    file.write_text("a red fox\n\na grey sea")
    assert len(train(recipe, tmp_path / "run")) == 3
