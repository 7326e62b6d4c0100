"""Batches from a real store: what was encoded comes back, whoever reads it; what is missing is named with its
remedy."""

import json
import threading
import time

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from reelwright.curation.store import Store
from reelwright.model.config import DiTConfig
from reelwright.model.text import load_text_encoder
from reelwright.training.batch import draw
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.encode import (
    CENTRE,
    Decoded,
    encode_frames,
    fingerprints_of,
    item_bytes,
    latents_row,
    read_into,
    text_rows,
    to_bytes,
)
from reelwright.training.data.fresh import FreshSamples, stored_media
from reelwright.training.data.latents import StoredSamples
from reelwright.training.data.loader import Loader, Portion, make_schedule
from reelwright.training.data.prepared import Clips, prepare
from reelwright.training.data.rows import caption_note, snapshot_rows
from reelwright.training.data.schedule import Schedule
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.recipe import DataConfig, TaskConfig, TrainRecipe
from reelwright.training.run import left_out_of
from tests.training.ranks import ranks

PORTION = {"data_rank", "data_size", "start_step"}
CAPTIONS = ["a red fox", "a fox in the snow"]


def decode(mp4: bytes, bucket: Bucket, at: float) -> Decoded:
    """Frames that tell the clip and the place: what a decoder would give."""
    level = mp4[0] * 4 % 256 + int(at * 3)
    return Decoded(
        list(range(bucket.frames)), np.full((bucket.frames, bucket.height, bucket.width, 3), level, np.uint8), 96, 96
    )


def recipe_of(**data) -> TrainRecipe:
    options = {
        "sizes": ("64p",),
        "frames": (1, 9),
        "tokens_per_batch": 256,
        "batches_per_step": 4,
        "holdout": 0.1,
        "store_dtype": "fp32",
    }
    model = DiTConfig(hidden_size=64, num_heads=2, depth=1, caption_channels=64, text_tokens=8)
    return TrainRecipe(model=model, data=DataConfig(**(options | data)), tasks=TaskConfig(i2v=1))


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Store:
    """Twelve clips of three sources, one with a caption in its manifest, and a snapshot of them."""
    store = Store.open(tmp_path_factory.mktemp("data") / "store", create=True)
    ids = [f"clip{i:02d}" for i in range(12)]
    store.append(
        "sources",
        [
            {"uri": f"u{i}", "md5": f"m{i}", "state": "ok", "caption": "a manifest" if i == 2 else None}
            for i in range(3)
        ],
    )
    store.commit_media([store.write_media(ids, [bytes([i]) * 100 for i in range(12)])])
    store.append("clips", [
        {"clip_id": c, "source_md5": f"m{i % 3}", "width": 96, "height": 96, "fps": 15.0, "num_frames": 20}
        for i, c in enumerate(ids)
    ])  # fmt: skip
    store.snapshots.create("all", "select clip_id from clips")
    return store


@pytest.fixture(scope="module")
def encoded(filled: Store) -> Store:
    """With the latents of `recipe_of()`, written in two commits."""
    recipe = recipe_of()
    prints, plan = fingerprints_of(recipe), make_schedule(filled, "all", recipe)
    from reelwright.model.codec import load_codec

    codec, text = load_codec(recipe.codec), load_text_encoder(recipe.text)
    filled.commit_encoded(
        "texts",
        [filled.write_encoded("texts", text_rows(plan.captions(), text, dtype="fp32", fingerprint=prints.texts))],
    )
    for bucket, rows in plan.wanted():
        media = filled.read_media(plan.clip_ids.take(rows).to_pylist())
        made = [
            latents_row(i, mp4, bucket, codec, decode, dtype="fp32", fingerprint=prints.latents) for i, mp4 in media
        ]
        filled.commit_encoded("latents", [filled.write_encoded("latents", made)])
    return filled


def loader_of(store: Store, recipe: TrainRecipe | None = None, **options) -> Loader:
    recipe = recipe or recipe_of()
    portion = Portion(**{name: options.pop(name) for name in PORTION & set(options)} | {"stop_step": 6})
    return Loader(store, "all", make_schedule(store, "all", recipe), recipe, portion=portion, **options)


def facts(batches) -> list[tuple]:
    return [
        (b.step, b.micro, b.task, b.bucket, b.clip_ids, b.seeds, b.dropped, b.samples_in_step, b.latents.sum().item())
        for b in batches
    ]


