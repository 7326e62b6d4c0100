"""A source whose every worker is lost: its failure names the step that costs them."""

import os
import signal

import pytest

from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.records.history import History
from reelwright.curation.store import Store
from reelwright.pipelines.curate.driver import Curation
from reelwright.pipelines.curate.work import stages_of
from reelwright.pipelines.curate.workers import tasks, whole_sources
from reelwright.pipelines.runtime.progress import Progress
from tests.footage import footage
from tests.pipelines.helpers import recipe_of

pytestmark = pytest.mark.usefixtures("ray_local")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly_cut(job, settings):
    """As a library that takes its process down with it, on one file."""
    return die() if "film00" in job.uri else tasks.cut(job, settings)


def scan_before_a_deadly_cut(jobs, settings):
    kept, tasks.cut = tasks.cut, deadly_cut
    try:
        return whole_sources.scan_sources(jobs, settings)
    finally:
        tasks.cut = kept


def deadly_scan(jobs, settings):
    return die() if any("film00" in job.uri for job in jobs) else whole_sources.scan_sources(jobs, settings)


@pytest.mark.parametrize(("function", "step"), [(scan_before_a_deadly_cut, "cut"), (deadly_scan, "scan")])
def test_a_failure_names_the_step_that_costs_workers(tmp_path, function, step):
    """Of a short source both are one task, which cannot say how far it came."""
    films = footage(tmp_path, 3, lengths=(40,))
    recipe, store = recipe_of(annotators=[], limits__attempts=1), Store.open(tmp_path / "store", create=True)
    stages = stages_of(recipe)
    stages |= {"scan": (function, *stages["scan"][1:]), "cut": (deadly_cut, *stages["cut"][1:])}
    inputs = list_inputs([str(film) for film in films])
    history = History(store, inputs.files, recipe.cutting_fingerprint)
    with store.committing(), Progress("curate", quiet=True) as progress:
        summary = Curation(store, recipe, inputs, history, [], stages).run(progress)
    assert (summary.ok, summary.failed, summary.clips) == (2, 1, 2)
    failures = store.read("failures", ["uri", "stage", "error"]).to_pylist()
    assert {failure["uri"] for failure in failures} == {str(films[0])}
    assert {failure["stage"] for failure in failures} == {step}
    assert all("the worker was lost" in failure["error"] for failure in failures)
