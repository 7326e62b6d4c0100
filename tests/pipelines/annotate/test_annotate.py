"""Stored clips are annotated by need: each annotator alone, in the order of what they read, on whatever worker."""

import json
import subprocess
import time

import numpy as np
import pyarrow as pa
import pytest

from reelwright.curation.store import Store
from reelwright.pipelines.annotate.context import Report
from reelwright.pipelines.annotate.load import in_levels, load_annotators
from reelwright.pipelines.annotate.plan import journaled_results, make_plan, plan_lines
from reelwright.pipelines.annotate.run import annotate_and_record
from reelwright.pipelines.recipes.curation import RecipeError
from reelwright.pipelines.runtime.progress import Progress
from tests.conftest import REEL, ROOT
from tests.footage import footage, frames, write
from tests.pipelines.helpers import CHEAP_ARGUMENTS, curate, recipe_of

pytestmark = pytest.mark.usefixtures("ray_local")
ALL = ["blur", "light", "flaky", "loud", "lonely", "ranked"]


@pytest.fixture(scope="module")
def cut(tmp_path_factory, ray_local):
    folder = tmp_path_factory.mktemp("annotate")
    footage(folder / "in", 3, lengths=(30, 40))
    curate(folder / "store", [folder / "in"])
    return folder / "store"


@pytest.fixture
def store(cut, tmp_path) -> Store:
    import shutil

    shutil.copytree(cut, tmp_path / "store")
    return Store.open(tmp_path / "store")


def annotate(store: Store, names=ALL, *, retry_failed: bool = False, where: str | None = None, **settings) -> Report:
    recipe = recipe_of(annotators=names, **settings)
    with Progress("annotate", quiet=True) as progress:
        return annotate_and_record(
            store, recipe, load_annotators(recipe), progress, retry_failed=retry_failed, where=where
        )


def clips_of(store: Store) -> list[dict]:
    return store.read("clips").sort_by("clip_id").to_pylist()


def test_values_go_down_the_chain_and_nothing_is_done_twice(store):
    report = annotate(store)
    clips = clips_of(store)
    assert not report.failed, store.read("failures", ["stage", "error", "detail"]).to_pylist()[:1]
    assert dict(report.done) == dict.fromkeys(["flaky", "loud", "lonely", "ranked"], 6)
    for clip in clips:
        assert clip["loud_words"] == f"{clip['flaky_mean']:.1f}! "
        assert clip["lonely_pair"][0] == pytest.approx(clip["flaky_mean"], abs=30)
    means = [c["flaky_mean"] for c in clips]
    assert [c["ranked_place"] for c in clips] == np.argsort(np.argsort(means)).tolist()
    assert len({c["lonely_pid"] for c in clips}) == 1
    versions = {t.name: t.version for t in store.tables()}
    assert not annotate(store).done
    assert {t.name: t.version for t in store.tables()} == versions


def test_a_changed_value_makes_stale_what_was_made_of_it_and_nothing_else(store):
    annotate(store)
    before = clips_of(store)
    report = annotate(store, parameters={"flaky": {"scale": 2.0}})
    assert dict(report.done) == dict.fromkeys(["flaky", "loud", "lonely", "ranked"], 6)
    for old, new in zip(before, clips_of(store), strict=True):
        assert new["loud_words"] == f"{2 * old['flaky_mean']:.1f}! "
        assert new["blur_score"] == old["blur_score"]
        assert new["ranked_calls"] == 2  # the state came back
    assert dict(annotate(store, parameters={"flaky": {"scale": 2.0}, "lonely": {"batch_size": 5}}).done) == {}


def test_only_some_and_only_where(store):
    one = clips_of(store)[2]["clip_id"]
    assert dict(annotate(store, ["flaky"], where=f"clip_id = '{one}'").done) == {"flaky": 1}
    assert dict(annotate(store, ["flaky", "loud"], where=f"clip_id = '{one}'").done) == {"loud": 1}
    assert dict(annotate(store, ["loud", "ranked"]).done) == {"ranked": 1}  # the others wait for flaky_mean
    assert sum(c["ranked_place"] is not None for c in clips_of(store)) == 1
    assert annotate(store, ["flaky", "loud", "ranked"]).done == {"flaky": 5, "loud": 5, "ranked": 6}


