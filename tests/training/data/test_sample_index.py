"""Where a store's samples lie: each clip's and caption's own, and none for those that it lacks."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from reelwright.curation.store import Store
from reelwright.curation.store.encoded import INLINE_BYTES
from reelwright.model.config import DiTConfig
from reelwright.training.data.encode import Fingerprints, read_into, to_bytes
from reelwright.training.data.latents import StoredSamples
from reelwright.training.data.rows import caption_hash
from reelwright.training.data.sample_index import SampleIndex, WindowPlaces, index_samples, numbers_of
from reelwright.training.data.schedule import Schedule
from reelwright.training.recipe import DataConfig, TaskConfig

PRINTS = Fingerprints("l", "t")
IDS = [f"clip{i:02d}" for i in range(12)]
WINDOWS = ("1x64x64", "9x64x64")
WIDTH = 64
LENGTHS = {"short": 3, "at the limit": INLINE_BYTES // (4 * WIDTH), "long": INLINE_BYTES // (4 * WIDTH) + 1}
"""Rows of each caption's states: the middle one fills what is kept in a row to the byte."""


def level(number: int, window: str) -> float:
    return number + 100.0 * WINDOWS.index(window)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Two windows of twelve clips, not in the order of their ids, and three captions."""
    store = Store.open(tmp_path_factory.mktemp("index") / "store", create=True)
    order = np.random.default_rng(0).permutation(len(IDS)).tolist()
    latents = [
        {"clip_id": IDS[i], "bucket": w, "encoder_fingerprint": "l", "shape": [16, 1, 1, 1], "dtype": "fp32",
         "latents": to_bytes(torch.full((16, 1, 1, 1), level(i, w)), "fp32")}
        for w in WINDOWS for i in order
    ]  # fmt: skip
    store.commit_encoded("latents", [store.write_encoded("latents", latents)])
    texts = [
        {"caption_hash": caption_hash(caption), "encoder_fingerprint": "t", "caption": caption,
         "states": to_bytes(states_of(caption), "fp32"), "shape": [LENGTHS[caption], WIDTH], "dtype": "fp32"}
        for caption in LENGTHS
    ]  # fmt: skip
    store.commit_encoded("texts", [store.write_encoded("texts", texts)])
    return store


def states_of(caption: str) -> torch.Tensor:
    return torch.arange(LENGTHS[caption] * WIDTH, dtype=torch.float32).view(-1, WIDTH) + LENGTHS[caption]


def samples_of(store: Store) -> StoredSamples:
    facts = {"width": 96, "height": 96, "fps": 15.0, "num_frames": 20}
    rows = pa.table({"clip_id": IDS, "weight": [1.0] * 12, **{k: [v] * 12 for k, v in facts.items()},
                     "source_md5": IDS, "captions": [["short"]] * 12})  # fmt: skip
    data = DataConfig(sizes=("64p",), frames=(1, 9), holdout=0.1, store_dtype="fp32")
    return StoredSamples(store, Schedule(rows, data, TaskConfig(t2i=1, t2v=1), DiTConfig()), PRINTS)


@pytest.mark.parametrize("part", [IDS, IDS[:1], IDS[3:9], IDS[::-1], ["a", *IDS[5:], "z"]])
def test_a_plan_of_some_of_the_clips_finds_each_ones_own_and_no_others(store, part):
    index, reader = index_samples(store, pa.array(part), PRINTS), store.reader("latents")
    for window in WINDOWS:
        found = index.windows[window].find(np.arange(len(part)))
        assert [place >= 0 for place in found] == [clip in IDS for clip in part]
        for clip, place in zip(part, found, strict=True):
            if clip in IDS:
                out = np.empty(16, np.float32)
                read_into(out, reader.tensors([place], inline=True)[0], "fp32")
                assert (out == level(IDS.index(clip), window)).all()


def test_of_a_sample_that_was_written_twice_the_later_one_counts(tmp_path):
    store = Store.open(tmp_path / "store", create=True)
    about = {"bucket": WINDOWS[1], "encoder_fingerprint": "l", "shape": [16, 1, 1, 1], "dtype": "fp32"}
    for value in (1.0, 2.0):
        data = to_bytes(torch.full((16, 1, 1, 1), value), "fp32")
        rows = [{**about, "clip_id": one, "latents": data} for one in IDS[:3]]
        store.commit_encoded("latents", [store.write_encoded("latents", rows)])
    index = index_samples(store, pa.array(IDS[:2]), PRINTS)
    assert index.windows[WINDOWS[1]].places.tolist() == [3, 4]
    assert index.windows[WINDOWS[1]].shape == (16, 1, 1, 1)
    assert (len(index.hashes), index.width) == (0, 0)


def test_an_index_is_the_same_read_back(store, tmp_path):
    index = index_samples(store, pa.array(IDS), PRINTS)
    index.write(tmp_path)
    again = SampleIndex.read(tmp_path)
    assert again.windows.keys() == index.windows.keys()
    assert again.versions == index.versions
    for key, one in index.windows.items():
        assert (again.windows[key].bytes, again.windows[key].shape) == (one.bytes, one.shape)
        assert np.array_equal(again.windows[key].rows, one.rows)
        assert np.array_equal(again.windows[key].places, one.places)
    assert np.array_equal(again.hashes, index.hashes)
    assert np.array_equal(again.text_places, index.text_places)


def test_what_lies_before_between_and_after_the_known_keys_is_not_found():
    places = WindowPlaces(np.array([2, 5, 6]), np.array([30, 10, 20]), 4, (1,))
    assert places.find(np.arange(9)).tolist() == [-1, -1, 30, -1, -1, 10, 20, -1, -1]
    hashes = np.array([4, 2**63 + 1], np.uint64)
    index = SampleIndex((1, 1), {}, hashes, np.array([7, 8]), np.array([4, 4]), 1)
    assert index.find_texts(np.array([0, 4, 5, 2**63 + 1, 2**64 - 1], np.uint64)).tolist() == [-1, 0, -1, 1, -1]
    assert WindowPlaces(np.array([], int), np.array([], int), 4, (1,)).find(np.arange(2)).tolist() == [-1, -1]


def test_states_are_read_whether_they_are_kept_in_the_row_or_beside_it(store):
    captions = ["long", "short", "at the limit", "short"]
    found = samples_of(store).states(captions)
    for caption, states in zip(captions, found, strict=True):
        assert torch.equal(states, states_of(caption))


@pytest.mark.parametrize("captions", [["none"], ["short", "none"], ["none", "long", "short"]])
def test_captions_of_which_one_has_no_states_are_refused(store, captions):
    assert numbers_of([caption_hash("none")])[0] not in index_samples(store, pa.array(IDS), PRINTS).hashes
    with pytest.raises(KeyError, match="no text states of one of the captions"):
        samples_of(store).states(captions)
