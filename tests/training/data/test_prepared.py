"""The plan of a run, kept beside the run or the store: made once, mapped, made anew where something else is asked."""

import pickle
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reelwright.curation.store import Store
from reelwright.training.data.loader import Loader, Portion, make_schedule
from reelwright.training.data.mapped import map_table
from reelwright.training.data.plan import NOTE, read_plan, write_plan
from reelwright.training.data.prepared import Clips, keep, prepare
from reelwright.training.data.schedule import Schedule
from reelwright.training.distributed.world import World, start
from reelwright.training.errors import TrainError
from reelwright.training.recipe import TaskConfig
from tests.training.data import test_loader
from tests.training.data.test_loader import facts, loader_of, recipe_of
from tests.training.ranks import ranks

filled, encoded = test_loader.filled, test_loader.encoded


def test_a_plan_is_made_once_and_mapped(encoded, tmp_path):
    recipe = recipe_of()
    expected = facts(loader_of(encoded))
    for _ in range(2):
        schedule, samples = prepare(Clips(encoded, "all"), recipe, tmp_path, World.alone("cpu"))
        assert schedule.plan.path == tmp_path / "plan" / "clips.arrow"
        assert isinstance(schedule.captions_of(0)[0], bytes), "captions travel as hashes"
        loader = Loader(encoded, "all", schedule, recipe, portion=Portion(stop_step=6), samples=samples)
        assert facts(loader) == expected
        made = {path: path.stat().st_mtime_ns for path in (tmp_path / "plan").iterdir()}
    prepare(Clips(encoded, "all"), recipe, tmp_path, World.alone("cpu"))
    assert {path: path.stat().st_mtime_ns for path in made} == made, "nothing has changed"
    other = recipe.model_copy(update={"tasks": TaskConfig(t2i=0, t2v=1)})
    assert prepare(Clips(encoded, "all"), other, tmp_path, World.alone("cpu"))[0].names == ["t2v"], "another recipe"
    size = len(pickle.dumps(schedule.plan))
    assert size < 1000 < len(pickle.dumps(make_schedule(encoded, "all", recipe).plan)), "sent as its address"
    assert pickle.loads(pickle.dumps(schedule.plan)).table == schedule.plan.table


def test_a_run_links_the_plan_that_precompute_left_beside_the_store(encoded, tmp_path, monkeypatch):
    recipe = recipe_of()
    expected = facts(loader_of(encoded))
    place = keep(Clips(encoded, "all"), recipe)
    kept = {path.name: path.stat().st_ino for path in place.iterdir()}
    keep(Clips(encoded, "all"), recipe)
    assert {path.name: path.stat().st_ino for path in place.iterdir()} == kept, "nothing has changed"
    monkeypatch.setattr("reelwright.training.data.prepared.make_schedule", None)  # nothing of the snapshot is read
    schedule, samples = prepare(Clips(encoded, "all"), recipe, tmp_path, World.alone("cpu"))
    assert {path.name: path.stat().st_ino for path in (tmp_path / "plan").iterdir()} == kept
    assert facts(Loader(encoded, "all", schedule, recipe, portion=Portion(stop_step=6), samples=samples)) == expected
    monkeypatch.undo()
    other = prepare(Clips(encoded, "all"), recipe, tmp_path / "b", World.alone("cpu"), left_out=["clip03"])[0]
    assert other.failed == {"clip03"}, "a run that goes on leaves out what it left out before"
    encoded.cleanup(timedelta(days=7))
    assert place.exists()
    encoded.cleanup(timedelta(0))
    assert not place.exists()
    assert schedule.batch(0) == read_plan_again(schedule).batch(0), "a run that linked it keeps it"


@pytest.mark.parametrize(("text", "kind"), [("precomputed", bytes), ("on_the_fly", str)])
def test_a_kept_plan_has_captions_to_encode_or_hashes_of_those_that_are(encoded, text, kind):
    recipe = recipe_of(encode={"text": text})
    plan = read_plan(keep(Clips(encoded, "all"), recipe) / "clips.arrow")
    schedule = Schedule(plan, recipe.data, recipe.tasks, recipe.model, recipe.seed)
    assert {type(caption) for caption in schedule.captions_of(0)} == {kind}


def test_a_plan_of_an_older_form_is_made_anew(encoded, tmp_path):
    prepare(Clips(encoded, "all"), recipe_of(), tmp_path, World.alone("cpu"))
    path = tmp_path / "plan" / "clips.arrow"
    plan, key = read_plan(path), map_table(path, NOTE)[1]["key"]
    older = replace(plan, table=plan.table.drop(["source_md5"]), path=None)
    write_plan(older, path, {**key, "format": key["format"] - 1})
    prepare(Clips(encoded, "all"), recipe_of(), tmp_path, World.alone("cpu"))
    again = read_plan(path)
    assert again.table == plan.table
    assert again.facts == plan.facts


def read_plan_again(schedule: Schedule) -> Schedule:
    plan = pickle.loads(pickle.dumps(schedule.plan))
    return Schedule(plan, schedule.data, schedule.tasks, schedule.config, schedule.seed)


def test_no_plan_is_kept_where_something_is_missing(filled):
    with pytest.raises(TrainError, match="reel precompute"):
        keep(Clips(filled, "all"), recipe_of(fps=12))


def test_a_resumed_run_finds_its_place_without_the_blocks_before_it(encoded, tmp_path):
    recipe = recipe_of()
    schedule, _ = prepare(Clips(encoded, "all"), recipe, tmp_path, World.alone("cpu"))
    late = schedule.block_batches(1)[5]
    expected = schedule.batch(late)
    resumed, _ = prepare(Clips(encoded, "all"), recipe, tmp_path, World.alone("cpu"), left_out=[])
    assert resumed.starts == schedule.starts
    assert resumed.batch(late) == expected
    assert list(resumed._blocks) == [1], "the first block was not made"


def test_all_ranks_stop_where_the_first_finds_something_missing(filled, tmp_path):
    found = ranks(2, _refused, filled, str(tmp_path))
    assert found[0] == found[1]
    assert "reel precompute" in found[0]


def _refused(store: Store, folder: str) -> str:
    recipe = recipe_of(fps=12)
    try:
        prepare(Clips(store, "all"), recipe, Path(folder), start(recipe.parallel, device="cpu"))
    except TrainError as error:
        return str(error)
    return ""
