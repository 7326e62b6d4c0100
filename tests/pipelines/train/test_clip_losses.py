"""The losses of a run's clips on their way into the store: each sample once, whatever was interrupted."""

from pathlib import Path

import pyarrow as pa
import pytest

from reelwright.curation.store import Store
from reelwright.pipelines.train.clip_losses import ClipLossRows
from reelwright.training.clip_losses import ALL, FOLDER, NOTE
from reelwright.training.data.mapped import write_table

MEANS = f"select * from clip_loss_means where band = '{ALL}' order by clip_id"


def write(run: Path, step: int, loss: float, clips: str = "ab") -> None:
    samples = pa.table({
        "step": [step] * len(clips), "micro": pa.array([0] * len(clips), pa.int32()),
        "place": pa.array(range(len(clips)), pa.int32()), "clip_id": list(clips), "kind": ["t2v 9"] * len(clips),
        "loss": [loss + i for i in range(len(clips))], "t": [0.5] * len(clips),
    })  # fmt: skip
    write_table(samples, run / FOLDER / f"step-{step:08d}" / "rank-00000.arrow", NOTE, {"bands": 2, "parts": 1})


def test_steps_that_are_saved_are_moved_once(tmp_path: Path) -> None:
    store, run = Store.open(tmp_path / "store", create=True), tmp_path / "run"
    for step in (1, 2, 3):
        write(run, step, loss=float(step))
    rows = ClipLossRows(store, run, "print")
    rows(2)
    assert store.read("clip_losses", ["last_step"]).column(0).unique().to_pylist() == [1, 2]
    assert [path.name for path in sorted((run / FOLDER).glob("step-*"))] == ["step-00000003"]
    write(run, 2, loss=2.0)  # as if the process had ended between the rows and the removal of the folder
    rows(3)
    rows(3)
    a, b = store.sql(MEANS).to_pylist()
    assert (a["run"], a["run_fingerprint"], a["draws"], a["first_step"], a["last_step"]) == ("run", "print", 3, 1, 3)
    assert (a["loss"], b["loss"]) == (2.0, 3.0)
    assert b["relative"] == pytest.approx(9 / (1.5 + 2.5 + 3.5)), "over all steps: its losses over the usual ones"
    assert not list((run / FOLDER).glob("step-*"))


def test_steps_that_are_done_again_are_not_there_twice(tmp_path: Path) -> None:
    store, run = Store.open(tmp_path / "store", create=True), tmp_path / "run"
    for step in (1, 2):
        write(run, step, loss=1.0)
    ClipLossRows(store, run, "print")(2)
    other = tmp_path / "elsewhere" / "run"
    write(other, 2, loss=5.0)
    ClipLossRows(store, other, "print")(2)
    again = ClipLossRows(store, run, "print")  # its last checkpoint was lost
    again(1)
    write(run, 2, loss=1.0)
    again(2)
    draws = [(row["clip_id"], row["draws"]) for row in store.sql(MEANS).to_pylist()]
    assert sorted(draws) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)], "two folders of one name are two runs"