def test_captions_come_from_the_clip_then_the_source_then_are_empty(filled):
    captions = {r["clip_id"]: r["captions"] for r in snapshot_rows(filled, "all").to_pylist()}
    assert captions["clip02"] == ["a manifest"]
    assert captions["clip00"] == [""]


def test_captions_of_structs_are_read_where_the_column_is(tmp_path):
    store = Store.open(tmp_path / "s", create=True)
    store.append("clips", [{"clip_id": c, "width": 64, "height": 64, "fps": 15.0, "num_frames": 9} for c in "abc"])
    store.commit_media([store.write_media(list("abc"), [b"x"] * 3)])
    kind = pa.list_(pa.struct([("text", pa.string()), ("language", pa.string())]))
    told = [[{"text": t, "language": "en"} for t in CAPTIONS], [], [{"text": " ", "language": "en"}]]
    rows = pa.table({"clip_id": list("abc"), "captions": pa.array(told, kind), "caption": [None, "plain", None]})
    store.merge("clips", rows, on="clip_id")
    store.snapshots.create("all", "select clip_id from clips")
    assert snapshot_rows(store, "all").sort_by("clip_id").column("captions").to_pylist() == [CAPTIONS, ["plain"], [""]]


def test_what_is_not_precomputed_is_named_with_the_command(filled):
    with pytest.raises(TrainError, match=r"reel precompute r\.yaml --snapshot all --store "):
        loader_of(filled, recipe_of(fps=12), recipe_path="r.yaml")


