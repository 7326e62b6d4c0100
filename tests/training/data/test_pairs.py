"""Pairs from a clip's frames: without degradations, from which seed they follow, and which clips they take."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from reelwright.model.codec.dct import DCTCodec
from reelwright.model.config import DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.refinement.sizes import Size
from reelwright.model.refinement.upsample import upsample
from reelwright.model.text import pack_text
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.encode import encode_frames, encoded_row, fingerprints_of, read_into
from reelwright.training.data.loader import Loader, Portion, make_schedule
from reelwright.training.data.pairs import Denoiser, FirstStage, first_stage_size, pair_maker, stored_seed, times_of
from reelwright.training.data.plan_making import plan_of
from reelwright.training.data.windows import wanted_windows
from reelwright.training.errors import TrainError
from reelwright.training.pair_config import BaseTripConfig
from reelwright.training.recipe import DataConfig, TaskConfig, TrainRecipe
from tests.training.data import test_loader
from tests.training.data.test_loader import decode, loader_of
from tests.training.data.test_origins import assert_alike, fresh_of

filled = test_loader.filled
NONE = dict.fromkeys(("blur", "resize", "noise", "jpeg", "video"))
SMALL = {"first_stage": "32x32", "multiple": 16, "fps": 15}
BUCKET = Bucket(9, 64, 64)


def recipe_of(pair=SMALL, **data) -> TrainRecipe:
    made = test_loader.recipe_of(**({"frames": (1, 9), "frame_rates": (15, 30)} | data), pair={**SMALL, **pair})
    return made.model_copy(
        update={"objective": TrainRecipe.model_validate({"objective": {"kind": "refinement"}}).objective}
    )


def window_frames(count: int = 9) -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    pictures = [128 + 90 * np.sin((x + 2 * t) / 4) * np.cos(y / 5) for t in range(count)]
    return np.repeat(np.stack(pictures)[..., None], 3, -1).astype(np.uint8)


def test_without_degradations_a_pair_is_the_clip_and_its_enlarged_reduction():
    maker, codec, frames = pair_maker(recipe_of({**NONE, "codec_trip": False})), DCTCodec(), window_frames()
    low = maker.first_stage(frames, BUCKET, 1)
    assert low.frames.shape == (5, 32, 32, 3)
    means = frames[::2].reshape(5, 32, 2, 32, 2, 3).mean((2, 4))
    np.testing.assert_allclose(low.frames, means, rtol=0, atol=0.5)  # rounded
    found = maker.encode(frames, low, BUCKET, codec)
    video = torch.from_numpy(low.frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    enlarged = upsample(video, frames=9, height=64, width=64)
    torch.testing.assert_close(found[:16], encode_frames(frames, codec), rtol=0, atol=0)
    torch.testing.assert_close(found[16:], codec.encode(enlarged)[0], rtol=0, atol=1e-5)


def test_the_codecs_round_trip_takes_any_number_of_frames():
    """13 frames of the clip are 7 of the first stage, which are no 4k + 1."""
    longer = {"frames": (13,), "frame_rates": (30,)}
    maker, codec = pair_maker(recipe_of(NONE, **longer)), DCTCodec()
    low = maker.first_stage(window_frames(13), Bucket(13, 64, 64), 1)
    assert len(low.frames) == 7
    found = maker.encode(window_frames(13), low, Bucket(13, 64, 64), codec)
    assert found.shape == (32, 4, 8, 8)
    plain = pair_maker(recipe_of({**NONE, "codec_trip": False}, **longer)).encode(
        window_frames(13), low, Bucket(13, 64, 64), codec
    )
    assert not torch.equal(found[16:], plain[16:])
    assert torch.equal(found[:16], plain[:16])


def test_pairs_follow_from_the_seed_and_stored_ones_from_clip_and_window():
    recipe = recipe_of({name: {"chance": 1} for name in NONE})
    maker, codec = pair_maker(recipe), DCTCodec()
    made = [
        maker.encode(window_frames(), maker.first_stage(window_frames(), BUCKET, s), BUCKET, codec) for s in (4, 4, 5)
    ]
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0][:16], made[2][:16])
    assert not torch.equal(made[0][16:], made[2][16:])
    seeds = {stored_seed(maker.config, clip, key) for clip in ("a", "b") for key in ("9x64x64", "9x64x64@1/6")}
    assert len(seeds) == 4
    assert stored_seed(maker.config.model_copy(update={"seed": 1}), "a", "9x64x64") not in seeds


def test_a_share_of_the_samples_at_twice_the_rate_is_refined_in_space_alone():
    maker = pair_maker(recipe_of({**NONE, "spatial_only": 0.25}))
    lows = [maker.first_stage(window_frames(), BUCKET, seed) for seed in range(200)]
    assert {len(low.frames) for low in lows if low.times == 1} == {9}
    assert {len(low.frames) for low in lows if low.times == 2} == {5}
    assert 30 <= sum(low.times == 1 for low in lows) <= 70
    whole = next(low for low in lows if low.times == 1)
    assert maker.encode(window_frames(), whole, BUCKET, DCTCodec()).shape == (32, 3, 8, 8)


def test_frame_rates_say_which_buckets_are_refined_in_time():
    data = DataConfig(frames=(1, 93, 189), frame_rates=(15, 15, 30), pair={})
    assert [times_of(data, Bucket(f, 704, 1280)) for f in data.frames] == [1, 1, 2]
    assert first_stage_size(data.pair, Bucket(93, 720, 1280)) == Size(480, 832)
    with pytest.raises(ValueError, match="neither once nor twice"):
        DataConfig(frames=(93,), fps=24, pair={})
    with pytest.raises(ValueError, match="one number above 0 for each of the frames"):
        DataConfig(frames=(1, 93), frame_rates=(15,))
    with pytest.raises(TrainError, match="not larger; name a smaller first stage"):
        first_stage_size(data.pair, Bucket(93, 480, 832))


def test_clips_slower_than_twice_the_first_stage_are_refined_in_space_alone():
    rows = pa.table({
        "clip_id": ["25 fps", "29.97 fps", "short"], "weight": [1.0] * 3, "width": [1280] * 3, "height": [720] * 3,
        "fps": [25.0, 29.97, 30.0], "num_frames": [400, 400, 190], "source_md5": ["a", "b", "c"],
    })  # fmt: skip
    data = DataConfig(sizes=("720p",), frames=(93, 189), frame_rates=(15, 30), holdout=0, pair={})
    plan = plan_of(rows, data, TaskConfig(t2i=0))
    frames = dict(zip(plan.clip_ids.to_pylist(), [plan.buckets[b].frames for b in plan.video[:, 0]], strict=True))
    assert frames == {"25 fps": 93, "29.97 fps": 189, "short": 189}


def test_the_chain_is_in_the_key_of_what_is_stored():
    keys = {fingerprints_of(r).latents for r in (
        recipe_of(), recipe_of({"noise": None}), recipe_of({"noise": {"sigma": (1, 9)}}),
        recipe_of({"timing": "exact"}), recipe_of(frame_rates=(15, 15)), test_loader.recipe_of(),
    )}  # fmt: skip
    assert len(keys) == 6


def test_stored_cached_and_fresh_pairs_reach_the_batch(filled, tmp_path):
    recipe = recipe_of({"noise": {"chance": 1}}, frame_rates=(15, 15))
    prints, plan, codec = fingerprints_of(recipe), make_schedule(filled, "all", recipe), DCTCodec()
    maker, rows = pair_maker(recipe), []
    for window, clips in wanted_windows(plan):
        for clip in plan.clip_ids.take(clips).to_pylist():
            decoded = decode(bytes([int(clip[4:])]), window.bucket, float(window.place))
            rows.append(
                encoded_row(clip, window, decoded, codec, dtype="fp32", fingerprint=prints.latents, pairs=maker)
            )
    filled.commit_encoded("latents", [filled.write_encoded("latents", rows)])
    fresh = fresh_of(filled, recipe)
    fresh.pairs = maker
    cached = recipe_of(
        {"noise": {"chance": 1}},
        frame_rates=(15, 15),
        encode={"latents": "cached", "text": "on_the_fly", "cache_dir": str(tmp_path)},
    )
    stored = recipe_of({"noise": {"chance": 1}}, frame_rates=(15, 15), encode={"text": "on_the_fly"})
    found, others = (list(loader_of(filled, r, samples=fresh)) for r in (stored, cached))
    assert_alike(found, others)
    for batch, other in zip(found, others, strict=True):
        assert batch.upsampled.shape == batch.latents.shape == batch.draws.noise.shape
        assert torch.equal(batch.upsampled, other.upsampled)
    whole = np.empty((32, *BUCKET.latent), np.float32)
    video = next(row for row in rows if row["bucket"] == BUCKET.key)
    read_into(whole, video["latents"], "fp32")
    of_clip = next(
        (b, i) for b in found for i, c in enumerate(b.clip_ids) if (c, b.bucket) == (video["clip_id"], BUCKET.key)
    )
    assert np.array_equal(of_clip[0].latents[of_clip[1]].numpy(), whole[:16])
    assert np.array_equal(of_clip[0].upsampled[of_clip[1]].numpy(), whole[16:])
    on_the_fly = recipe_of({"noise": {"chance": 1}}, frame_rates=(15, 15), encode="on_the_fly")
    batches = [
        list(
            Loader(
                filled,
                "all",
                make_schedule(filled, "all", on_the_fly),
                on_the_fly,
                portion=Portion(stop_step=2),
                samples=fresh,
            )
        )
        for _ in range(2)
    ]
    for batch, again in zip(*batches, strict=True):
        torch.testing.assert_close(batch.upsampled, again.upsampled, rtol=0, atol=0)


def test_the_base_models_own_denoising_is_drawn_and_repeatable():
    config = BaseTripConfig(path="x", chance=1, level=(0.3, 0.3), steps=10)
    model = DiT(DiTConfig(hidden_size=32, num_heads=2, depth=1, caption_channels=8, text_tokens=4)).init_weights(0)
    with torch.no_grad():
        model.final_layer.linear.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    trip = Denoiser(model.eval(), pack_text([torch.zeros(1, 8)], 4), config)
    latents = torch.randn(1, 16, 2, 4, 4)
    first, again, other = trip(latents, 0.3, 5), trip(latents, 0.3, 5), trip(latents, 0.3, 6)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        model.final_layer.linear.weight.zero_()
        model.final_layer.linear.bias.zero_()
    torch.testing.assert_close(trip(latents, 0.3, 5), 0.7 * latents + 0.3 * noise)  # a network that predicts 0
    maker = pair_maker(recipe_of({**NONE, "base": {"path": "x", "chance": 1}}))
    with pytest.raises(TrainError, match="make the pairs with reel precompute"):
        maker.encode(window_frames(), FirstStage(np.zeros((5, 32, 32, 3), np.uint8), 1, 2), BUCKET, DCTCodec())
    with pytest.raises(ValueError, match=r"encode\.latents must be precomputed"):
        recipe_of({"base": {"path": "x"}}, encode="on_the_fly")
