"""The losses of a run's clips on their way from the run's folder into the store's table `clip_losses`."""

import shutil
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.sql_text import literal

TABLE = "clip_losses"
ID = "run_id"
"""File with the folder's id."""


class ClipLossRows:
    """Takes rows of the steps that a checkpoint holds. The loop calls it with that step.

    Rows of later steps, of a checkpoint that was lost since, are deleted at the first call: the run does these steps
    again. A store that cannot be written delays the rows until the next call, or the next run in the folder.
    """

    def __init__(self, store: Store, run: Path, fingerprint: str, say: Callable[[str], None] = print) -> None:
        """fingerprint: of the run's recipe and snapshot."""
        self.store, self.run, self.fingerprint, self.say = store, run, fingerprint, say
        self._begun = False

    def __call__(self, step: int) -> None:
        """Move the samples of all steps up to `step` into the table."""
        try:
            self._move(step)
        except StoreError as error:
            self.say(f"the losses of clips stay in the run's folder for now: {error}")

    def _move(self, step: int) -> None:
        from reelwright.training.clip_losses import FOLDER, read_by_clip, written

        folder = self.run / FOLDER
        if not folder.is_dir():
            return
        mine = f"run_id = {literal(self._id(folder))}"
        if not self._begun:
            self.store.delete(TABLE, f"{mine} AND last_step > {step}")
            self._begun = True
        there = set(self.store.read(TABLE, ["last_step"], mine).column(0).to_pylist())
        for number, path in written(folder):
            if number > step:
                break
            if number not in there:
                self.store.append(TABLE, self._rows(read_by_clip(path), folder))
            shutil.rmtree(path)

    def _rows(self, losses: pa.Table, folder: Path) -> pa.Table:
        count = len(losses)
        own = {"run": self.run.name, "run_id": self._id(folder), "run_fingerprint": self.fingerprint}
        for name, value in own.items():
            losses = losses.append_column(name, pa.array([value] * count, pa.string()))
        return losses.append_column("at", pa.array([datetime.now(UTC)] * count, pa.timestamp("us", "UTC")))

    def _id(self, folder: Path) -> str:
        """Return the id of the run's folder; the first call makes it."""
        path = folder / ID
        if not path.exists():
            begun = path.with_suffix(".tmp")
            begun.write_text(uuid.uuid4().hex[:16], encoding="utf-8")
            begun.replace(path)
        return path.read_text(encoding="utf-8")
