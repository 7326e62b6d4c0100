"""Where a run's figures go: log.jsonl, TensorBoard, Weights & Biases, and a line for whoever watches."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelwright.curation.extras import install_command
from reelwright.training.errors import TrainError

if TYPE_CHECKING:  # a page that draws a log needs no torch
    from reelwright.training.distributed.world import World
    from reelwright.training.recipe import LogConfig

FILE = "log.jsonl"


class Log:
    """Written by the first rank alone. Lines after `start_step`, of a run that was killed, are dropped first."""

    def __init__(
        self,
        folder: Path,
        config: LogConfig,
        world: World,
        *,
        start_step: int = 0,
        metadata: dict[str, Any] | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.path = folder / FILE
        self.say: Callable[[str], None] = say if world.is_first else _nothing
        self._board: Any = None
        self._wandb: Any = None
        self._is_first = world.is_first
        if not world.is_first:
            return
        folder.mkdir(parents=True, exist_ok=True)
        _drop_after(self.path, start_step)
        if config.tensorboard:
            self._board = _tensorboard(folder / "tensorboard", start_step)
        if config.wandb:
            self._wandb = _wandb(config.wandb, folder, metadata or {})

    def write(self, step: int, values: dict[str, float], *, line: str = "") -> None:
        """Figures after `step` optimizer steps; line: what to print, if anything."""
        if not self._is_first:
            return
        row = {"step": step, "time": round(time.time(), 3), **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()
        if self._wandb is not None:
            self._wandb.log(values, step=step)
        if line:
            self.say(line)

    def close(self) -> None:
        """Close the writers."""
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read the lines of a run folder's log.jsonl; a line that a crash cut short is left out."""
    path = folder / FILE
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _drop_after(path: Path, step: int) -> None:
    if path.exists():
        kept = [row for row in read_log(path.parent) if row["step"] <= step]
        new = path.with_suffix(".new")
        new.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        new.replace(path)


def _tensorboard(folder: Path, start_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None  # an extra; log.jsonl has the same figures
    return SummaryWriter(str(folder), purge_step=start_step + 1 if start_step else None)


def wandb_id(folder: Path) -> str:
    """Return an id: the same for a resumed run, another for the same recipe and snapshot in another place.

    W&B allows neither slashes, backslashes nor # ? % : in it; docs.wandb.ai/ref/python/init.
    """
    digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', folder.name)[:100]}-{digest}"


def _wandb(project: str, folder: Path, metadata: dict[str, Any]) -> Any:
    """Open W&B's run.

    A run that resumes from an earlier checkpoint logs some steps again; W&B keeps the earlier values.
    """
    try:
        import wandb
    except ImportError as error:
        raise TrainError(
            f"log.wandb is set, but wandb is not installed; {install_command('wandb')}, or --set log.wandb="
        ) from error
    try:
        return wandb.init(
            project=project, dir=str(folder.absolute()), name=folder.name, id=wandb_id(folder), resume="allow",
            config=metadata, allow_val_change=True,
        )  # fmt: skip
    except wandb.Error as error:
        raise TrainError(
            f"W&B could not be started ({error}); run `wandb login`, set WANDB_MODE=offline, or --set log.wandb="
        ) from error


def _nothing(_: str) -> None:
    pass