def test_batches_hold_what_was_encoded(encoded):
    from reelwright.model.codec import load_codec

    codec, text = load_codec(recipe_of().codec), load_text_encoder(recipe_of().text)
    plan = make_schedule(encoded, "all", recipe_of())
    seen = set()
    for batch in loader_of(encoded):
        assert batch.latents.dtype == torch.float32
        assert batch.latents.shape[0] == len(batch.seeds)
        bucket = Bucket(*map(int, batch.bucket.split("x")))
        for i, clip in enumerate(batch.clip_ids):
            frames = decode(bytes([int(clip[4:])]), bucket, CENTRE).frames
            torch.testing.assert_close(batch.latents[i], encode_frames(frames, codec), rtol=0, atol=0)
            caption = "" if batch.dropped[i] else plan.captions_of(int(clip[4:]))[0]
            torch.testing.assert_close(batch.text.unpacked()[i], text.encode([caption])[0][:8], rtol=0, atol=0)
            seen.add((batch.task, batch.cond_frames))
        assert batch.wait_s >= 0
        assert all(map(torch.equal, vars(batch.draws).values(), vars(draw(batch.seeds, batch.latents.shape)).values()))
    assert seen == {("t2i", 0), ("t2v", 0), ("i2v", 1)}


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_bytes_round_trip(dtype):
    x = torch.randn(3, 5).to({"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype])
    out, data = np.empty((3, 5), np.float32), to_bytes(x.float(), dtype)
    assert len(data) == 15 * item_bytes(dtype)
    read_into(out, data, dtype)
    assert (torch.from_numpy(out) == x.float()).all()


def test_steps_are_planned_beside_the_training(encoded):
    loader = loader_of(encoded, recipe_of(workers=1))
    threads, step = [], loader.schedule.step

    def planned(number):
        threads.append(threading.current_thread().name)
        return step(number)

    loader.schedule.step = planned
    assert len(list(loader)) == 6 * 4
    assert len(threads) == 6
    assert all(name.startswith("reel-plan") for name in threads)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_threads_change_nothing(encoded, workers):
    recipe = recipe_of()
    expected = facts(loader_of(encoded))
    changed = recipe.model_copy(update={"data": recipe.data.model_copy(update={"workers": workers, "prefetch": 2})})
    began = time.perf_counter()
    batches = list(loader_of(encoded, changed))
    assert 0 < sum(batch.wait_s for batch in batches) <= time.perf_counter() - began
    assert facts(batches) == expected


def test_ranks_and_resuming_give_the_same_samples(encoded):
    alone = facts(loader_of(encoded))
    parts = [facts(loader_of(encoded, data_rank=r, data_size=2)) for r in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(alone)
    assert facts(loader_of(encoded, start_step=4)) == [f for f in alone if f[0] >= 4]
    with pytest.raises(TrainError, match="multiple of 3"):
        loader_of(encoded, data_size=3)


def _summary(loader: Loader) -> list[list]:
    return [list(fact) for fact in facts(loader)]


def test_a_loader_works_in_a_process_that_it_is_sent_to(encoded):
    loader = loader_of(encoded)
    (got,) = ranks(1, _summary, loader)
    assert got == json.loads(json.dumps(_summary(loader)))


def test_validation_is_the_same_on_every_rank_and_drops_no_caption(encoded):
    batches = loader_of(encoded).validation(8)
    other = loader_of(encoded, data_rank=1, data_size=2).validation(8)
    assert len(batches)
    assert facts(batches) == facts(other)
    assert not any(flag for batch in batches for flag in batch.dropped)


def test_clips_that_failed_to_encode_are_left_out(encoded, tmp_path):
    import shutil

    shutil.copytree(encoded.path, tmp_path / "store")
    store, recipe = Store.open(tmp_path / "store"), recipe_of()
    prints = fingerprints_of(recipe)
    store.delete("latents", "clip_id = 'clip03'")
    with pytest.raises(TrainError, match="2 of 24 latents"):
        loader_of(store)
    store.append(
        "failures",
        [{"uri": "u", "clip_id": "clip03", "stage": "precompute", "error": "x", "fingerprint": prints.latents}],
    )
    plan = make_schedule(store, "all", recipe)
    assert plan.unused == {"failed to encode": 1}
    before = {b.clip_ids[0]: b.latents[0].sum().item() for b in loader_of(encoded) if "clip03" not in b.clip_ids}
    for batch in loader_of(store):  # places moved: a row is gone
        assert "clip03" not in batch.clip_ids
        assert batch.clip_ids[0] not in before or batch.bucket[0] == "1" or batch.latents.isfinite().all()
    reader = StoredSamples(store, plan, prints)
    again = Schedule(plan.plan, plan.data, plan.tasks, plan.config)
    draws = [d for m in again.step(0) for d in m.samples]
    expected = StoredSamples(encoded, make_schedule(encoded, "all", recipe), prints)
    bucket = Bucket(1, 64, 64)
    torch.testing.assert_close(reader.latents(bucket, draws), expected.latents(bucket, draws))


def test_a_run_goes_on_without_what_it_left_out_though_it_is_encoded_since(encoded, tmp_path):
    recipe, left_out = recipe_of(), ["clip03", "clip07"]
    checkpoints = Checkpoints(tmp_path / "checkpoints", 1)
    assert left_out_of(tmp_path) is None
    checkpoints.save(1, {"model.w": torch.zeros(1)}, {"left_out": left_out})
    checkpoints.wait()
    plan = make_schedule(encoded, "all", recipe, left_out=left_out_of(tmp_path))
    assert plan.unused == {"failed to encode": 2}
    seen = {d.clip_id for k in range(200) for d in plan.batch(k).samples}
    assert seen
    assert not seen & set(left_out)


def test_on_the_fly_encodes_another_window_at_every_draw(filled):
    from reelwright.model.codec import load_codec

    recipe = recipe_of(encode="on_the_fly")
    fresh = FreshSamples(stored_media(filled, "all"), load_codec(recipe.codec), load_text_encoder(recipe.text), decode)
    batches = list(loader_of(filled, recipe, samples=fresh))
    assert facts(batches) == facts(loader_of(filled, recipe, samples=fresh))
    windows = {}
    for batch in batches:
        for i, clip in enumerate(batch.clip_ids):
            windows.setdefault((clip, batch.bucket), set()).add(batch.latents[i].sum().item())
    assert max(map(len, windows.values())) > 1


def test_a_network_that_does_not_fit_the_encoders_is_refused(encoded):
    recipe = recipe_of()
    narrow = recipe.model_copy(update={"model": recipe.model.model_copy(update={"caption_channels": 32})})
    with pytest.raises(TrainError, match="set model.in_channels and model.caption_channels"):
        next(iter(loader_of(encoded, narrow)))


def test_captions_can_be_drawn_of_some_kinds_alone(tmp_path):
    store = Store.open(tmp_path / "s", create=True)
    store.append("clips", [{"clip_id": "a", "width": 64, "height": 64, "fps": 15.0, "num_frames": 9}])
    store.commit_media([store.write_media(["a"], [b"x"])])
    kinds = {"source": "a boat", "composed": "A landscape clip.", "summary": "Boat."}
    kind = pa.list_(pa.struct([("text", pa.string()), ("kind", pa.string())]))
    cell = pa.array([[{"text": text, "kind": kind} for kind, text in kinds.items()]], kind)
    store.merge("clips", pa.table({"clip_id": ["a"], "captions": cell, "caption": ["plain"]}), on="clip_id")
    store.snapshots.create("all", "select clip_id from clips")

    def drawn(*kinds: str) -> list[str]:
        return snapshot_rows(store, "all", kinds=kinds).column("captions").to_pylist()[0]

    assert drawn() == ["a boat", "Boat."], "one composed from measurements is drawn where it is asked for"
    assert drawn(*kinds) == list(kinds.values())
    assert drawn("source", "summary") == ["a boat", "Boat."]
    assert drawn("translation") == ["plain"]


def test_captions_of_a_span_come_before_those_of_the_whole_file(tmp_path):
    """As `reel export` takes them: `reelwright.curation.store.captions`."""
    store = Store.open(tmp_path / "s", create=True)
    rows = [{"clip_id": c, "source_md5": "m", "width": 64, "height": 64, "fps": 15.0, "num_frames": 9} for c in "ab"]
    store.append("clips", rows)
    store.commit_media([store.write_media(list("ab"), [b"x"] * 2)])
    store.append("sources", [{"uri": "u", "md5": "m", "state": "ok", "caption": "the file"}])
    told = {"clip_id": ["a", "b"], "span_caption": ["the span", None], "composed_caption": ["A calm clip."] * 2}
    store.merge("clips", pa.table(told), on="clip_id")
    store.snapshots.create("all", "select clip_id from clips")
    assert snapshot_rows(store, "all").column("captions").to_pylist() == [["the span"], ["the file"]]


def test_clips_whose_captions_say_nothing_are_counted(tmp_path):
    store = Store.open(tmp_path / "s", create=True)
    ids = ["both", "composed", "none", "given"]
    store.append("clips", [{"clip_id": c, "width": 64, "height": 64, "fps": 15.0, "num_frames": 9} for c in ids])
    store.commit_media([store.write_media(ids, [b"x"] * 4)])
    made, seen = {"text": "A calm clip.", "kind": "composed"}, {"text": "a boat", "kind": "caption"}
    kind = pa.list_(pa.struct([("text", pa.string()), ("kind", pa.string())]))
    cells = pa.array([[made, seen], [made], None, [seen]], kind)
    store.merge("clips", pa.table({"clip_id": ids, "captions": cells}), on="clip_id")
    store.snapshots.create("all", "select clip_id from clips")
    of_all = caption_note(snapshot_rows(store, "all", kinds=["caption", "composed"]))
    assert of_all == (
        "1 of 4 clips have no caption that is drawn, and train on the empty one; 1 of 4 clips have only a caption "
        "composed from measurements, not from the picture; to caption them, see docs/captioning.md"
    )
    note = caption_note(snapshot_rows(store, "all"))
    assert note.startswith("2 of 4 clips have no caption that is drawn, and train on the empty one (1 have one comp")
    assert "only a caption" not in note
    assert caption_note(snapshot_rows(store, "all", kinds=["caption"])) == note
    store.snapshots.create("good", "select clip_id from clips where clip_id in ('both', 'given')")
    assert caption_note(snapshot_rows(store, "good")) == ""


def test_batches_tell_their_captions_where_videos_are_made_of_them(encoded, tmp_path):
    grpo = TrainRecipe.model_validate(
        {"objective": {"kind": "grpo", "rewards": {"sharpness_standin": {}}}, "lora": {"rank": 2}}
    )
    recipe = recipe_of(caption_dropout=0.0).model_copy(update={"objective": grpo.objective})
    schedule, samples = prepare(Clips(encoded, "all"), recipe, tmp_path, World.alone("cpu"))
    batches = list(Loader(encoded, "all", schedule, recipe, portion=Portion(stop_step=2), samples=samples))
    assert {caption for batch in batches for caption in batch.captions} == {"", "a manifest"}
    encoder = load_text_encoder(recipe.text)
    for batch in batches:
        for found, expect in zip(batch.text.unpacked(), encoder.encode(list(batch.captions)), strict=True):
            torch.testing.assert_close(found, expect[: len(found)])
    assert not any(batch.captions for batch in loader_of(encoded, recipe_of()).of(Portion(stop_step=1)))


def test_a_data_loader_of_spawned_workers_gives_the_same_batches(encoded):
    loader = loader_of(encoded)
    workers = DataLoader(loader, batch_size=None, num_workers=2, multiprocessing_context="spawn")
    assert facts(workers) == facts(loader)
