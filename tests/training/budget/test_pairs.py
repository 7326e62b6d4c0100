"""The planner counts both latents of a pair, and the frames of pairs that are made on the fly."""

from typing import Any

from reelwright.training.budget.activations import trace
from reelwright.training.budget.memory import plan_memory
from reelwright.training.budget.pairs import pair_bytes
from reelwright.training.budget.traced import Shape
from reelwright.training.recipe import TrainRecipe

BASE: dict[str, Any] = {
    "model": {"hidden_size": 32, "depth": 2, "num_heads": 2, "caption_channels": 8, "text_tokens": 4,
              "adaln_tembed_dim": 16},
    "text": {"kind": "hashing", "dim": 8, "tokens": 4}, "compute": {"precision": "fp32"},
    "data": {"sizes": ["64x64"], "frames": [17], "fps": 15, "workers": 2}, "tasks": {"t2v": 1},
}  # fmt: skip
PAIR = {"first_stage": "32x32", "multiple": 16, "fps": 15}
SHAPE = Shape(2, (5, 8, 8))


def recipe_of(**data: Any) -> TrainRecipe:
    objective = {"kind": "refinement"} if data else {"kind": "flow"}
    return TrainRecipe.model_validate({**BASE, "data": {**BASE["data"], **data}, "objective": objective})


def test_a_pair_adds_its_latents_to_a_micro_batch():
    latents = 2 * 16 * 5 * 8 * 8 * 4
    with_pair, without = (trace(recipe, SHAPE).peak for recipe in (recipe_of(pair=PAIR), recipe_of()))
    assert latents <= with_pair - without <= 4 * latents


def test_frames_of_pairs_count_where_they_are_made_on_the_fly():
    stored, fresh = recipe_of(pair=PAIR), recipe_of(pair=PAIR, encode="on_the_fly")
    assert pair_bytes(stored) == pair_bytes(recipe_of()) == 0
    kinds = plan_memory(fresh, device="cpu").bytes
    assert kinds["frames of pairs"] == 3 * 3 * 17 * 64 * 64 * 4 * 2
    assert "frames of pairs" not in plan_memory(stored, device="cpu").bytes


def test_frames_of_pairs_are_planned_for_the_largest_bucket():
    fresh = recipe_of(pair=PAIR, encode="on_the_fly", sizes=["64x64", "128x96"], frames=[1, 9, 17])
    assert pair_bytes(fresh) == 3 * 3 * 17 * 128 * 96 * 4 * 2
