"""Several snapshots of one store: captions and bytes as each has pinned them, one encoding per clip, one lineage."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.schema import field
from reelwright.model.codec import load_codec
from reelwright.model.text import load_text_encoder
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.data.encode import fingerprints_of, latents_row, text_rows
from reelwright.training.data.fresh import stored_media
from reelwright.training.data.latents import StoredSamples
from reelwright.training.data.loader import Loader, Portion, make_schedule
from reelwright.training.data.mix_rows import _alike, content_hash, media_versions, pinned, training_rows
from reelwright.training.data.prepared import Clips, prepare
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.lineage import describe, follow, trace
from reelwright.training.loop import Hooks
from reelwright.training.recipe import TrainRecipe
from reelwright.training.run import run
from tests.training.data.test_loader import decode, facts, recipe_of

MIX = {"few": 0.25, "general": 0.75}


def mix_recipe(**data) -> TrainRecipe:
    return recipe_of(mix=MIX, **data)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Twelve clips; `general` has all of them; `few` some, frozen after they got other captions and two new clips."""
    store = Store.open(tmp_path_factory.mktemp("mix") / "store", create=True)
    ids = [f"clip{i:02d}" for i in range(14)]
    store.append("sources", [{"uri": f"u{i}", "md5": f"m{i}", "state": "ok"} for i in range(3)])
    rows = [
        {"clip_id": c, "source_md5": f"m{i % 3}", "width": 96, "height": 96, "fps": 15.0, "num_frames": 20,
         "start_frame": 30 * i, "end_frame": 30 * i + 20, "start_s": 2.0 * i, "end_s": 2.0 * i + 1.3}
        for i, c in enumerate(ids)
    ]  # fmt: skip
    store.ensure_columns("clips", [field("caption", pa.string(), "caption", computed_by="caption")])
    store.commit_media([store.write_media(ids[:12], [bytes([i]) * 100 for i in range(12)])])
    store.append("clips", rows[:12])
    store.merge("clips", pa.table({"clip_id": ids[:12], "caption": [f"old {i}" for i in range(12)]}), "clip_id")
    store.snapshots.create("general", "select clip_id from clips")
    store.commit_media([store.write_media(ids[12:], [bytes([i]) * 100 for i in (12, 13)])])
    store.append("clips", rows[12:])
    store.merge("clips", pa.table({"clip_id": ids, "caption": [f"new {i}" for i in range(14)]}), "clip_id")
    store.snapshots.create("few", "select clip_id from clips where clip_id >= 'clip08'")
    return store


@pytest.fixture(scope="module")
def encoded(store: Store) -> Store:
    recipe = mix_recipe()
    prints, plan = fingerprints_of(recipe), make_schedule(store, "", recipe)
    codec, text = load_codec(recipe.codec), load_text_encoder(recipe.text)
    texts = text_rows(plan.captions(), text, dtype="fp32", fingerprint=prints.texts)
    store.commit_encoded("texts", [store.write_encoded("texts", texts)])
    media = stored_media(store, *MIX)
    for bucket, rows in plan.wanted():
        ids = plan.clip_ids.take(rows).to_pylist()
        assert len(ids) == len(set(ids))
        made = [
            latents_row(i, mp4, bucket, codec, decode, dtype="fp32", fingerprint=prints.latents)
            for i, mp4 in media(ids).items()
        ]
        store.commit_encoded("latents", [store.write_encoded("latents", made)])
    return store


def loader_of(store: Store, **portion) -> Loader:
    recipe = mix_recipe()
    return Loader(store, "", make_schedule(store, "", recipe), recipe, portion=Portion(stop_step=8, **portion))


@pytest.mark.exhaustive
def test_a_draw_has_the_caption_that_its_snapshot_has_pinned(encoded):
    schedule = make_schedule(encoded, "", mix_recipe(caption_dropout=0.0))
    names = sorted(MIX)
    seen = set()
    for k in schedule.block_batches(0):
        for one in schedule.batch(k).samples:
            of = names[int(schedule.plan.snapshot[one.row])]
            number = int(one.clip_id[-2:])
            assert schedule.captions_of(one.row) == [f"{'new' if of == 'few' else 'old'} {number}"]
            seen.add((of, one.clip_id))
    assert len({clip for of, clip in seen if of == "few"} & {clip for of, clip in seen if of == "general"}) > 1


