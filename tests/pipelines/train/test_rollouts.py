"""`reel train` on rollouts: from a store to a run that has learned from rewards, in this process and by actors."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray
import yaml

from reelwright.curation.store import Store
from reelwright.pipelines.precompute.run import Options, precompute
from reelwright.recipe_files import load
from reelwright.training.checkpoints import Checkpoints, read_metadata
from reelwright.training.logs import read_log
from reelwright.training.recipe import TrainRecipe
from reelwright.training.rewards import registry as rewards
from tests.footage import footage
from tests.pipelines.helpers import curate
from tests.pipelines.sample_rewards import serving
from tests.pipelines.train.test_train import RECIPE
from tests.training.distilling import saved
from tests.training.rl.rolling import save_base
from tests.training.rl.test_rollouts import numbers

OBJECTIVE = {
    "kind": "grpo", "group": 2, "steps": 3, "critical": 2, "guidance": 1, "prompts": "prompts.txt",
    "rewards": {"sharp": {"kind": "sharpness_standin"}, "smooth": {"kind": "smoothness_standin", "processes": 1}},
    "held_out": {"fit": {"kind": "caption_attributes_standin"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ray_local: None) -> Path:
    """A folder with a store of three clips, a base and grpo.yaml."""
    folder = tmp_path_factory.mktemp("rollouts")
    footage(folder / "in", 3, lengths=(40,))
    store = Store.open(folder / "store", create=True)
    curate(store, [folder / "in"])
    store.snapshots.create("all", "select clip_id from clips")
    save_base(folder / "base.safetensors")
    (folder / "prompts.txt").write_text("a red ball on grass\na blue boat\n")
    recipe = RECIPE | {
        "model": RECIPE["model"] | {"text_tokens": 4, "caption_channels": 8},
        "text": {"kind": "hashing", "dim": 8, "tokens": 4},
        "init": str(folder / "base.safetensors"), "lora": {"rank": 2, "alpha": 2}, "tasks": {"t2v": 1}, "steps": 2,
        "objective": OBJECTIVE | {"prompts": str(folder / "prompts.txt")},
        "data": RECIPE["data"] | {"frames": [9], "caption_dropout": 0},
        "samples": {"every": 2, "prompts": ["a red ball"], "frames": 9, "size": [32, 32], "steps": 2},
        "log": RECIPE["log"] | {"clip_loss_bands": 0},
    }  # fmt: skip
    (folder / "grpo.yaml").write_text(yaml.safe_dump(recipe))
    precompute(store, "all", load(TrainRecipe, folder / "grpo.yaml"), Options(workers=1, quiet=True))
    return folder


def test_a_run_learns_from_rewards_here_and_in_actors_and_says_what_they_were(place: Path, call) -> None:
    served = rewards.load("sharpness_standin", {"height": 99})
    recipe = yaml.safe_load((place / "grpo.yaml").read_text())
    with serving(served) as url:
        recipe["objective"]["rewards"]["far"] = {"kind": "service", "parameters": {"url": url}}
        (place / "far.yaml").write_text(yaml.safe_dump(recipe))
        done = call(
            "train", place / "far.yaml", "--snapshot", "all", "--store", place / "store", "--out", place / "runs"
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rewards of their own processes: smooth × 1" in done.stdout
    assert "reward/sharp" in done.stdout
    (run,) = (place / "runs").iterdir()
    rows = [row for row in read_log(run) if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["ratio"] == 1
    for row in rows:
        failed = [row[f"{one}/failed"] for one in ("reward/smooth", "reward/sharp", "held_out/fit")]
        assert failed == [0, 0, 0]
        assert row["scoring/smooth/busy_s"] > 0
        assert row["scoring/sharp/busy_s"] > 0

    latest = Checkpoints(run / "checkpoints", 1).latest()
    assert latest is not None
    recorded = read_metadata(latest)["rewards"]
    assert {label: one["name"] for label, one in recorded.items()} == {
        "sharp": "sharpness_standin", "smooth": "smoothness_standin", "far": "service",
        "fit": "caption_attributes_standin",
    }  # fmt: skip
    assert recorded["far"]["served"] == served.describe()
    assert (recorded["sharp"]["use"], recorded["fit"]["use"]) == ({"weight": 1.0}, "held out")
    assert all(len(one["fingerprint"]) == 16 and one["version"] >= 1 for one in recorded.values())
    told = call("lineage", run)
    assert "reward       fit: caption_attributes_standin 1" in told.stdout
    assert f"weight 1, serves sharpness_standin {served.fingerprint}" in told.stdout

    assert sorted(path.name for path in (run / "samples").iterdir()) == ["step-00000000", "step-00000002"]
    shown = call("progress", run, "--sheet", place / "sheet.png")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert (place / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert "Held-out rewards" in (run / "progress.html").read_text()


@pytest.mark.exhaustive
def test_ray_train_s_workers_share_the_actors(place: Path, call) -> None:
    fewer = ["--set", "objective.rewards.smooth.processes=0", "--set", "samples.every=0"]  # two CPUs: worker and actor
    done = call(
        "train", place / "grpo.yaml", "--snapshot", "all", "--store", place / "store", "--out", place / "ray",
        "--workers", "1", "--set", "objective.rewards.sharp.processes=1", *fewer,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (place / "ray").iterdir()
    rows = [row for row in read_log(run) if "loss" in row]
    assert all(row["reward/sharp/failed"] == row["reward/smooth/failed"] == 0 for row in rows)
    assert all(row["scoring/sharp/busy_s"] > 0 for row in rows)


@pytest.mark.exhaustive
def test_a_run_that_is_killed_in_mid_update_goes_on_to_the_bit_with_rewards_in_actors(place: Path) -> None:
    recipe = yaml.safe_load((place / "grpo.yaml").read_text())
    deadly = {"kind": "deadly", "processes": 1, "parameters": {"armed": str(place / "armed")}}
    recipe["objective"]["rewards"] = {"sharp": {"kind": "sharpness_standin"}, "deadly": deadly}
    recipe |= {"steps": 3, "checkpoints": {"every": 1}, "samples": {"every": 0}}
    (place / "deadly.yaml").write_text(yaml.safe_dump(recipe))

    def train(out: Path) -> int:
        command = [sys.executable, "-m", "reelwright.pipelines.cli", "train", str(place / "deadly.yaml")]
        command += ["--snapshot", "all", "--store", str(place / "store"), "--out", str(out)]
        env = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
        done = subprocess.run(command, env=env, check=False)
        return done.returncode

    assert train(place / "whole") == 0
    (place / "armed").write_text(str(place / "parts"))
    assert train(place / "parts") == -signal.SIGKILL
    assert train(place / "parts") == 0
    (whole,), (parts,) = ((place / name).iterdir() for name in ("whole", "parts"))
    expect, found = (numbers([row for row in read_log(run) if "loss" in row]) for run in (whole, parts))
    assert found == expect
    assert len({row["reward/deadly"] for row in found}) == 3
    tensors = saved(parts)
    assert all((tensors[name] == tensor).all() for name, tensor in saved(whole).items())
