"""Speeds on the log line: of all ranks together, per second of training."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch

from reelwright.model.config import AttentionConfig, DiTConfig, LoRAConfig
from reelwright.model.flops import forward_flops, train_flops
from reelwright.training.budget.throughput import Meter, batch_flops, objective_flops
from reelwright.training.distributed.world import World
from reelwright.training.recipe import TrainRecipe
from tests.training.batches import make_batch

CONFIG = DiTConfig(hidden_size=32, depth=2, num_heads=2, caption_channels=8, adaln_tembed_dim=16)
CLIPS, TOKENS = 2, 2 * 3 * 2 * 4  # of 3 latent frames of 4 × 8, two by two


@dataclass(frozen=True)
class Alike(World):
    """Stands in for a rank whose fellows all do as it does."""

    def sum(self, values: Sequence[float]) -> list[float]:
        return [self.size * value for value in values]


def batch(wait_s: float = 0.0):
    made = make_batch(CLIPS)
    return replace(made, latents=torch.zeros(CLIPS, 16, 3, 4, 8), wait_s=wait_s)


def test_speeds_are_counts_over_seconds_and_begin_anew() -> None:
    meter = Meter(CONFIG, World.alone("cpu"))
    for wait_s in (0.25, 0.5):
        meter.add(batch(wait_s), flops=1000)
    meter.seconds = 3.0
    assert meter.read() == {"clips_per_s": 2 * CLIPS / 3, "tokens_per_s": 2 * TOKENS / 3, "data_wait_share": 0.25}
    meter.seconds = 3.0
    assert meter.read() == {"clips_per_s": 0, "tokens_per_s": 0, "data_wait_share": 0}


def test_ranks_of_a_context_group_count_their_batch_once_between_them() -> None:
    """Eight ranks, four to a batch: two batches at a time."""
    meter = Meter(CONFIG, Alike(size=8, context_size=4, data_size=2))
    meter.add(batch(wait_s=0.5), flops=1000)
    meter.seconds = 2.0
    assert meter.read() == {"clips_per_s": 2 * CLIPS / 2, "tokens_per_s": 2 * TOKENS / 2, "data_wait_share": 0.25}


def test_utilisation_is_of_the_device_s_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a GPU's name; there need be none."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    meter = Meter(CONFIG, Alike(size=8, context_size=4, device=torch.device("cuda")))
    meter.add(batch(), flops=int(312e12))
    meter.seconds = 4.0
    assert meter.read()["mfu"] == pytest.approx(2 * 312 / 4 / (8 * 312))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "of another maker")
    assert "mfu" not in meter.read()


def test_only_steps_are_timed() -> None:
    meter = Meter(CONFIG, World.alone("cpu"))
    outer = 0.0
    for _ in range(2):
        began = time.perf_counter()
        meter.start_step()
        inner = time.perf_counter()
        sum(range(10_000))
        least = time.perf_counter() - inner
        meter.end_step()
        outer += time.perf_counter() - began
        assert meter.seconds >= least
    time.sleep(0.01)  # between steps, which must not count
    assert 0 < meter.seconds <= outer


@pytest.mark.parametrize("lora", [None, LoRAConfig(rank=4, alpha=4)])
def test_a_batch_s_operations_are_those_of_its_own_size_and_captions(lora: LoRAConfig | None) -> None:
    recipe = TrainRecipe(model=CONFIG, lora=lora)
    made = replace(batch(), cond_frames=1)
    sizes = {"batch": CLIPS, "cond_frames": 1, "text_tokens": made.text.keys_per_caption}
    dense = AttentionConfig()
    assert batch_flops(recipe, made, dense) == objective_flops(recipe, (3, 2, 4), dense, **sizes)
    if not lora:
        assert batch_flops(recipe, made, dense) == train_flops(CONFIG, (3, 2, 4), **sizes)


@pytest.mark.parametrize(
    ("objective", "trained_passes"),
    [({"kind": "cfg_distillation", "guidance": 4.0}, 1), ({"kind": "dmd", "start": "x", "critic_steps": 3}, 1 + 3)],
    ids=["the teacher's, forward alone", "the critic's steps, forward and backward"],
)
def test_an_objective_s_other_passes_are_counted_beside_the_trained_one(objective: dict, trained_passes: int) -> None:
    recipe = TrainRecipe.model_validate({"model": CONFIG, "lora": {"rank": 2}, "init": "x", "objective": objective})
    plain = recipe.model_copy(update={"objective": TrainRecipe().objective})
    passes, sizes = recipe.objective.passes, {"batch": 1, "cond_frames": 0, "text_tokens": 16}
    assert passes.forward > 0
    trained, whole = (objective_flops(r, (3, 2, 4), AttentionConfig(), **sizes) for r in (plain, recipe))
    beside = passes.forward * forward_flops(CONFIG, (3, 2, 4), **sizes)
    assert whole == round(trained_passes * trained + beside)
