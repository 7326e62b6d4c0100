"""Workers of annotators see the keys of object stores that a recipe names, however they come to their work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reelwright.annotate import SetAnnotator
from reelwright.annotate.contract import Annotator, Column, Resources, Stored
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.context import Report
from reelwright.pipelines.annotate.load import load_annotators, prepare_columns
from reelwright.pipelines.annotate.run import annotate_and_record
from reelwright.pipelines.annotate.set_tasks import SharedWork, by_tasks
from reelwright.pipelines.recipes.curation import CurateRecipe, Need
from reelwright.pipelines.runtime.cluster import cluster
from reelwright.pipelines.runtime.meter import Stage
from reelwright.pipelines.runtime.progress import Progress
from tests.conftest import ROOT
from tests.pipelines.annotate.test_set_tasks import widths
from tests.pipelines.helpers import recipe_of

CLIPS = 20
NAMED = "REEL_TEST_TOKEN"  # in the environment of Ray's start, as a recipe's `credentials` name it


@dataclass(frozen=True)
class ToldActor(Annotator):
    """The value of an environment variable in a process of its own."""

    variable: str = ""

    name, version = "told_actor", 1
    needs = Stored("width")
    columns = {"told_actor_value": Column(pa.string(), "the value")}
    resources = Resources(cpus=0.5, batch=CLIPS, own_process=True)

    def __call__(self, width: int) -> dict[str, str | None]:
        return {"told_actor_value": os.environ.get(self.variable)}


@dataclass(frozen=True)
class ToldSet(SetAnnotator):
    """The value of an environment variable where a set is computed."""

    variable: str = ""

    name, version = "told_set", 1
    needs = Stored("width")
    columns = {"told_set_value": Column(pa.string(), "the value")}

    def __call__(self, clips: pa.Table, state: Any) -> tuple[dict[str, Any], Any]:
        return told(self.variable, clips), state


@dataclass(frozen=True)
class Telling:
    """What a task of a set computes."""

    variable: str

    def __call__(self, clips: pa.Table) -> Mapping[str, Any]:
        return told(self.variable, clips)


def told(variable: str, clips: pa.Table) -> dict[str, Any]:
    return {"told_set_value": [os.environ.get(variable)] * len(clips)}


def recipe(name: str, variable: str, named: str = NAMED) -> CurateRecipe:
    return recipe_of(annotators=[name], parameters={name: {"variable": variable}}, credentials={variable: named})


def annotated(store: Store, of: CurateRecipe) -> Report:
    with Progress("annotate", quiet=True) as progress:
        return annotate_and_record(store, of, load_annotators(of), progress)


def values(tables: Iterable[pa.Table], column: str) -> list[str | None]:
    return pa.concat_tables(tables)[column].to_pylist()


def main(folder: Path) -> None:
    """Print what each kind of worker sees. Each asks for a variable of its own: Ray gives one process to several."""
    seen: dict[str, Any] = {}
    with cluster():
        store = widths(folder, fragments=1, rows=CLIPS)
        report = annotated(store, recipe("told_actor", "AWS_UNSET", "REEL_TEST_UNSET"))
        seen["unset"] = report.why_postponed.get("told_actor", "")
        annotated(store, recipe("told_actor", "AWS_ACTOR"))
        seen["actor"] = values([store.read("clips")], "told_actor_value")
        annotated(store, recipe("told_set", "AWS_SET"))
        seen["set"] = values([store.read("clips")], "told_set_value")
        of, variable = recipe("told_set", "AWS_TASK"), "AWS_TASK"
        prepare_columns(store, load_annotators(of))
        work = SharedWork(
            store.uri, store.dataset("clips").version, "told_set", {"variable": variable}, "f", ("width",),
            Telling(variable),
        )  # fmt: skip
        seen["task"] = values(by_tasks(work, Need(), of, defaultdict(Stage)), "told_set_value")
    print(json.dumps(seen), flush=True)


@pytest.mark.usefixtures("ray_local")
def test_workers_of_annotators_have_the_keys_that_a_recipe_names(tmp_path: Path) -> None:
    """On a Ray of its own, whose workers know the recipe's variable alone."""
    about = tmp_path / "site" / "told-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: told\nVersion: 1.0\n")
    points = [f"{kind.name} = {__name__}:{kind.__name__}" for kind in (ToldActor, ToldSet)]
    (about / "entry_points.txt").write_text("\n".join(["[reelwright.annotators]", *points]) + "\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "AWS_"))}
    path = os.pathsep.join([str(ROOT), str(about.parent), os.environ.get("PYTHONPATH", "")])
    script = f"from pathlib import Path; from {__name__} import main; main(Path({str(tmp_path)!r}))"
    made = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, cwd=ROOT,
        env=environment | {"PYTHONPATH": path, NAMED: "a token"},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    seen = json.loads(made.stdout.splitlines()[-1])
    assert "REEL_TEST_UNSET is not set" in seen.pop("unset")
    assert seen == dict.fromkeys(["actor", "set", "task"], ["a token"] * CLIPS)
