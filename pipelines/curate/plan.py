"""`reel curate --plan`: the work and the cost of a run. Reads the inputs, writes nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from reelwright.annotate import typical_s
from reelwright.curation.credentials import use
from reelwright.curation.dedup import Deduplicator
from reelwright.curation.ingest.inputs import Input, Inputs
from reelwright.curation.ingest.resolve import inputs_in_words
from reelwright.curation.records.history import History
from reelwright.curation.results import Failed, Probed
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.load import load_annotators
from reelwright.pipelines.annotate.pinning import pin_models
from reelwright.pipelines.annotate.plan import make_plan as plan_annotators
from reelwright.pipelines.annotate.plan import measured_seconds
from reelwright.pipelines.curate.account import (
    ENCODE_S_PER_MEGAPIXEL,
    SCAN_S_PER_MEGAPIXEL,
    Footage,
    expected,
    measured,
)
from reelwright.pipelines.curate.price import price_lines
from reelwright.pipelines.curate.workers import whole_sources
from reelwright.pipelines.recipes.curation import CurateRecipe
from reelwright.pipelines.recipes.prices import Prices
from reelwright.pipelines.runtime.flow import Flow
from reelwright.pipelines.runtime.progress import Progress


def make_plan(recipe: CurateRecipe, inputs: Inputs, *, quiet: bool = False, prices: Prices | None = None) -> str:
    """Return the text of the plan. Needs Ray to be running.

    Args:
        recipe: of the run.
        inputs: of the run.
        quiet: say nothing while files are read.
        prices: rates for a table of the cost, and of what the store's runs so far cost; none without them.
    """
    history = _history(recipe, inputs.files)
    todo = history.todo if history else inputs.files
    dedup = Deduplicator(history.by_md5, history.by_source_id) if history else Deduplicator()
    with Progress("plan", quiet=quiet) as progress:
        probed = _probe_all(recipe, todo, progress)
    states, videos = Counter[str](), []
    for item in todo:
        found = probed[item.uri]
        touched = history.touched.get(item.uri) if history else None
        if history and touched and touched["md5"] == found.md5:
            history.note_done(touched)  # only its time changed
        elif history and (item.uri, found.md5) in history.earlier:
            history.done_before["ok"] += 1
        elif history and not found.failed and history.take_over(item, found):
            continue  # counted as done before
        elif found.failed:
            states["unreadable"] += 1
        elif dedup.survivor_of(item.uri, found.md5 or "", _id_of(recipe, item)):
            states["duplicate"] += 1
        else:
            states["new"] += 1
            videos.append({"uri": item.uri, "bytes": found.num_bytes} | (found.info or {}))
    listed = inputs_in_words(inputs, recipe.manifests)
    footage = Footage.of(videos)
    lines = [*listed, *_lines(recipe, len(inputs.files), history, states, footage)]
    if prices:
        lines += _priced(recipe, footage, history.store if history else None, prices)
    return "\n".join(lines)


def _priced(recipe: CurateRecipe, footage: Footage, store: Store | None, prices: Prices) -> Iterator[str]:
    """Yield the tables of what the new footage will cost, and of what the store's runs so far cost."""
    annotators = load_annotators(recipe)
    accounts = [expected(footage, recipe, annotators, prices, store) if footage.hours else None]
    accounts.append(measured(store, annotators, prices) if store else None)
    for account in accounts:
        if account:
            yield ""
            yield from price_lines(account, prices)
    if not any(accounts):
        yield "nothing to price: no footage is new, and no run of this store has measured any"


def _history(recipe: CurateRecipe, files: Any) -> History | None:
    """Read the store's history; None where there is no store yet."""
    if not Store.exists(recipe.store):
        return None
    keep_ids = recipe.manifests.repeated_ids == "keep"
    return History(Store.open(recipe.store), files, recipe.cutting_fingerprint, keep_ids=keep_ids, images=recipe.images)


def _id_of(recipe: CurateRecipe, item: Input) -> str | None:
    return None if recipe.manifests.repeated_ids == "keep" else item.source_id


def _probe_all(recipe: CurateRecipe, items: Sequence[Input], progress: Progress) -> dict[str, Probed]:
    flow = Flow(
        {"probe": (whole_sources.probe_sources, recipe.resources.probe, 1)}, attempts=recipe.limits.attempts,
        prepare=partial(use, recipe.credentials), batched=("probe",),
    )  # fmt: skip
    uris = [item.uri for item in items if not item.refused]
    for uri in uris:
        flow.add("probe", uri, uri, recipe.limits.model_dump(), recipe.images)
    probed = {item.uri: Probed(failed=Failed("ingest", item.refused)) for item in items if item.refused}
    while flow:
        for done in flow.next_done():
            probed[done.context] = Probed(failed=done.value) if isinstance(done.value, Failed) else done.value
        progress.show(len(probed), len(uris))
    return probed


def _annotate_s(recipe: CurateRecipe, store: Store | None) -> tuple[float, list[str]]:
    """Return the seconds per clip that the recipe's annotators take, and the annotators whose time is unknown.

    The store's runs measured them, or the corpus.
    """
    names = [name for name, _ in recipe.annotator_params()]
    stated = {name: seconds for name in names if (seconds := typical_s(name)) is not None}
    known = stated | (measured_seconds(store) if store else {})
    return sum(known.get(name, 0.0) for name in names), [name for name in names if name not in known]


def _lines(
    recipe: CurateRecipe, inputs: int, history: History | None, states: Counter, footage: Footage
) -> Iterable[str]:
    megapixels, clips = footage.megapixels, footage.clips
    done = sum(history.done_before.values()) if history else 0
    stale = plan_annotators(history.store, load_annotators(pin_models(recipe))) if history and done else []
    failed = history.done_before["failed"] if history else 0
    before = f"{done} done before" + (f" ({failed} of them failed)" if failed else "")
    yield f"{inputs} inputs: {states['new']} new, {before}, {states['duplicate']} duplicates, " + (
        f"{states['unreadable']} unreadable"
    )
    if history and history.recaptioned:
        yield f"{len(history.recaptioned)} done before take over new captions of the manifest; none is cut again for it"
    yield f"new footage: {footage.hours:.2f} hours, {megapixels / 1000:.1f} gigapixels"
    each_s, unknown = _annotate_s(recipe, history.store if history else None)
    costs = {
        "scan (decode, shots, borders)": megapixels * SCAN_S_PER_MEGAPIXEL,
        f"cut (decode, encode {recipe.encode.preset})": megapixels * ENCODE_S_PER_MEGAPIXEL[recipe.encode.preset],
        f"annotate about {clips} new clips": clips * each_s,
        f"annotate {max([r.stale for r in stale], default=0)} stored clips again": sum(r.seconds or 0 for r in stale),
    }
    for name, cost in costs.items():
        yield f"  {name:36} {cost / 60:10.1f} CPU minutes"
    yield f"  {'total':36} {sum(costs.values()) / 60:10.1f} CPU minutes (rough; nothing was written)"
    if unknown:
        yield f"  not counted, as no run has measured them: {', '.join(unknown)}"
