"""The loop of tuning against a plain one by AdamW's formula, on a network of a few weights."""

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reelwright.annotate.backends.videos.form import ShownVideo, VideoForm
from reelwright.annotate.chat.frame_times import FrameSampling
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.logs import read_log
from reelwright.training.tuning.engine import TuneOutcome, Tuner, mine, rate_at
from reelwright.training.tuning.feed import Feed
from reelwright.training.tuning.objective import TuneObjective
from reelwright.training.tuning.recipe import OptimConfig, TuneRecipe, load_tune_recipe
from reelwright.training.tuning.videos import VideoError, Videos

ALONE = World.alone("cpu")


@dataclass(frozen=True)
class Point:
    """A sample without videos: y at x, as heavy as it says."""

    key: str
    x: tuple[float, float]
    y: float
    heavy: float = 1.0
    videos: tuple[()] = ()


class Blind(VideoForm):
    """Shows nothing, to two samples of a forward pass."""

    token, most = "", 2

    def tokens(self, count: int, height: int, width: int) -> int:
        return 0

    def shown(self, frames: Any, seconds_per_frame: float) -> ShownVideo:
        return ShownVideo(0, torch.zeros(0))

    def inputs(self, ids: Tensor, videos: Sequence[ShownVideo]) -> dict[str, Any]:
        return {}


class Squares(TuneObjective[Point]):
    """Least squares. A point that is not finite cannot be read. passes: samples of each forward pass."""

    def __init__(self) -> None:
        self.form, self.passes = Blind(), list[int]()

    def lengths(self, item: Any, facts: Sequence[Any]) -> list[int]:
        return [1]

    def example(self, item: Any, seen: Sequence[Any]) -> Point:
        if not math.isfinite(item.y):
            raise VideoError("decode", "no frames")
        return item

    def weight(self, example: Point) -> float:
        return example.heavy

    def loss(self, network: nn.Module, examples: Sequence[Point], device: Any) -> Tensor:
        self.passes.append(len(examples))
        x, y, heavy = columns(examples)
        return (heavy * (network(x).flatten() - y).square()).sum()


def columns(points: Sequence[Point]) -> list[Tensor]:
    return [torch.tensor([getattr(one, name) for one in points], dtype=torch.float64) for name in ("x", "y", "heavy")]


class Net(nn.Module):
    """A line of the words' weights and one of vision's."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.words, self.visual, self.dropout = nn.Linear(2, 1), nn.Linear(2, 1), nn.Dropout(dropout)
        with torch.no_grad():
            for number, weight in enumerate(self.parameters()):
                weight.copy_(torch.arange(weight.numel()).view_as(weight) / 4 + number / 8)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.words(self.dropout(x)) + self.visual(x)


POINTS = [Point(f"p{i}", (math.sin(i), math.cos(3 * i)), 1 + i / 3, 0.5 + i % 3) for i in range(7)]
BROKEN = Point("broken", (0.0, 0.0), math.nan)
LR, DECAY, VISION, CLIP, STEPS, EACH = 0.1, 0.3, 0.25, 2.0, 7, 5
SETTINGS = {
    "steps": STEPS, "samples_per_step": EACH, "optim.lr": LR, "optim.weight_decay": DECAY, "optim.clip_norm": CLIP,
    "optim.warmup": 0.3, "lora.vision_rate": VISION, "compute.per_forward": 3, "compute.precision": "fp32",
    "log_every": 3, "save_every": 2,
}  # fmt: skip


@pytest.fixture
def feed() -> Iterator[Feed[Point]]:
    made = Feed(Squares(), Videos(FrameSampling(), 0), 2)
    yield made
    made.close()


def tuner(feed: Feed[Point], folder: Path, items: Sequence[Point], dropout: float = 0.0, **more: Any) -> Tuner[Point]:
    recipe = load_tune_recipe("captioner", None, SETTINGS | more.pop("settings", {}))
    return Tuner(
        recipe=recipe, network=Net(dropout), objective=feed.objective, feed=feed, items=items,  # type: ignore[arg-type]
        world=ALONE, folder=folder, blank=lambda: POINTS[0],
        **{"say": lambda _: None, "metadata": {"made_from": "these"}, **more},
    )  # fmt: skip


def rate(step: int) -> float:
    """Two steps of seven rise, by thirds; the other five are a cosine's."""
    return LR * ((step + 1) / 3 if step < 2 else (1 + math.cos(math.pi * (step - 2) / 5)) / 2)