@pytest.mark.exhaustive
def test_a_failure_is_a_row_and_costs_its_own_columns_alone(store, call):
    annotate(store, ["flaky"])
    bright = np.median([c["flaky_mean"] for c in clips_of(store)])
    report = annotate(store, parameters={"lonely": {"above": float(bright)}, "ranked": {"fail": True}})
    failed = report.failed["lonely"]
    assert 0 < failed < 6
    assert report.done["lonely"] == 6 - failed
    assert report.failed["ranked"] == 1
    rows = store.read("failures").to_pylist()
    assert sum(r["stage"] == "lonely" and "too bright" in r["error"] for r in rows) == failed
    assert any(r["stage"] == "ranked" and "no ranking today" in r["error"] and r["clip_id"] is None for r in rows)
    assert all(c["loud_words"] and c["ranked_place"] is None for c in clips_of(store))
    again = {"lonely": {"above": float(bright)}, "ranked": {"fail": True}}
    assert not annotate(store, parameters=again).failed
    assert annotate(store, parameters=again, retry_failed=True).failed == {"lonely": failed, "ranked": 1}
    assert "no ranking today" in call("failures", "--store", store.path).stdout
    assert annotate(store).done == {"lonely": 6, "ranked": 6}
    assert "nothing failed" in call("failures", "--store", store.path).stdout, "other parameters made it good"
    assert annotate(store, parameters=again).failed["lonely"] == failed, "which says nothing of the first ones"
    assert call("failures", "--store", store.path).stdout.count("too bright") == failed
    assert store.count("clips", "lonely_pid IS NULL") == 0


def test_what_cannot_be_measured_is_done_with_a_reason_and_what_failed_is_never_called_current(tmp_path, call):
    (tmp_path / "in").mkdir()
    for name, size in (("wide", (512, 64)), ("tall", (64, 96)), ("plain", (96, 64))):
        write(tmp_path / "in" / f"{name}.mp4", frames(50, *size))
    options = ["--store", tmp_path / "store", *CHEAP_ARGUMENTS, "--set", "clips.min_side=32"]
    only_wide, every = (["curate", tmp_path / "in" / name, *options] for name in ("wide.mp4", ""))
    narrow = ["--set", "annotators=[blur, narrow]"]
    done = call(*only_wide, *narrow).stdout
    assert "1 clip could not be measured by narrow (a frame of 512x64 is no picture)" in done
    assert "failed" not in done.replace("+ 0 failed", "")
    assert "every source and every score is current" in call(*only_wide, *narrow).stdout
    assert "every source and every score is current" in call(*only_wide, *narrow, "--retry-failed").stdout
    assert "nothing failed" in call("failures", "--store", tmp_path / "store").stdout
    store = Store.open(tmp_path / "store")
    (row,) = store.read("failures", ["stage", "error", "kind"]).to_pylist()
    assert row == {"stage": "narrow", "error": "a frame of 512x64 is no picture", "kind": "unmeasurable"}
    (clip,) = store.read("clips", ["narrow_width", "narrow_words", "narrow_fingerprint"]).to_pylist()
    assert (clip["narrow_width"], clip["narrow_words"], bool(clip["narrow_fingerprint"])) == (None, None, True)
    call(*every)
    later = annotate(store, ["blur", "narrow"])
    assert (later.done, later.failed, later.unmeasured) == ({"narrow": 1}, {"narrow": 1}, {})
    again = call(*every, *narrow).stdout
    assert "nothing new; 1 annotation failed before (reel failures" in again
    assert "current" not in again
    said = call("annotate", "--store", store.path, "--set", "annotators=[blur, narrow]").stdout
    assert "nothing new; 1 annotation failed before" in said
    store.delete("failures", "kind IS NULL")
    store.drop_columns("clips", ["narrow_width", "narrow_words", "narrow_fingerprint"])
    again = annotate(store, ["blur", "narrow"])
    assert (again.done, again.failed, again.unmeasured) == ({"narrow": 2}, {"narrow": 1}, {"narrow": 1})


def test_what_is_postponed_is_no_failure_and_is_done_by_the_next_run(store, tmp_path):
    switch = tmp_path / "away"
    switch.touch()
    report = annotate(store, parameters={"lonely": {"away": str(switch)}})
    assert report.postponed["lonely"] > 0
    assert report.why_postponed["lonely"] == "the server is away"
    assert report.done["ranked"] == 6
    assert not store.count("failures", "stage = 'lonely'")
    switch.unlink()
    assert annotate(store, parameters={"lonely": {"away": str(switch)}}).done == {"lonely": 6}


@pytest.mark.exhaustive
def test_what_cannot_be_loaded_stops_that_annotator_with_one_sentence_and_no_failures(store, tmp_path, call):
    """In a lane that it shares, in a process of its own, and over a set: the others go on."""
    model = {"model": str(tmp_path / "model")}
    missing = dict.fromkeys(("flaky", "lonely", "ranked"), model)
    names = ["flaky", "light", "lonely", "ranked"]
    store.drop_columns("clips", ["light_fingerprint"])
    annotate(store, ["flaky"])
    parameters = {**missing, "flaky": {**model, "scale": 3.0}}
    report = annotate(store, names, parameters=parameters)
    assert dict(report.done) == {"light": 6}
    assert report.postponed.keys() == {"flaky", "lonely", "ranked"}
    assert set(report.why_postponed.values()) == {f"the model {model['model']} is missing; download it"}
    assert not store.count("failures")
    (tmp_path / "model.tries").unlink()
    report = annotate(store, ["lonely"], parameters={"lonely": {**model, "batch_size": 1}})
    assert report.postponed["lonely"] >= 1
    assert len((tmp_path / "model.tries").read_text()) <= 3  # of 6 clips: those that were under way
    (tmp_path / "model").touch()
    assert dict(annotate(store, names, parameters=parameters).done) == {"flaky": 6, "lonely": 6, "ranked": 6}


