"""Bytes while videos are made: of which parts they are the sum, and how they grow."""

import math
from typing import Any

import pytest

from reelwright.model.config import DiTConfig
from reelwright.training.budget.sampling import (
    DECODED_NUMBERS_PER_PX,
    decoded_bytes,
    encoder_bytes,
    rollout_bytes,
    sampling_bytes,
    vae_bytes,
    wants_samples,
)
from reelwright.training.recipe import TrainRecipe

SMALL = DiTConfig(hidden_size=32, depth=2, num_heads=2, caption_channels=8, adaln_tembed_dim=16)
WAN, UMT5 = {"kind": "wan", "path": "x"}, {"kind": "umt5", "path": "x"}
PUBLISHED = {"codec": {**WAN, "dtype": "bf16"}, "text": {**UMT5, "dtype": "bf16"}}
SAMPLES = {"every": 1, "prompts": ["a"], "size": (64, 32), "frames": 9}
KINDS = {"parameters": 100, "optimizer (AdamW)": 200, "gradients": 10, "activations": 1000, "gathered weights": 50}


def recipe(**sections: Any) -> TrainRecipe:
    return TrainRecipe.model_validate({"model": SMALL, "samples": SAMPLES, **sections})


def test_encoders_are_the_published_ones_by_type_and_stand_ins_have_no_weights() -> None:
    both = recipe(**PUBLISHED)
    vae, text = 2 * 127_000_000, 2 * 5_680_000_000
    assert encoder_bytes(both) == vae + text
    assert (encoder_bytes(both, text=False), encoder_bytes(both, vae=False)) == (vae, text)
    assert vae_bytes(both) == vae
    assert encoder_bytes(recipe(codec=WAN, text=UMT5)) == 2 * (vae + text)  # fp32
    assert encoder_bytes(recipe()) == vae_bytes(recipe()) == 0


@pytest.mark.parametrize(("change", "expect"), [({}, True), ({"every": 0}, False), ({"prompts": []}, False)])
def test_videos_are_made_where_there_are_prompts_and_a_time(change: dict[str, Any], expect: bool) -> None:
    made = recipe(samples=SAMPLES | change)
    assert wants_samples(made) == expect
    assert (sampling_bytes(made, KINDS, whole=0, half=False) > 0) == expect


def test_a_decoded_video_grows_with_its_frames_and_a_tile_does_not() -> None:
    """An overlap of a quarter makes 16 / 9 of a video of its tiles, beside three copies of it."""
    stand_in, wan = recipe(), recipe(codec={**WAN, "tile": 16})
    pixels = 64 * 32
    assert decoded_bytes(stand_in, (64, 32), 5) == 3 * 4 * 3 * 5 * pixels
    assert decoded_bytes(stand_in) == decoded_bytes(stand_in, (64, 32), 9)
    assert decoded_bytes(wan, (64, 32), 9) - decoded_bytes(wan, (64, 32), 5) == pytest.approx(
        (3 + 16 / 9) * 4 * 3 * 4 * pixels, abs=4
    )
    larger, tile = recipe(codec={**WAN, "tile": 32}), DECODED_NUMBERS_PER_PX * 4
    assert decoded_bytes(larger) - decoded_bytes(wan) == tile * (32 * 32 - 16 * 16)
    whole = recipe(codec={**WAN, "tile": 512})  # more than the picture has
    assert decoded_bytes(whole) - decoded_bytes(wan) == tile * (64 * 32 - 16 * 16)
    half = recipe(codec={**WAN, "tile": 16, "dtype": "bf16"})
    assert 2 * decoded_bytes(half) == decoded_bytes(wan)


def test_while_samples_are_made_weights_and_states_stay_and_the_worst_time_counts() -> None:
    huge = 10**12  # gathered weights that make the network the worst
    plain, averaged = recipe(), recipe(optim={"ema": 0.9})
    network = sampling_bytes(plain, KINDS, whole=huge, half=False) - huge - 100 - 200
    assert network > 0
    assert sampling_bytes(averaged, KINDS, whole=huge, half=False) == huge + network + 100 + 200 + 10
    alone = recipe(samples=SAMPLES | {"guidance": 1.0})
    one = sampling_bytes(alone, KINDS, whole=huge, half=False) - huge - 100 - 200
    assert 1.5 < network / one < 2.1  # with the empty caption beside it
    published = recipe(**PUBLISHED)
    assert sampling_bytes(published, KINDS, whole=0, half=False) == 100 + 200 + encoder_bytes(published)
    assert sampling_bytes(published, KINDS, whole=huge, half=False) == huge + network + vae_bytes(published) + 300
    large = recipe(samples=SAMPLES | {"size": (640, 480), "frames": 93})
    decoded = sampling_bytes(large, {}, whole=0, half=False)
    assert decoded >= decoded_bytes(large) == 3 * 4 * 3 * 93 * 640 * 480


LATENT = (3, 4, 8)  # of 9 frames of 64 x 32


def rolling(**objective: Any) -> TrainRecipe:
    settings = {"kind": "grpo", "rewards": {"sharpness_standin": {}}, "group": 4, **objective}
    return recipe(objective=settings, lora={"rank": 2, "alpha": 2}, init="x", codec={**WAN, "tile": 16})


def rolled(made: TrainRecipe, *, batch: int = 1, whole: int = 10**12) -> int:
    return rollout_bytes(made, KINDS, LATENT, batch=batch, whole=whole, half=False)


def test_a_rollout_keeps_three_states_of_each_video_and_passes_as_many_as_are_wanted() -> None:
    bounded = rolling(videos_at_once=2)
    state = SMALL.in_channels * math.prod(LATENT) * 4
    assert rolled(bounded, batch=3) - rolled(bounded, batch=2) == 3 * 4 * state
    lasting = 10**12 + 100 + 200 + vae_bytes(bounded)
    network = rolled(bounded) - lasting - 3 * 4 * state
    assert network > 0
    every = rolled(rolling()) - lasting - 3 * 4 * state  # all four of a group, and not two
    assert 1.5 < every / network < 2.1
    unguided = rolled(rolling(videos_at_once=2, guidance=1.0)) - lasting - 3 * 4 * state
    assert 1.5 < network / unguided < 2.1
    decoded = decoded_bytes(bounded, (64, 32), 9)
    assert decoded > network
    assert rolled(bounded, whole=0) == 100 + 200 + vae_bytes(bounded) + 3 * 4 * state + decoded
    assert rollout_bytes(recipe(), KINDS, LATENT, batch=1, whole=0, half=False) == 0


def test_a_sample_s_pass_is_that_of_a_rollout_of_its_size() -> None:
    """Both with the empty caption beside the prompt, one video at a time."""
    one = rolling(videos_at_once=1)
    states = 3 * 4 * SMALL.in_channels * math.prod(LATENT) * 4
    assert sampling_bytes(one, KINDS, whole=10**12, half=False) == rolled(one) - states


def test_ranks_that_share_a_video_share_its_pass() -> None:
    one = rolling(videos_at_once=2)
    two = one.model_copy(update={"parallel": one.parallel.model_copy(update={"context": 2})})
    rest = 10**12 + 300 + vae_bytes(one) + 3 * 4 * SMALL.in_channels * math.prod(LATENT) * 4
    assert rolled(two) - rest == pytest.approx((rolled(one) - rest) / 2, abs=1)
