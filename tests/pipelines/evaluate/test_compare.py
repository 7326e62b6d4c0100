"""Two runs side by side: only what differs, of curation and of training."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

from reelwright.curation.store import Store, StoreError
from reelwright.model.sampling.video_file import write_video
from reelwright.pipelines.evaluate.compare import Difference, compare, read_run, write_comparison
from tests.conftest import Reel

AT = datetime(2026, 1, 2, tzinfo=UTC)


def training_run(folder: Path, lr: float, losses: list[float], clips_per_s: float) -> Path:
    folder.mkdir()
    (folder / "recipe.yaml").write_text(f"name: <b>x</b>\nsteps: 30\noptim:\n  lr: {lr}\n  betas: [0.9, 0.99]\n")
    rows = [{"step": 0, "time": 100.0, "val/loss": 3.0, "val/t2v/0.00-0.25": 1.0}]
    rows += [{"step": 10 * (i + 1), "time": 110.0 + 10 * i, "loss": loss, "clips_per_s": clips_per_s * (1 + i % 2)}
             for i, loss in enumerate(losses)]  # fmt: skip
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    checkpoint = folder / "checkpoints" / "step-00000030"
    checkpoint.mkdir(parents=True)
    snapshot = {"name": "first", "content_hash": "sha256:abc", "num_clips": 12}
    (checkpoint / "checkpoint.json").write_text(json.dumps({"snapshot": snapshot, "code_version": folder.name}))
    sample = folder / "samples" / "step-00000010" / "0.mp4"
    sample.parent.mkdir(parents=True)
    write_video(sample, torch.zeros(3, 5, 32, 48), 8.0, {})
    return folder


def test_two_runs_of_training(tmp_path: Path, call: Reel) -> None:
    a = training_run(tmp_path / "a", 0.001, [2.0, 1.5, 1.0], 4.0)
    b = training_run(tmp_path / "b", 0.002, [2.0, 1.4, 0.5], 8.0)
    first, second = read_run(str(a), None), read_run(str(b), None)
    found = compare(first, second)
    assert found["recipe"] == [Difference("optim.lr", 0.001, 0.002)]
    assert found["run"] == [Difference("code_version", "a", "b")]
    assert found["last figures"] == [Difference("loss", 1.0, 0.5)]
    assert found["last figures"][0].ratio == 0.5
    assert found["speed"] == [Difference("clips_per_s", 4.0, 8.0)]  # the median of 4, 8, 4 and of 8, 16, 8
    text = write_comparison(first, second, tmp_path / "c.html").read_text()
    assert text.count("data:image/png;base64,") == 2
    assert text.count("<svg") == 2  # loss, val/loss
    assert "× 2" in text
    assert "<b>x" not in text
    assert {d for rows in compare(first, first).values() for d in rows} == set()
    out = call("compare", a, b, "-o", "page.html")
    assert "optim.lr" in out.stdout, out.stderr
    assert "x 2" in out.stdout
    assert "betas" not in out.stdout
    assert (tmp_path / "page.html").exists()
    assert "nothing differs" in call("compare", a, a).stdout


def test_two_runs_of_tuning(tmp_path: Path, call: Reel) -> None:
    """The second is not finished: its checkpoint says what it is made of."""
    folders = []
    for name, rank in (("a", 8), ("b", 16)):
        folder = tmp_path / name
        checkpoint = folder / "checkpoints" / "step-00000002"
        checkpoint.mkdir(parents=True)
        (folder / "log.jsonl").write_text('{"step": 2, "time": 1.0, "loss": 3.0}\n')
        told = {"use": "judge", "recipe": {"lora": {"rank": rank}, "steps": 4}, "base": {"id": "vlm#1"},
                "data": {"fingerprint": name, "counts": {"train": 9, "left_out": {"decode": 1}}}}  # fmt: skip
        (checkpoint / "checkpoint.json").write_text(json.dumps(told))
        if name == "a":
            measured = {"overall/correlation": 0.8, "overall/error": float("nan")}
            (folder / "result.json").write_text(json.dumps(told | {"measured": measured}))
        folders.append(folder)
    found = compare(*(read_run(str(folder), None) for folder in folders))
    assert found["recipe"] == [Difference("lora.rank", 8, 16)]
    assert found["run"] == [Difference("data", "a", "b")]
    assert found["held out"] == [Difference("overall/correlation", 0.8, None)]
    assert "lora.rank" in call("compare", *folders).stdout


def test_two_runs_of_curation(tmp_path: Path, call: Reel) -> None:
    store = Store.open(tmp_path / "store", create=True)
    for name, clips, seconds in (("aa11", 10, 2.0), ("ab22", 25, 5.0)):
        row = {
            "run_id": name, "command": "curate", "recipe": f"clips: {{min_s: {seconds}}}\nencode: {{crf: 18}}",
            "versions": json.dumps({"reelwright": "0.1.0"}), "counts": json.dumps({"clips": clips, "sources": 3}),
            "stage_seconds": json.dumps({"scan": seconds}), "stage_bytes": "{}", "state": "finished",
            "started_at": AT, "ended_at": AT + timedelta(seconds=seconds),
        }  # fmt: skip
        store.append("runs", [row])
    found = compare(read_run("aa", store), read_run("ab22", store))
    assert {title: rows for title, rows in found.items() if rows} == {
        "run": [Difference("took_s", 2.0, 5.0)],
        "recipe": [Difference("clips.min_s", 2.0, 5.0)],
        "counts": [Difference("clips", 10, 25)],
        "speed": [Difference("scan_s", 2.0, 5.0)],
    }
    out = call("compare", "aa", "ab", "--store", store.uri)
    assert "x 2.5" in out.stdout, out.stderr
    with pytest.raises(StoreError, match="begins 2 ids"):
        read_run("a", store)
    with pytest.raises(StoreError, match="neither a folder"):
        read_run("zz", store)
    with pytest.raises(StoreError, match="give --store"):
        read_run("zz", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="no training run"):
        read_run(str(tmp_path / "empty"), None)
    run = training_run(tmp_path / "t", 0.1, [1.0], 1.0)
    with pytest.raises(StoreError, match="two of one kind"):
        compare(read_run("aa", store), read_run(str(run), store))