def test_a_key_is_asked_for_before_the_run_and_lent_to_the_worker(store, monkeypatch, call):
    arguments = ["annotate", "--store", store.path, "--set", "annotators=[lonely]", "--set"]
    done = call(*arguments, "parameters.lonely.key=REEL_TEST_KEY")
    assert (done.returncode, "'REEL_TEST_KEY', which holds no key here" in done.stderr) == (1, True), done
    monkeypatch.setenv("REEL_TEST_KEY", "sesame-opens")  # after Ray's workers began: they have it from us alone
    done = call(*arguments, "parameters.lonely.key=REEL_TEST_KEY")
    assert (done.returncode, "6 clips" in done.stdout) == (0, True), done
    assert not any(b"sesame-opens" in f.read_bytes() for f in store.path.rglob("*") if f.is_file())


@pytest.mark.exhaustive
def test_an_engine_in_ray_is_loaded_once_for_all_batches_of_a_run(store, tmp_path):
    from tests.annotate.chat.vllm_stand_in import command

    (tmp_path / "notes").mkdir()
    engine = {"vllm": command(tmp_path), "engine": {"notes": str(tmp_path / "notes")}}
    chat = {"model": "some/vlm", "backend": "vllm", "concurrency": 2, **engine}
    parameters = {"caption": {"chat": chat, "clips_a_call": 1, "sampling": {"min_frames": 2, "max_frames": 2}}}
    report = annotate(store, ["caption"], parameters=parameters)
    assert (dict(report.done), dict(report.postponed)) == ({"caption": 6}, {}), report.why_postponed
    assert len(list((tmp_path / "notes").iterdir())) == 1


def test_a_run_that_waits_says_for_what(store, call, monkeypatch):
    monkeypatch.setattr("reelwright.pipelines.annotate.watch.LOOK_S", 0.3)
    chat = "parameters.caption.chat={model: m, url: 'http://127.0.0.1:9/v1', patience_s: 4}"
    done = call("annotate", "--store", store.path, "--set", "annotators=[caption]", "--set", chat)
    assert done.returncode == 4
    assert "caption waits: no server at http://127.0.0.1:9/v1" in done.stderr
    assert "waited 4 s for it (chat.patience_s)" in done.stdout


def test_what_an_annotator_of_sets_did_before_it_failed_is_kept(store, call, tmp_path):
    switch = tmp_path / "switch"
    switch.touch()
    parameters = {"ranked": {"switch": str(switch)}}
    report = annotate(store, ["flaky", "ranked"], parameters=parameters)
    assert (report.done, report.failed) == ({"flaky": 6}, {"ranked": 1})
    assert [c["ranked_place"] for c in clips_of(store)].count(None) == 5
    assert store.count("clips", "ranked_fingerprint IS NOT NULL") == 0
    assert store.read("failures", ["stage", "error"]).to_pylist() == [{"stage": "ranked", "error": "ValueError: dark"}]
    switch.write_text("away")
    assert not annotate(store, ["flaky", "ranked"], parameters=parameters).postponed, "it has failed"
    assert annotate(store, ["flaky", "ranked"], parameters=parameters, retry_failed=True).postponed == {"ranked": 6}
    assert "ValueError: dark" in call("failures", "--store", store.path).stdout, "nothing has worked yet"
    switch.unlink()
    assert annotate(store, ["flaky", "ranked"], parameters=parameters, retry_failed=True).done == {"ranked": 6}
    assert {c["ranked_calls"] for c in clips_of(store)} == {3}, "the state came back"
    assert "nothing failed" in call("failures", "--store", store.path).stdout
    assert None not in [c["ranked_place"] for c in clips_of(store)]