def plain_loop(items: Sequence[Point], recipe: TuneRecipe) -> tuple[list[tuple[float, float]], dict[str, Tensor]]:
    """Loss and gradient's norm of each step, and the weights at the end, by AdamW's formula in float64."""
    net = Net(0.0)
    weights = dict(net.named_parameters())
    first, second = ({name: torch.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    told = []
    for step in range(recipe.steps):
        some = [one for one in mine(items, step, recipe, ALONE) if one is not BROKEN]  # type: ignore[arg-type]
        net.zero_grad()
        x, y, heavy = columns(some)
        loss = (heavy * (net(x)[:, 0] - y).square()).sum() / heavy.sum()
        loss.backward()
        norm = math.sqrt(sum(float(w.grad.square().sum()) for w in weights.values()))  # type: ignore[union-attr]
        told.append((loss.item(), norm))
        for name, weight in weights.items():
            assert weight.grad is not None
            gradient = weight.grad * min(1.0, CLIP / norm)
            lr = rate(step) * (VISION if name.startswith("visual") else 1)
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            mean, spread = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.999 ** (step + 1))
            decayed = weight.detach() * (1 - lr * (DECAY if name.endswith("weight") else 0))
            weight.data = decayed - lr * mean / (spread.sqrt() + 1e-8)
    return told, weights


def test_a_run_is_the_plain_loop_of_weighted_means_and_counts_what_it_cannot_read(
    feed: Feed[Point], tmp_path: Path
) -> None:
    items, said = [*POINTS, BROKEN], list[str]()
    made = tuner(feed, tmp_path, items, say=said.append)
    told, weights = plain_loop(items, made.recipe)
    began = time.perf_counter()
    outcome = made.run()
    whole_s = time.perf_counter() - began
    draws = [one for step in range(STEPS) for one in mine(items, step, made.recipe, ALONE)]  # type: ignore[arg-type]
    broken = draws.count(BROKEN)  # type: ignore[arg-type]
    assert outcome == TuneOutcome(STEPS, True, 0, {"decode": broken})
    for name, weight in made.network.named_parameters():
        torch.testing.assert_close(weight, weights[name], rtol=1e-9, atol=1e-12)
    rows = read_log(tmp_path)
    assert [row["step"] for row in rows] == [3, 6, 7]
    for row in rows:
        step = row["step"] - 1
        assert (row["loss"], row["grad_norm"]) == pytest.approx(told[step], rel=1e-9)
        assert row["lr"] == pytest.approx(rate(step))
        so_far = [one for s in range(step + 1) for one in mine(items, s, made.recipe, ALONE)]  # type: ignore[arg-type]
        assert row["left_out"] == so_far.count(BROKEN)  # type: ignore[arg-type]
        assert row["samples"] == EACH - so_far[-EACH:].count(BROKEN)  # type: ignore[arg-type]
    assert said[0].startswith(f"step 3 of 7: loss {told[2][0]:.4f}, gradient {told[2][1]:.3g}, ")
    assert sum(float(line.split(" s a step")[0].rpartition(" ")[2]) for line in said) <= whole_s + 0.02
    assert f"{rows[-1]['left_out']} left out" in said[-1]
    assert len(feed.objective.passes) == 3 * STEPS  # type: ignore[attr-defined]
    assert max(feed.objective.passes) == 2  # type: ignore[attr-defined]
    assert sorted(at.name for at in (tmp_path / "checkpoints").iterdir()) == ["step-00000006", "step-00000007"]


def test_a_killed_run_goes_on_with_the_same_dropout_and_counts(feed: Feed[Point], tmp_path: Path) -> None:
    items, said = [*POINTS, BROKEN], list[str]()
    whole = tuner(feed, tmp_path, items, 0.5)
    outcome = whole.run()
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000007")
    again = tuner(feed, tmp_path, items, 0.5, say=said.append)
    assert again.run() == outcome
    assert said[0].startswith("resuming from step 6 of 7 ")
    for one, other in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [row["step"] for row in read_log(tmp_path)] == [3, 6, 7]
    with pytest.raises(TrainError, match="another recipe, base model or data"):
        tuner(feed, tmp_path, items, metadata={"made_from": "others"}).run()


def test_a_held_out_loss_is_the_weighted_mean_without_dropout(feed: Feed[Point], tmp_path: Path) -> None:
    made = tuner(feed, tmp_path, POINTS, 0.5)
    x, y, heavy = columns(POINTS)
    expect = ((heavy * (Net(0.0)(x)[:, 0] - y).square()).sum() / heavy.sum()).item()
    assert made.loss_of([*POINTS, BROKEN]) == pytest.approx(expect, rel=1e-9)  # type: ignore[list-item]
    assert feed.objective.passes == [2, 2, 2, 1]  # type: ignore[attr-defined]
    assert math.isnan(made.loss_of([BROKEN]))  # type: ignore[list-item]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_run_that_is_not_finite_says_at_which_step(feed: Feed[Point], tmp_path: Path, where: str) -> None:
    far = Point("far", (1.0, 1.0), 1e200 if where == "loss" else 6e153)  # its square is finite, its gradient's is not
    with pytest.raises(TrainError, match=r"^step 1: the loss is .* lower optim\.lr"):
        tuner(feed, tmp_path, [far]).run()


def test_every_epoch_shows_each_sample_once_in_an_order_of_its_own_and_ranks_share_a_step() -> None:
    recipe = load_tune_recipe("captioner", None, {"samples_per_step": 4})
    items: list[Any] = list(range(10))
    drawn = [one for step in range(10) for one in mine(items, step, recipe, ALONE)]
    epochs = [drawn[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == items for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    two = [World(rank, 2, rank, 2) for rank in (0, 1)]
    for step in range(5):
        first, second = (mine(items, step, recipe, world) for world in two)
        together = [one for pair in zip(first, second, strict=True) for one in pair]
        assert together == mine(items, step, recipe, ALONE)


def test_a_rate_rises_falls_by_a_cosine_or_stays() -> None:
    cosine = OptimConfig(lr=LR, warmup=0.3)
    assert [rate_at(step, STEPS, cosine) for step in range(STEPS)] == pytest.approx([rate(s) for s in range(STEPS)])
    level = OptimConfig(lr=LR, warmup=0.3, schedule="constant")
    assert [rate_at(s, STEPS, level) for s in range(STEPS)] == pytest.approx([LR / 3, LR * 2 / 3, *[LR] * 5])
    assert rate_at(0, 1, OptimConfig(lr=LR, warmup=0.0)) == LR
