"""Table `clip_losses`: what each clip cost a training run, by band of the noise level.

A run adds rows whenever it has saved a checkpoint: of the steps since the checkpoint before. The view
`clip_loss_means` has one row per run, clip and band.
"""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import TIMESTAMP, Table, field, register


def _columns() -> list[pa.Field]:
    text, f64 = pa.string(), pa.float64()
    return [
        field("run", text, "the training run's name: that of its folder"),
        field("run_id", text, "of the folder: two folders may hold runs of one name"),
        field("run_fingerprint", text, "of its recipe and snapshot"),
        field("clip_id", text, "the clip: clips.clip_id"),
        field("band", text, "band of the noise level t: such as 0.25-0.50; all: every level"),
        field("loss", f64, "mean loss of its samples in the band, unweighted"),
        field("relative", f64, "loss over the mean loss of all samples at like noise levels: 1 is an ordinary clip"),
        field("draws", pa.int64(), "samples in the mean"),
        field("not_finite", pa.int64(), "samples whose loss was no finite number; they are not in the mean"),
        field("first_step", pa.int64(), "of the optimizer steps that the row covers, from 1"),
        field("last_step", pa.int64(), "of the steps that the row covers"),
        field("at", TIMESTAMP, "when it was written"),
    ]  # fmt: skip


TABLE = register(Table("clip_losses", _columns, key="clip_id", lock="clip_losses"))