def test_what_a_killed_run_noted_is_kept_and_only_the_rest_is_done(store):
    import ray

    slow = {"lonely": {"pause_s": 1.0, "batch_size": 1}}
    settings = {"annotators": ["lonely"], "parameters": slow, "batches.commit_s": 0.05}
    arguments = [a for key, value in settings.items() for a in ("--set", f"{key}={json.dumps(value)}")]
    at = ray.get_runtime_context().gcs_address
    run = subprocess.Popen([*REEL, "annotate", "-s", store.path, "--address", at,
                            *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)  # fmt: skip
    while run.poll() is None and not store.count("journal"):
        time.sleep(0.02)
    run.kill()
    _, errors = run.communicate()
    noted = sum(store.read("journal", ["num_rows"]).column(0).to_pylist())
    assert 0 < noted < 6, errors
    assert store.count("clips", "lonely_pid IS NOT NULL") == 0
    recipe = recipe_of(annotators=["lonely"], parameters=slow)
    lines = list(plan_lines(make_plan(store, load_annotators(recipe)), journaled_results(store)))
    assert f"{noted} results that are computed and not merged yet" in lines[-1]
    assert annotate(store, ["lonely"], parameters=slow).done == {"lonely": 6 - noted}
    assert store.count("clips", "lonely_pid IS NOT NULL") == 6
    assert store.count("journal") == 0


@pytest.mark.exhaustive
def test_a_column_of_another_width_starts_anew(store):
    annotate(store)
    store.drop_columns("clips", ["lonely_pair"])
    about = {"computed_by": "lonely"}
    store.ensure_columns("clips", [pa.field("lonely_pair", pa.list_(pa.float32(), 5), metadata=about)])
    assert annotate(store).done == {"lonely": 6}
    assert store.schema("clips").field("lonely_pair").type.list_size == 2


def test_one_annotator_writes_no_media_and_no_other_column(store):
    def files() -> dict[str, int]:
        return {str(f.relative_to(store.path)): f.stat().st_size for f in store.path.rglob("*.lance") if f.is_file()}

    before, media = files(), store.dataset("media").version
    annotate(store, ["flaky"])
    assert store.dataset("media").version == media
    after = files()
    assert before.items() <= after.items()  # every file is as it was
    assert all(name.startswith(("clips.lance/", "runs.lance/")) for name in after.keys() - before.keys())


def test_the_plan_counts_and_knows_what_a_run_cost(store, call):
    annotate(store, ["flaky", "loud"])
    recipe = recipe_of(annotators=[*ALL, {"flaky": {"scale": 3.0}}])
    rows = {r.name: r for r in make_plan(store, load_annotators(recipe))}
    assert (rows["blur"].current, rows["flaky"].stale, rows["loud"].waiting, rows["ranked"].waiting) == (6, 6, 6, 6)
    assert rows["flaky"].measured
    assert rows["flaky"].seconds > 0
    assert rows["lonely"].seconds is None
    version = store.dataset("clips").version
    done = call("annotate", "--store", store.path, "--plan", "--set", "annotators=[blur, flaky, loud, lonely]")
    assert done.returncode == 0
    assert "lonely" in done.stdout
    assert store.dataset("clips").version == version


def test_the_command_says_what_it_did_and_where_it_stopped(store, call, tmp_path):
    arguments = ["annotate", "--store", store.path, "--set", "annotators=[flaky, loud, lonely]"]
    done = call(*arguments, "--only", "flaky", "--only", "loud")
    assert (done.returncode, "loud   6 clips" in done.stdout) == (0, True), done
    switch = tmp_path / "away"
    switch.touch()
    away = ["--set", f"parameters.lonely.away={switch}"]
    done = call(*arguments, *away)
    assert (done.returncode, "the server is away" in done.stdout) == (4, True), done
    switch.unlink()
    assert call(*arguments, *away).returncode == 0
    assert "nothing to do" in call(*arguments).stdout
    assert json.loads(store.read("runs", ["counts", "command"]).to_pylist()[-1]["counts"]) == {"lonely": 6}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "nobody"], "the recipe has no such annotator"),
        (["--set", "parameters.nobody.x=1"], "the recipe has no such annotator"),
        (["--set", "annotators=[blur, nobody]"], "'nobody' is not an annotator"),
        (["--profile", "huge"], "profile"),
        (["--where", "no_column > 1"], "no_column"),
    ],
)
def test_mistakes_are_sentences(store, call, arguments, says):
    done = call("annotate", "--store", store.path, *arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_levels_follow_what_is_read():
    recipe = recipe_of(annotators=["ranked", "loud", "lonely", "flaky", "blur"])
    assert in_levels(load_annotators(recipe)) == [["flaky", "blur"], ["ranked", "loud", "lonely"]]


def test_a_circle_is_refused():
    from dataclasses import dataclass

    from reelwright.annotate import Annotator, Column, Stored

    @dataclass(frozen=True)
    class Snake(Annotator):
        own: str = "a"
        other: str = "b"
        name, version = "snake", 1

        @property
        def needs(self):
            return Stored(self.other)

        @property
        def columns(self):
            return {self.own: Column(pa.string(), "a letter")}

        def __call__(self, value):
            return {self.own: value}

    with pytest.raises(RecipeError, match="circle"):
        in_levels({"one": Snake("a", "b"), "two": Snake("b", "a")})
