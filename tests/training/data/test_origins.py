"""Where latents and text states come from: the store, encoders, a disk; one window of a clip or several."""

import os
import shutil

import numpy as np
import pytest
import torch

from reelwright.curation.store import Store
from reelwright.model.codec import load_codec
from reelwright.model.text import load_text_encoder
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.disk_cache import DiskCache
from reelwright.training.data.encode import Decoded, encode_frames, encoded_row, fingerprints_of
from reelwright.training.data.fresh import FreshSamples, MixedSamples, stored_media
from reelwright.training.data.latents import StoredSamples
from reelwright.training.data.loader import make_schedule
from reelwright.training.data.schedule import Draw
from reelwright.training.data.windows import wanted_windows
from reelwright.training.errors import TrainError
from reelwright.training.recipe import TrainRecipe
from tests.training.data import test_loader
from tests.training.data.test_loader import decode, facts, loader_of, recipe_of

filled, encoded = test_loader.filled, test_loader.encoded


def fresh_of(store: Store, recipe: TrainRecipe, decode=decode) -> FreshSamples:
    codec, text = load_codec(recipe.codec), load_text_encoder(recipe.text)
    return FreshSamples(stored_media(store, "all"), codec, text, decode, store_dtype=recipe.data.store_dtype)


def assert_alike(batches, expected) -> None:
    batches, expected = list(batches), list(expected)
    assert facts(batches) == facts(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert torch.equal(batch.latents, other.latents)
        assert torch.equal(batch.text.states, other.text.states)
        assert batch.text.states.dtype == other.text.states.dtype


@pytest.mark.parametrize("text", ["precomputed", "on_the_fly", "cached"])
@pytest.mark.parametrize("latents", ["precomputed", "cached"])
def test_each_of_latents_and_text_may_come_from_anywhere(encoded, tmp_path, latents, text):
    """And what is cached is made once: the second run reads it, with decoder and text encoder gone."""
    recipe = recipe_of(encode={"latents": latents, "text": text, "cache_dir": str(tmp_path)})
    fresh = fresh_of(encoded, recipe)
    assert_alike(loader_of(encoded, recipe, samples=fresh), loader_of(encoded))
    if "cached" in (latents, text) and text != "on_the_fly":
        fresh.decode = fresh.text.encode = None
        assert_alike(loader_of(encoded, recipe, samples=fresh), loader_of(encoded))


def test_what_comes_from_elsewhere_need_not_be_in_the_store(filled, encoded, tmp_path):
    shutil.copytree(encoded.path, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    store.delete("texts", "true")
    recipe = recipe_of(encode={"text": "on_the_fly"})
    assert_alike(loader_of(store, recipe, samples=fresh_of(store, recipe)), loader_of(encoded))
    with pytest.raises(TrainError, match="0 of 24 latents and 2 of 2 captions"):
        loader_of(store)
    store.delete("latents", "true")
    with pytest.raises(TrainError, match="24 of 24 latents and 0 of 0 captions"):
        loader_of(store, recipe, samples=fresh_of(store, recipe))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_states_travel_as_they_are_stored(encoded, tmp_path, dtype):
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    recipe = recipe_of(store_dtype=dtype, encode={"latents": "cached", "text": "cached", "cache_dir": str(tmp_path)})
    whole = list(loader_of(encoded))
    for fresh in (fresh_of(encoded, recipe), fresh_of(encoded, recipe)):  # made, then read
        for batch, exact in zip(loader_of(encoded, recipe, samples=fresh), whole, strict=True):
            assert batch.text.states.dtype == types[dtype]
            assert torch.equal(batch.text.states, exact.text.states.to(types[dtype]))
            assert torch.equal(batch.latents, exact.latents.to(types[dtype]).float())


def test_several_windows_of_a_clip_are_drawn(encoded, tmp_path):
    """The middle ones that a store has are among them; the others are missing until they are made."""
    shutil.copytree(encoded.path, tmp_path / "store")
    store, recipe = Store.open(tmp_path / "store"), recipe_of(windows=3, window_stride_s=0.2)
    prints, plan, codec = fingerprints_of(recipe), make_schedule(store, "all", recipe), load_codec(recipe.codec)
    missing = StoredSamples(store, plan, prints).missing()
    assert (missing.wanted, missing.count) == (72, 48)
    made, expected = [], {}
    for window, rows in wanted_windows(plan):
        for clip in plan.clip_ids.take(rows).to_pylist():
            decoded = decode(bytes([int(clip[4:])]), window.bucket, float(window.place))
            row = encoded_row(clip, window, decoded, codec, dtype="fp32", fingerprint=prints.latents)
            expected[clip, window.key] = encode_frames(decoded.frames, codec)
            made += [row] if window in missing.latents else []
    assert len(made) == 48
    store.commit_encoded("latents", [store.write_encoded("latents", made)])
    seen = set()
    for batch in loader_of(store, recipe):
        for clip, latents in zip(batch.clip_ids, batch.latents, strict=True):
            of_clip = {key: x for (name, key), x in expected.items() if name == clip and key.startswith(batch.bucket)}
            (key,) = (key for key, x in of_clip.items() if torch.equal(x, latents))
            seen.add(key)
    assert seen == {key for _, key in expected}


def test_windows_made_at_a_draw_lie_evenly_over_the_whole_clip(filled):
    places = []

    def noting(mp4: bytes, bucket: Bucket, at: float) -> Decoded:
        places.append(at)
        return decode(mp4, bucket, at)

    draws = [Draw("clip00", i, int(seed), 0) for i, seed in enumerate(np.random.default_rng(0).integers(0, 2**62, 300))]
    fresh_of(filled, recipe_of(), noting).latents(Bucket(1, 64, 64), draws)
    assert len(places) == 300
    assert np.abs(np.sort(places) - (np.arange(300) + 0.5) / 300).max() < 0.1  # Kolmogorov's 0.5 % point is 0.1


def test_a_mix_is_on_the_device_of_the_encoders_that_it_has(encoded):
    fresh = fresh_of(encoded, recipe_of())
    stored = StoredSamples(encoded, make_schedule(encoded, "all", recipe_of()), fingerprints_of(recipe_of()))
    assert fresh.device == torch.device("cpu")
    assert FreshSamples(fresh.media, None, None, decode).device is None
    devices = [MixedSamples(*pair).device for pair in ((stored, fresh), (fresh, stored), (stored, stored))]
    assert devices == [fresh.device, fresh.device, None]


def test_a_cache_keeps_within_its_size(tmp_path):
    cache = DiskCache(str(tmp_path), gib=10 * 1000 / 2**30)
    for i in range(20):
        cache.put(f"k{i}", bytes([i]) * 1000)
        os.utime(cache._path(f"k{i}"), (i, i))
    assert cache.get("k0", 1000) == bytes(1000)  # read, so no longer the oldest
    assert cache.get("k1", 999) is None
    cache.trim()
    kept = [i for i in range(20) if cache.get(f"k{i}") is not None]
    assert kept == [0, 1, *range(13, 20)]
    assert cache.get("k2") is None
