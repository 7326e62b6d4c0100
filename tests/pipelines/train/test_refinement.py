"""The refinement expert end to end: real clips, `reel precompute`, a few steps dense and sparse, resumed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reelwright.curation.media.errors import MediaError
from reelwright.curation.store import Store
from reelwright.model.checkpoint import save_model
from reelwright.model.codec import load_codec
from reelwright.model.dit import DiT
from reelwright.pipelines.precompute.encoder import Encoder
from reelwright.pipelines.precompute.run import Options, precompute
from reelwright.pipelines.precompute.storage import plan_storage
from reelwright.training.base_trip import load_denoiser
from reelwright.training.checkpoints import find_checkpoint, read_metadata, read_tensors
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.degrade import generator
from reelwright.training.data.encode import fingerprints_of
from reelwright.training.data.fresh import FreshSamples
from reelwright.training.data.latents import StoredSamples
from reelwright.training.data.loader import make_schedule
from reelwright.training.data.mix_rows import media_versions
from reelwright.training.data.pairs import pair_maker, stored_seed
from reelwright.training.data.prepared import Clips
from reelwright.training.data.sandbox_decoder import SandboxDecoder
from reelwright.training.data.schedule import Draw
from reelwright.training.data.windows import Window
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.logs import read_log
from reelwright.training.origins import identity_of
from reelwright.training.pair_config import PairConfig
from reelwright.training.recipe import TrainRecipe
from reelwright.training.run import run
from tests.footage import frames, write

RATES = (25, 25, 12)


def recipe_of(store: Store, steps: int = 4) -> TrainRecipe:
    """Pairs go through a base model too, which lies beside the store."""
    base = {"path": str(store.path.parent / "base"), "chance": 1, "level": [0.2, 0.4], "steps": 10}
    return TrainRecipe.model_validate({
        "model": {"hidden_size": 32, "depth": 1, "num_heads": 2, "caption_channels": 16, "adaln_tembed_dim": 16,
                  "frequency_embedding_size": 16, "text_tokens": 8},
        "attention": {"form": "sparse", "block": [2, 2, 2], "keep": 0.1, "dense_steps": 2},
        "text": {"kind": "hashing", "dim": 16, "tokens": 8},
        "data": {"sizes": ["64x64"], "frames": [9, 17], "frame_rates": [12, 24], "fps": 12, "tokens_per_batch": 160,
                 "batches_per_step": 2, "holdout": 0, "store_dtype": "fp32",
                 "pair": {"first_stage": "32x32", "multiple": 16, "fps": 12, "spatial_only": 0.5, "base": base}},
        "tasks": {"t2i": 0, "t2v": 1, "i2v": 1, "continuation": 1, "condition_frames": [5]},
        "objective": {"kind": "refinement"},
        "compute": {"precision": "fp32"}, "log": {"every": 1, "tensorboard": False},
        "checkpoints": {"every": 3, "keep": 2}, "validation": {"every": 0}, "steps": steps,
    })  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory, ray_local) -> Store:
    """Three real mp4s, two of 25 frames per second and one of 12, with their pairs as `reel precompute` makes them."""
    folder = tmp_path_factory.mktemp("refinement")
    store = Store.open(folder / "store", create=True)
    paths = [write(folder / f"{i}.mp4", frames(34, seed=i), fps=rate) for i, rate in enumerate(RATES)]
    store.append("sources", [{"uri": f"u{i}", "md5": f"m{i}", "state": "ok", "caption": f"film {i}"} for i in range(3)])
    store.commit_media([store.write_media([f"clip{i}" for i in range(3)], [p.read_bytes() for p in paths])])
    store.append("clips", [
        {"clip_id": f"clip{i}", "source_md5": f"m{i}", "width": 160, "height": 96, "fps": float(rate), "num_frames": 34}
        for i, rate in enumerate(RATES)
    ])  # fmt: skip
    store.snapshots.create("all", "select clip_id from clips")
    config = recipe_of(store).model
    network = DiT(config).init_weights(0)
    with torch.no_grad():
        network.final_layer.linear.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    save_model(network, config, folder / "base")
    summary = precompute(store, "all", recipe_of(store), Options(workers=1, quiet=True))
    assert (summary.made, summary.failed, summary.left) == (3, 0, 0)
    return store


def test_both_latents_are_stored_under_one_key_that_holds_the_chain(store):
    recipe = recipe_of(store)
    codec, base = load_codec(recipe.codec), load_denoiser(recipe, recipe.data.pair.base, device="cpu")
    rows = store.read("latents", ["clip_id", "bucket", "encoder_fingerprint", "shape"]).to_pylist()
    assert {row["bucket"] for row in rows} == {"9x64x64", "17x64x64"}
    assert {row["encoder_fingerprint"] for row in rows} == {fingerprints_of(recipe).latents}
    identity = identity_of(Path(recipe.data.pair.base.path))
    assert recipe.data.pair.fingerprint_of(identity) in rows[0]["encoder_fingerprint"]
    plan, maker = make_schedule(store, "all", recipe), pair_maker(recipe, base)
    bucket, decode = Bucket(17, 64, 64), SandboxDecoder(recipe.data.fps, recipe.data.rates)
    found = StoredSamples(store, plan, fingerprints_of(recipe)).latents(bucket, [Draw("clip0", 0, 1, 0)])[0]
    mp4 = dict(store.read_media(["clip0"]))["clip0"]
    window = decode(mp4, bucket, 0.5)
    decode.close()
    low = maker.first_stage(window.frames, bucket, stored_seed(maker.config, "clip0", bucket.key))
    torch.testing.assert_close(found, maker.encode(window.frames, low, bucket, codec), rtol=0, atol=1e-5)
    without = replace(maker, base=lambda latents, level, seed: latents)
    other = without.encode(window.frames, low, bucket, codec)
    torch.testing.assert_close(found[:16], other[:16], rtol=0, atol=1e-5)
    assert (found[16:] - other[16:]).abs().max() > 0.01, "the base model has been there"
    storage = plan_storage(store, "all", recipe)
    assert storage.latents == 4 * sum(32 * r["shape"][1] * 8 * 8 for r in rows)


def test_a_clip_whose_first_stage_goes_through_no_video_codec_fails_alone(store):
    """MPEG-4 knows no 70,000 frames per second: of the clips, one is drawn to go through it."""
    recipe = recipe_of(store)
    video = {"codecs": ["mpeg4"], "chance": 0.5}
    bucket, clips = Bucket(9, 64, 64), ["clip0", "clip1"]
    for seed in range(100):
        pair = {"first_stage": "32x32", "multiple": 16, "fps": 70000, "video": video, "seed": seed}
        config = PairConfig.model_validate(pair)
        draws = [generator(stored_seed(config, clip, bucket.key), "video").random() for clip in clips]
        if draws[0] < 0.5 <= draws[1]:
            break
    data = recipe.model_dump()["data"] | {"pair": pair, "fps": 70000, "frames": [9], "frame_rates": ()}
    recipe = TrainRecipe.model_validate(recipe.model_dump() | {"data": data})
    versions = media_versions([store.snapshots.show("all")])
    made = Encoder(recipe.model_dump(), store.uri, versions, "cpu").encode_clips(Window(bucket), clips)
    assert (made.rows, list(made.failures)) == (1, ["clip0"])
    assert "do not go through mpeg4" in made.failures["clip0"].message

    mp4s, decode = dict(store.read_media(clips)), SandboxDecoder(recipe.data.fps)
    fresh = FreshSamples(
        lambda ids: {i: mp4s[i] for i in ids}, load_codec(recipe.codec), None, decode, unreadable=MediaError,
        pairs=pair_maker(recipe),
    )  # fmt: skip
    with pytest.raises(TrainError, match="clip clip0 does not decode .*mpeg4.*; make a snapshot without it"):
        fresh.latents(bucket, [Draw(clip, 0, 1, 0) for clip in clips], windows=[Window(bucket)] * 2)
    decode.close()


def test_it_trains_dense_then_sparse_and_goes_on_as_if_never_stopped(store, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    outcome = _run(store, recipe_of(store), whole)
    assert (outcome.step, outcome.finished) == (4, True)
    assert _run(store, recipe_of(store, 3), parts).step == 3
    assert _run(store, recipe_of(store), parts).step == 4
    losses = [[row["loss"] for row in read_log(folder) if "loss" in row] for folder in (whole, parts)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4
    straight, resumed = (read_tensors(find_checkpoint(folder)) for folder in (whole, parts))
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert read_metadata(find_checkpoint(whole))["encoder_fingerprint"] == fingerprints_of(recipe_of(store)).both


def _run(store: Store, recipe: TrainRecipe, folder: Path):
    return run(recipe, Clips(store, "all"), folder, World.alone("cpu"))