def test_batches_read_what_was_encoded_once_and_resume_to_the_bit(encoded, tmp_path):
    schedule = make_schedule(encoded, "", mix_recipe())
    assert not StoredSamples(encoded, schedule, fingerprints_of(mix_recipe())).missing()
    alone = facts(loader_of(encoded))
    levels: dict[tuple[str, str], set[float]] = {}
    for batch in loader_of(encoded):
        for clip_id, latents in zip(batch.clip_ids, batch.latents, strict=True):
            levels.setdefault((clip_id, batch.bucket), set()).add(round(latents.sum().item(), 3))
    assert all(len(found) == 1 for found in levels.values()), "one clip's latents, whichever snapshot draws it"
    firsts = {clip: next(iter(v)) for (clip, bucket), v in levels.items() if bucket.startswith("9x")}
    assert len(set(firsts.values())) == len(firsts), "and no other clip's"
    assert facts(loader_of(encoded, start_step=5)) == [f for f in alone if f[0] >= 5]
    parts = [facts(loader_of(encoded, data_rank=r, data_size=2)) for r in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(alone)
    mapped, samples = prepare(Clips(encoded, ""), mix_recipe(), tmp_path, World.alone("cpu"))
    of_plan = Loader(encoded, "", mapped, mix_recipe(), portion=Portion(stop_step=8), samples=samples)
    assert facts(of_plan) == alone
    made = (tmp_path / "plan" / "clips.arrow").stat().st_mtime_ns
    prepare(Clips(encoded, ""), mix_recipe(), tmp_path, World.alone("cpu"))
    assert (tmp_path / "plan" / "clips.arrow").stat().st_mtime_ns == made
    other = recipe_of(mix={"few": 0.5, "general": 0.5})
    changed, _ = prepare(Clips(encoded, ""), other, tmp_path, World.alone("cpu"))
    assert not np.array_equal(changed.plan.edges, mapped.plan.edges), "another share is another plan"


def test_a_resumed_run_has_the_weights_of_one_that_ran_through_to_the_bit(encoded, tmp_path):
    quiet = {"log": {"every": 1, "tensorboard": False}, "checkpoints": {"every": 2}, "validation": {"every": 0}}
    settings = mix_recipe().model_dump(mode="json") | quiet | {"compute": {"precision": "fp32"}}
    said: list[str] = []
    for folder, steps in (("through", 4), ("parts", 2), ("parts", 4)):
        recipe = TrainRecipe.model_validate(settings | {"steps": steps})
        run(recipe, Clips(encoded, ""), tmp_path / folder, World.alone("cpu"), hooks=Hooks(say=said.append))
    assert any(line.startswith("resuming from step 2 of 4") for line in said)
    assert "  few      25.0%: 6 clips, 5 to train on, 1 held out; each is drawn" in said[1]
    ends = [Checkpoints(tmp_path / one / "checkpoints", 1).latest() for one in ("through", "parts")]
    whole, parts = ({k: v for f in end.glob("*.safetensors") for k, v in load_file(f).items()} for end in ends)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    found = trace(tmp_path / "through")
    assert (found.snapshot, [one.name for one in found.mix], found.warnings) == (None, ["few", "general"], [])


def test_bytes_are_of_the_newest_version_that_has_the_clip(store):
    versions = media_versions(pinned(store, "", mix_recipe().data).values())
    assert versions == sorted(versions, reverse=True)
    assert len(set(versions)) == 2
    read = stored_media(store, *MIX)
    assert read(["clip13", "clip00", "clip13"]) == {"clip13": bytes([13]) * 100, "clip00": bytes([0]) * 100}
    with pytest.raises(StoreError, match="clip13 has no media"):
        stored_media(store, "general")(["clip13"])


def test_what_is_not_precomputed_is_named_with_every_snapshot(store):
    recipe = recipe_of(mix=MIX, sizes=("128p",))
    with pytest.raises(TrainError, match=r"reel precompute RECIPE --snapshot few:0.25 --snapshot general:0.75 --store"):
        Loader(store, "", make_schedule(store, "", recipe), recipe)


def test_lineage_names_all_snapshots_and_each_source_once(store, tmp_path):
    recipe = mix_recipe()
    snapshots = pinned(store, "", recipe.data)
    said = json.loads(json.dumps(describe(recipe, snapshots, store, "e", None)))["snapshot"]
    assert said["content_hash"] == content_hash(snapshots, MIX)
    assert [(p["name"], p["share"], p["num_clips"]) for p in said["mix"]] == [("few", 0.25, 6), ("general", 0.75, 12)]
    found = follow(said)
    assert [one.name for one in found.mix] == ["few", "general"]
    assert found.warnings == []
    clips = [clip["clip_id"] for source in found.sources for clip in source.clips]
    assert sorted(clips) == [f"clip{i:02d}" for i in range(14)]
    said["mix"][0]["content_hash"] = "sha256:other"
    assert "snapshot few in" in follow(said).warnings[0]
    assert content_hash(snapshots, {"few": 0.3, "general": 0.7}) != said["content_hash"]
    alone = content_hash({"few": snapshots["few"]}, {})
    assert alone == snapshots["few"].content_hash, "a run on one snapshot is known as before"


def test_snapshots_that_do_not_go_together_are_refused(store):
    with pytest.raises(StoreError, match="there is no snapshot 'genral'; names that look alike: general"):
        training_rows(store, "", recipe_of(mix={"genral": 0.5, "few": 0.5}).data)
    store.ensure_columns("clips", [field("long_caption", pa.string(), "text")])
    store.snapshots.create("later", "select clip_id from clips")
    with pytest.raises(TrainError, match="few was frozen before the clips had the column 'long_caption'"):
        training_rows(store, "", recipe_of(mix={"few": 0.5, "later": 0.5}, caption_column="long_caption").data)
    rows = training_rows(store, "", recipe_of(mix={"few": 0.5, "later": 0.5}).data)
    assert rows.num_rows == 6 + 14


def test_numbers_of_several_widths_take_the_first_snapshots_and_other_columns_are_refused():
    old = pa.table({"num_frames": pa.array([4], pa.int32()), "fps": pa.array([15.0], pa.float32())})
    new = pa.table({"num_frames": [9], "fps": [24.0]})
    joined = pa.concat_tables(_alike([("old", old), ("new", new)]))
    assert joined.schema == old.schema
    assert joined.to_pydict() == {"num_frames": [4, 9], "fps": [15.0, 24.0]}
    text = pa.table({"num_frames": ["9"], "fps": [24.0]})
    with pytest.raises(TrainError, match="num_frames holds string in snapshot text and int32 in old; freeze the older"):
        list(_alike([("old", old), ("text", text)]))


def test_a_run_names_its_mix_among_the_uses_of_a_snapshot(store):
    snapshot = store.snapshots.show("few")
    counts = json.dumps({"snapshots": sorted(MIX)})
    store.append("runs", [{"run_id": "r", "command": "train", "started_at": snapshot.created_at, "counts": counts}])
    assert [use.command for use in store.snapshots.uses("few")] == ["train"]
