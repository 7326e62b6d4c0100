"""`reel curate`: footage in, clips with scores in a store."""

import time
from dataclasses import replace

from reelwright.annotate.keys import keys_of
from reelwright.curation.ingest.inputs import Inputs
from reelwright.curation.records.history import History
from reelwright.curation.records.recaption import take_over
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.caption_readers import caption_readers
from reelwright.pipelines.annotate.context import Report
from reelwright.pipelines.annotate.load import load_annotators, prepare_columns
from reelwright.pipelines.annotate.looking_ahead import annotating_ahead
from reelwright.pipelines.annotate.pinning import pin_models
from reelwright.pipelines.annotate.run import annotate_and_record, failed_before, is_current, runs_while_cutting
from reelwright.pipelines.curate.driver import Curation
from reelwright.pipelines.curate.sources import Summary
from reelwright.pipelines.recipes.curation import CurateRecipe
from reelwright.pipelines.runtime.cluster import cluster
from reelwright.pipelines.runtime.meter import StoreMeter
from reelwright.pipelines.runtime.progress import Progress


def run_all(
    store: Store,
    recipe: CurateRecipe,
    inputs: Inputs,
    *,
    address: str | None = None,
    retry_failed: bool = False,
    recut: bool = False,
    quiet: bool = False,
) -> tuple[Summary, Report]:
    """Curate new sources, then annotate stale clips of the store.

    Ray is started only where there is something to do.
    """
    asked = StoreMeter(store)
    recipe = pin_models(recipe)
    annotators = load_annotators(recipe)
    prepare_columns(store, annotators)
    history = History(
        store, inputs.files, recipe.cutting_fingerprint, retry_failed=retry_failed, recut=recut,
        keep_ids=recipe.manifests.repeated_ids == "keep", images=recipe.images,
    )  # fmt: skip
    history.forget_mended_rows(inputs)
    take_over(store, history.recaptioned, caption_readers(store, annotators))
    if not history.todo and is_current(store, annotators, retry_failed=retry_failed):
        history.moves.commit(store)
        return _nothing_to_do(inputs, history), Report(failed_before=failed_before(store, annotators))
    keys_of(annotators)  # a missing one is said now, not after the cutting
    with cluster(address):
        clock = time.monotonic()
        with Progress("curate", quiet=quiet) as progress:
            light = [name for name, annotator in annotators.items() if runs_while_cutting(annotator)]
            curation = Curation(store, recipe, inputs, history, light, asked=asked)
            curation.time_left.after = annotating_ahead(store, recipe, annotators, light, retry_failed=retry_failed)
            summary = curation.run(progress)
        with Progress("annotate", quiet=quiet) as progress:
            report = annotate_and_record(store, recipe, annotators, progress, retry_failed=retry_failed, asked=asked)
        store.merge_small_files()
        return replace(summary, seconds=time.monotonic() - clock), report


def _nothing_to_do(inputs: Inputs, history: History) -> Summary:
    before = history.done_before
    return Summary(
        inputs=len(inputs.files), ok=before["ok"], duplicate=before["duplicate"], failed=before["failed"],
        done_before=sum(before.values()), cut_otherwise=history.cut_otherwise, moved=history.moves.made,
        recaptioned=len(history.recaptioned),
        no_clip=dict(history.no_clip), clips_failed_before=history.clips_failed_before(),
    )  # fmt: skip
