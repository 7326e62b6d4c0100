"""`reel evaluate`."""

from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from reelwright.errors import UserError
from reelwright.pipelines.cli.app import StoreOption, app, say
from reelwright.pipelines.cli.generate_options import MachineOptions, SamplingOptions, ShapeOptions, WeightOptions
from reelwright.pipelines.cli.option_groups import GroupedCommand, grouped, option_group
from reelwright.pipelines.runtime import interrupts

if TYPE_CHECKING:
    from reelwright.pipelines.evaluate.run import Summary


@option_group
class StudyOptions:
    """Which evaluation, and how it runs."""

    heading: ClassVar[str] = "Evaluation"

    prompts: Annotated[
        str | None,
        typer.Option("--prompts", "--suite", help="Suite: ours, tiny, or a .yaml, .jsonl or VBench's .json."),
    ] = None
    name: Annotated[str, typer.Option(help="Of the evaluation.  [default: by suite and settings]")] = ""
    seed: Annotated[int, typer.Option(min=0, help="Of each prompt's first video; the next has the next one.")] = 0
    negative: Annotated[str | None, typer.Option(help="What guidance avoids; as for reel generate.")] = None
    limit: Annotated[int | None, typer.Option(min=1, help="Make at most so many videos now.")] = None
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per GPU, or per CPU.")] = None
    address: Annotated[str | None, typer.Option(help="Ray cluster; default: this machine.")] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the summary.")] = False


@app.command(
    cls=GroupedCommand,
    epilog="Example:  reel evaluate base=runs/a tuned=runs/b --prompts ours --name first --store STORE",
)
@grouped
def evaluate(
    store: StoreOption,
    study: StudyOptions,
    shape: ShapeOptions,
    sampling: SamplingOptions,
    weights: WeightOptions,
    machine: MachineOptions,
    models: Annotated[
        list[str] | None, typer.Argument(help="Runs, checkpoints or weights under comparison: PATH or NAME=PATH.")
    ] = None,
) -> None:
    """Evaluate models: generate every prompt of a suite with each, with the same seeds, into the store.

    Run it again at any time: only missing videos are made. A model can be added to an evaluation later. --lora goes to
    all models, --lora NAME=LORA to one.
    """
    if not models:
        raise UserError("no model was named; give runs, such as: reel evaluate base=runs/a tuned=runs/b --prompts ours")
    if study.prompts is None:
        raise UserError("no prompts were named; add --prompts ours, or a file")
    from reelwright.curation.store import Store
    from reelwright.evaluation.suites.files import load_suite
    from reelwright.pipelines.cli.evaluate_settings import models_of
    from reelwright.pipelines.evaluate.run import Options
    from reelwright.pipelines.evaluate.run import evaluate as run

    Store.open(store)  # a mistake in its name must not make a store
    opened = Store.open(store, create=True)
    suite = load_suite(study.prompts)
    found = models_of(models, suite, shape, sampling, weights, machine, study.negative)
    interrupts.leaves(interrupts.COMMITTED)
    kept = ("name", "seed", "retry_failed", "limit", "workers", "address", "quiet")
    options = Options(**{key: getattr(study, key) for key in kept})
    say(summary_text(run(opened, suite, found, options), store))


def summary_text(s: "Summary", store: str) -> str:
    """Return counts that add up, by model too, and the next command."""
    lines = [f"evaluation {s.name} ({s.evaluation_id})", *s.notes]
    lines.append(
        f"{s.wanted:,} videos = {s.before:,} there before + {s.failed_before:,} failed before + {s.made:,} made"
        f" + {s.failed:,} failed + {s.left:,} left"
    )
    for model, counts in s.by_model.items():
        why = f": {s.why[model]}" if model in s.why else ""
        lines.append(f"  {model}: {counts['ok']:,} ok, {counts['failed']:,} failed{why}")
    if s.made:
        lines.append(f"{s.seconds:,.0f} s")
    if s.failed or s.failed_before:
        lines.append("failed ones stay in the denominator; --retry-failed tries them again")
    if s.left:
        lines.append("the same command makes what is left")
    return "\n".join(lines)
