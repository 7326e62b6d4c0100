"""From a store to a trained checkpoint and back: `reel train`, its runs, `reel lineage`."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reelwright.curation.media.frames import read
from reelwright.curation.store import Store
from reelwright.errors import UserError
from reelwright.pipelines.cli.commands.train import make_job
from reelwright.pipelines.precompute.run import Options, precompute
from reelwright.pipelines.train.run import Job
from reelwright.recipe_files import load
from reelwright.training.checkpoints import Checkpoints, read_metadata
from reelwright.training.data.buckets import main_bucket
from reelwright.training.logs import read_log
from reelwright.training.recipe import TrainRecipe
from tests.conftest import REEL, ROOT
from tests.footage import footage
from tests.pipelines.helpers import curate

RECIPE = {
    "model": {"hidden_size": 32, "depth": 2, "num_heads": 2, "caption_channels": 16, "adaln_tembed_dim": 16,
              "frequency_embedding_size": 16, "text_tokens": 8},
    "text": {"kind": "hashing", "dim": 16, "tokens": 8},
    "data": {"sizes": ["32x32"], "frames": [1, 9], "tokens_per_batch": 48, "batches_per_step": 2, "holdout": 0.2},
    "tasks": {"t2i": 1, "t2v": 1, "i2v": 1},
    "compute": {"precision": "fp32"}, "log": {"every": 1, "tensorboard": False, "clip_loss_bands": 2},
    "checkpoints": {"every": 2, "keep": 2}, "validation": {"every": 0, "clips": 2, "bands": 2}, "steps": 4,
}  # fmt: skip
SQL = "select clip_id from clips"


@pytest.fixture(scope="module")
def place(tmp_path_factory, ray_local) -> Path:
    """A folder with a store of five clips, a snapshot whose latents are there, and recipe.yaml."""
    folder = tmp_path_factory.mktemp("train")
    footage(folder / "in", 5, lengths=(40,))
    store = Store.open(folder / "store", create=True)
    curate(store, [folder / "in"])
    store.snapshots.create("all", SQL)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    precompute(store, "all", load(TrainRecipe, folder / "recipe.yaml"), Options(workers=1, quiet=True))
    return folder


def command(place: Path, out: str, *more: str) -> list[str]:
    return ["train", str(place / "recipe.yaml"), "--snapshot", "all", "--store", str(place / "store"),
            "--out", str(place / out), *more]  # fmt: skip


def only_run(place: Path, out: str) -> Path:
    (folder,) = (place / out).iterdir()
    return folder


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_log(folder) if "loss" in row]


@pytest.fixture(scope="module")
def trained(place) -> tuple[Path, subprocess.CompletedProcess]:
    done = subprocess.run([*REEL, *command(place, "runs")], capture_output=True,
                          text=True, cwd=ROOT, timeout=200)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return only_run(place, "runs"), done


def test_a_run_says_what_it_did_and_what_comes_next(trained, place):
    folder, done = trained
    assert "step 0: validation loss" in done.stdout
    assert "step 4/4" in done.stdout
    assert f"finished 4 steps: {folder}" in done.stdout
    assert folder.name.startswith("recipe-all-")
    latest = read_metadata(Checkpoints(folder / "checkpoints", 1).latest())
    assert latest["finished"]
    assert latest["snapshot"]["sql"] == SQL
    assert TrainRecipe.model_validate(latest["recipe"]) == load(TrainRecipe, folder / "recipe.yaml")
    row = Store.open(place / "store").read("runs", filter="command = 'train'").to_pylist()[0]
    assert (row["state"], json.loads(row["counts"])["steps"]) == ("finished", 4)


def test_the_command_that_a_run_ends_with_makes_a_video_of_the_size_that_was_trained(trained, place, call, tmp_path):
    folder, done = trained
    command = next(line.split(":", 1)[1] for line in done.stdout.splitlines() if line.startswith("see what it makes:"))
    program, *arguments = shlex.split(command)
    assert program == "reel"
    made = call(*arguments, "--steps", "2")
    assert made.returncode == 0, made.stderr
    largest = main_bucket(load(TrainRecipe, folder / "recipe.yaml").data)
    facts, _ = read((tmp_path / "x.mp4").read_bytes())
    assert (facts.num_frames, facts.height, facts.width) == (largest.frames, largest.height, largest.width)


def test_the_same_again_says_that_it_is_there(trained, place, call):
    again = call(*command(place, "runs"))
    assert again.returncode == 0
    assert f"{trained[0]} is finished, nothing to do" in again.stdout


def test_the_clips_that_cost_most_are_a_query_and_a_snapshot_leaves_them_out(trained, place):
    folder, store = trained[0], Store.open(place / "store")
    worst, *others = store.sql(
        "select clip_id, l.loss, l.relative, l.draws, c.duration_s from clip_loss_means l join clips c using (clip_id) "
        f"where band = 'all' and run = '{folder.name}' order by relative desc"
    ).to_pylist()
    assert others
    assert worst["relative"] > 1 > others[-1]["relative"]
    assert not list((folder / "clip_losses").glob("step-*")), "all of them are in the store"
    leaves_out = f"{SQL} where clip_id not in (select clip_id from clip_loss_means where run = '{folder.name}' " \
                 f"and band = 'all' and draws > 0 and relative >= {worst['relative']!r})"  # fmt: skip
    store.snapshots.create("learnable", leaves_out)
    kept = store.snapshots.rows("learnable")["clip_id"].to_pylist()
    store.snapshots.delete("learnable")
    assert sorted(kept) == sorted(set(store.sql(SQL)["clip_id"].to_pylist()) - {worst["clip_id"]})


def test_lineage_leads_back_to_the_files(trained, place, call):
    shown = call("lineage", trained[0], "--all")
    assert shown.returncode == 0, shown.stderr
    assert "warning" not in shown.stdout
    assert "the store still has it, with this hash" in shown.stdout
    store = Store.open(place / "store")
    for source in store.read("sources", ["uri", "md5"]).to_pylist():
        assert f"{source['uri']}  md5 {source['md5']}  1 clips" in shown.stdout
    for clip in store.read("clips", ["clip_id", "end_frame"]).to_pylist():
        assert f"clip {clip['clip_id']}  frames 0-{clip['end_frame'] - 1}" in shown.stdout
    found = json.loads(call("lineage", trained[0], "--json").stdout)
    assert found["snapshot"]["num_clips"] == len(found["sources"]) == 5
    assert set(found["snapshot"]["fingerprints"]) == {"blur", "light", "clips"} or found["snapshot"]["fingerprints"]


def test_lineage_warns_when_the_store_says_otherwise(trained, tmp_path, call, place):
    other = Store.open(tmp_path / "other", create=True)
    footage(tmp_path / "in", 1, lengths=(40,))
    curate(other, [tmp_path / "in"])
    other.snapshots.create("all", SQL)
    shown = call("lineage", trained[0], "--store", tmp_path / "other")
    assert shown.returncode == 0
    assert "is not the one that was trained on" in shown.stdout
    assert "the way to the sources is lost" in call("lineage", trained[0], "--store", _empty(tmp_path)).stdout


def _empty(folder: Path) -> Path:
    Store.open(folder / "empty", create=True)
    return folder / "empty"


@pytest.mark.exhaustive
def test_torchrun_trains_the_same(trained, place):
    run = ["torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "reelwright.pipelines.cli"]
    done = subprocess.run([sys.executable, "-m", *run, *command(place, "torchrun")], capture_output=True, text=True,
                          cwd=ROOT, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert losses(only_run(place, "torchrun")) == pytest.approx(losses(trained[0]), abs=1e-5)


def test_ray_s_workers_take_a_gpu_each_or_none():
    from reelwright.pipelines.train.on_ray import on_gpus

    assert (on_gpus(2, 2), on_gpus(2, 8), on_gpus(2, 0)) == (True, True, False)
    with pytest.raises(UserError, match="4 GPUs for 8 workers.*give --workers 4"):
        on_gpus(8, 4)


@pytest.mark.exhaustive
def test_ray_train_trains_the_same_and_its_workers_heed_the_driver_s_signal(trained, place, capsys):
    import ray

    from reelwright.pipelines.train.on_ray import run_on_ray

    at = ray.get_runtime_context().gcs_address
    wanted = command(place, "ray", "--steps", "100000", "--workers", "2", "--address", at)
    with subprocess.Popen([*REEL, *wanted], stdout=subprocess.PIPE, text=True,
                          cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as running:  # fmt: skip
        next(line for line in running.stdout if line.startswith("step 4/"))
        running.send_signal(signal.SIGINT)
        rest = running.stdout.read()
    assert running.returncode == 130, rest
    folder = only_run(place, "ray")
    step = read_metadata(Checkpoints(folder / "checkpoints", 1).latest())["step"]
    assert f"stopped after step {step} of 100000, and saved" in rest
    assert losses(folder)[:4] == pytest.approx(losses(trained[0]), abs=1e-5)
    row = Store.open(place / "store").read("runs", filter="command = 'train'").to_pylist()[-1]
    assert (row["state"], json.loads(row["counts"])["steps"]) == ("interrupted", step)

    job = Job(load(TrainRecipe, place / "recipe.yaml"), "recipe", "all", str(place / "store"), str(place / "runs"))
    assert run_on_ray(job, workers=2) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_job_s_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vae").mkdir()
    recipe = TrainRecipe.model_validate({"init": "runs/sft", "codec": {"kind": "wan", "path": "vae"},
                                         "text": {"kind": "umt5", "path": "google/umt5-xxl"}})  # fmt: skip
    job = make_job(recipe, Path("r.yaml"), ["all"], "store", "runs")
    assert (job.recipe.init, job.recipe.codec.path) == (str(tmp_path / "runs/sft"), str(tmp_path / "vae"))
    assert (job.recipe.text.path, job.store) == ("google/umt5-xxl", str(tmp_path / "store"))
    assert make_job(recipe, Path("r.yaml"), ["all"], "s3://bucket/store", "runs").store == "s3://bucket/store"
    assert TrainRecipe.model_validate(job.to_json()["recipe"]) == job.recipe


def test_a_signal_stops_it_with_a_checkpoint_and_nobody_else_trains_there_meanwhile(place, call):
    wanted = command(place, "stopped", "--steps", "100000")
    with subprocess.Popen([*REEL, *wanted], stdout=subprocess.PIPE, text=True,
                          cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as running:  # fmt: skip
        next(line for line in running.stdout if line.startswith("step 2/"))
        second = call(*wanted)
        assert second.returncode == 1
        assert f"is being trained already, by process {running.pid}" in second.stderr
        running.send_signal(signal.SIGTERM)
        rest = running.stdout.read()
    assert running.returncode == 0
    assert "and saved; the same command goes on from there" in rest
    folder = only_run(place, "stopped")
    step = read_metadata(Checkpoints(folder / "checkpoints", 1).latest())["step"]
    assert f"stopped after step {step} of 100000" in rest


def test_what_is_not_precomputed_is_refused_with_the_command(place, call):
    refused = call(*command(place, "none", "--set", "data.sizes=[64x64]"))
    assert refused.returncode == 1
    assert f"reel precompute {place / 'recipe.yaml'} --snapshot all --store" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_clips_may_be_encoded_while_training_and_samples_are_written(place, call):
    settings = ["data.encode=on_the_fly", "data.sizes=[48x48]", "samples.every=2", "samples.prompts=[a wave]",
                "samples.size=[48, 48]", "samples.frames=5", "samples.steps=2"]  # fmt: skip
    done = call(*command(place, "live", "--steps", "2", *(word for one in settings for word in ("--set", one))))
    assert done.returncode == 0, done.stderr
    folder = only_run(place, "live")
    assert [p.name for p in (folder / "samples" / "step-00000002").iterdir()] == ["0.mp4"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--set", "optim.lrr=1"], "'optim.lrr' is not a setting; settings there are lr,"),
        (["--set", "init=/nowhere"], "init: there is no /nowhere"),
        (["--set", "lora.rank=4"], "say which with init"),
        (["--snapshot", "few"], "--snapshot all has no share; of several snapshots name each with one"),
    ],
)
def test_mistakes_are_one_sentence(place, call, change, says):
    refused = call(*command(place, "none", *change))
    assert refused.returncode == 1
    assert says in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_several_snapshots_are_trained_on_by_share_resumed_and_all_in_the_lineage(place, call):
    store = Store.open(place / "store")
    store.snapshots.create("few", f"{SQL} order by clip_id limit 3")
    command_of = ["train", str(place / "recipe.yaml"), "--store", str(place / "store")]
    mix = ["--snapshot", "all:0.7", "--snapshot", "few:0.3"]
    refused = call(*command_of, "--snapshot", "all:0.5", "--snapshot", "fw:0.5", "--out", str(place / "none"))
    assert (refused.returncode, "there is no snapshot 'fw'" in refused.stderr) == (1, True)
    refused = call(*command_of, "--snapshot", "all:0.5", "--snapshot", "few:0.4", "--out", str(place / "none"))
    assert "add up to 0.9, not to 1 (all 0.5 + few 0.4)" in refused.stderr
    straight = call(*command_of, *mix, "--out", str(place / "mix"))
    assert straight.returncode == 0, straight.stderr
    assert "all  70.0%: 5 clips" in straight.stdout
    assert "few  30.0%: 3 clips" in straight.stdout
    folder = only_run(place, "mix")
    assert folder.name.startswith("recipe-all+few-")
    told = ["--set", "data.mix={few: 0.3, all: 0.7}"]
    assert "finished, nothing to do" in call(*command_of, *told, "--out", str(place / "mix")).stdout, "the same run"
    for steps in ("2", "4"):
        assert call(*command_of, *told, "--out", str(place / "parts"), "--steps", steps).returncode == 0
    resumed = only_run(place, "parts")
    assert losses(resumed) == losses(folder)
    shown = call("lineage", folder).stdout
    for name, clips, share in (("all", 5, "70.0%"), ("few", 3, "30.0%")):
        digest = store.snapshots.show(name).content_hash[:19]
        assert f"snapshot     {name}, {digest}, {clips} clips, {share} of the samples" in shown
        assert f"of {name}:" in shown
    kept = call("snapshot", "delete", "few", "--yes", "--store", str(place / "store"))
    assert "few was used by" in kept.stderr


def test_a_stage_begins_with_the_last_one_s_weights_and_lineage_names_it(trained, place, call):
    begun = call(*command(place, "stage2", "--set", f"init={trained[0]}", "--set", "optim.lr=1e-9", "--steps", "1"))
    assert begun.returncode == 0, begun.stderr
    folder = only_run(place, "stage2")
    first = next(row for row in read_log(folder) if "val/loss" in row)["val/loss"]
    assert first == read_metadata(Checkpoints(trained[0] / "checkpoints", 1).latest())["metrics"]["val/loss"]
    shown = call("lineage", folder).stdout
    assert f"parent       {Checkpoints(trained[0] / 'checkpoints', 1).latest()} (step 4, recipe" in shown


def test_adapters_on_a_run_s_weights_in_bf16_and_a_video_with_them(trained, place, call, tmp_path):
    settings = ["lora={rank: 2, alpha: 2}", f"init={trained[0]}", "compute.precision=bf16", "samples.every=1",
                "samples.prompts=[a wave]", "samples.size=[32, 32]", "samples.frames=5", "samples.steps=2"]  # fmt: skip
    done = call(*command(place, "lora", "--steps", "1", *(word for one in settings for word in ("--set", one))))
    assert done.returncode == 0, done.stderr
    folder = only_run(place, "lora")
    assert [p.name for p in (folder / "samples" / "step-00000001").iterdir()] == ["0.mp4"]
    made = call("checkpoint", "export", folder, tmp_path / "mine", "--lora")
    assert made.returncode == 0, made.stderr
    made = call("generate", trained[0], "-p", "a wave", "--lora", f"{tmp_path / 'mine'}:0.5", "--size", "32x32",
                "--frames", "5", "--steps", "2", "--out", tmp_path / "x.mp4")  # fmt: skip
    assert made.returncode == 0, made.stderr


def test_a_finished_run_is_made_longer_and_another_recipe_begins_with_its_state(place, call):
    assert call(*command(place, "longer", "--steps", "1")).returncode == 0
    more = call(*command(place, "longer", "--steps", "2", "--set", "compute.checkpointing=full"))
    assert "resuming from step 1 of 2" in more.stdout
    folder = only_run(place, "longer")
    slower = command(place, "slower", "--steps", "3", "--set", "optim.lr=1e-5", "--resume-from", str(folder))
    begun = call(*slower)
    assert begun.returncode == 0, begun.stderr
    latest = Checkpoints(folder / "checkpoints", 1).latest()
    assert f"resuming from step 2 of {latest}, by this run's recipe" in begun.stdout
    shown = call("lineage", only_run(place, "slower")).stdout
    assert f"parent       {latest} (step 2, recipe" in shown
    assert "optimizer state and all" in shown
    assert "nothing to do" in call(*slower).stdout


def test_a_snapshot_and_its_run_in_one_command_once(place, call):
    wanted = ["snapshot", "create", "again", "--sql", SQL, "--store", place / "store", "--out", place / "both",
              "--train", place / "recipe.yaml"]  # fmt: skip
    made = call(*wanted)
    assert made.returncode == 0, made.stderr
    assert "finished 4 steps" in made.stdout
    again = call(*wanted)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stdout
    other = call(*wanted[:4], "select clip_id from clips limit 1", *wanted[5:])
    assert other.returncode == 1
    assert "snapshot again exists" in other.stderr
