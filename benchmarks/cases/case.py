"""A case: its entry in `cases.json`, and what `reel curate` made of it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelwright.curation.store import Store

TRIES, NOT_STARTED = 3, "Ray did not start"  # on a machine that is overloaded; nothing was read then
MANIFESTS = {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".txt"}


@dataclass(frozen=True)
class Case:
    """One entry. kind: the number that its file name begins with; cases of one kind are judged alike."""

    path: Path
    entry: dict[str, Any]

    @property
    def kind(self) -> int | None:
        number = str(self.entry.get("kind", self.path.name.split("_")[0]))
        return int(number) if number.isdigit() else None

    @property
    def is_manifest(self) -> bool:
        return self.path.suffix.lower() in MANIFESTS

    @property
    def settings(self) -> tuple[str, ...]:
        """KEY=VALUE over the default recipe, separated by spaces in the entry."""
        return tuple(str(self.entry.get("recipe", "")).split())


@dataclass
class Outcome:
    """The output of a run, and the store it left."""

    exit_code: int
    output: str
    sources: list[dict[str, Any]] = field(default_factory=list)
    shots: list[dict[str, Any]] = field(default_factory=list)
    clips: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    store: Store | None = None

    def source_of(self, path: Path) -> dict[str, Any] | None:
        return next((s for s in self.sources if s["uri"] == os.path.abspath(path)), None)

    def of(self, source: dict[str, Any], table: str) -> list[dict[str, Any]]:
        """Rows of `shots` or `clips` of a source."""
        return [row for row in getattr(self, table) if row["source_md5"] == source["md5"]]

    def mp4_of(self, clip_id: str) -> bytes:
        assert self.store is not None
        ((_, mp4),) = self.store.read_media([clip_id])
        return mp4


def load_cases(folder: Path) -> list[Case]:
    """The cases that a folder's `cases.json` lists."""
    return [Case(folder / entry["file"], entry) for entry in json.loads((folder / "cases.json").read_text())]


def curate(inputs: list[Path], store: Path, settings: tuple[str, ...] = ()) -> Outcome:
    """Run `reel curate` as a user does, and read the store afterwards."""
    options = [part for setting in settings for part in ("--set", setting)]
    reel = [sys.executable, "-m", "reelwright.pipelines.cli"]
    command = [*reel, "curate", *map(str, inputs), "--store", str(store), *options]
    for _ in range(TRIES):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
        if NOT_STARTED not in done.stderr + done.stdout:
            break
    outcome = Outcome(done.returncode, done.stdout + done.stderr)
    if (store / "sources.lance").exists():
        outcome.store = opened = Store.open(store)
        for table in ("sources", "shots", "clips", "failures"):
            setattr(outcome, table, opened.read(table).to_pylist())
    return outcome
