"""`reel evaluate`."""

from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from reelwright.errors import UserError
from reelwright.pipelines.cli.app import StoreOption, app, say
from reelwright.pipelines.cli.generate_options import MachineOptions, SamplingOptions, ShapeOptions, WeightOptions
from reelwright.pipelines.cli.option_groups import GroupedCommand, grouped, option_group
from reelwright.pipelines.runtime import interrupts

if TYPE_CHECKING:
    from reelwright.curation.store import Store
    from reelwright.pipelines.evaluate.measures import Measured
    from reelwright.pipelines.evaluate.run import Options, Summary


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
    measures: Annotated[
        list[str] | None,
        typer.Option("--measure", help="A measure or an annotator of clips; repeatable.  [default: those of every one]"),
    ] = None
    no_measures: Annotated[bool, typer.Option("--no-measures", help="Make videos alone.")] = False
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
    from reelwright.curation.store import Store
    from reelwright.pipelines.evaluate.run import Options

    Store.open(store)  # a mistake in its name must not make a store
    opened = Store.open(store, create=True)
    interrupts.leaves(interrupts.COMMITTED)
    kept = ("name", "seed", "retry_failed", "limit", "workers", "address", "quiet")
    options = Options(**{key: getattr(study, key) for key in kept})
    if models:
        found = _generate(opened, models, study, options, (shape, sampling, weights, machine))
    else:
        found = _existing(opened, study.name)
    if not study.no_measures:
        from reelwright.pipelines.evaluate.measures import measure

        say(measured_text(measure(opened, found, study.measures or [], options)))


def _generate(
    store: "Store",
    models: list[str],
    study: StudyOptions,
    options: "Options",
    how: tuple[ShapeOptions, SamplingOptions, WeightOptions, MachineOptions],
) -> str:
    """Make the videos; return the evaluation's id."""
    if study.prompts is None:
        raise UserError("no prompts were named; add --prompts ours, or a file")
    from reelwright.evaluation.suites.files import load_suite
    from reelwright.pipelines.cli.evaluate_settings import models_of
    from reelwright.pipelines.evaluate.run import evaluate as run

    suite = load_suite(study.prompts)
    made = run(store, suite, models_of(models, suite, *how, study.negative), options)
    say(summary_text(made))
    return made.evaluation_id


def _existing(store: "Store", name: str) -> str:
    """Return the id of an evaluation by its name, or of the only one."""
    known = {row["name"]: row["evaluation_id"] for row in store.read("evaluations", ["name", "evaluation_id"]).to_pylist()}
    if not known:
        raise UserError("no model was named; give runs, such as: reel evaluate base=runs/a tuned=runs/b --prompts ours")
    if not name and len(known) == 1:
        [name] = known
    if name not in known:
        raise UserError(f"--name {name or '(none)'} names no evaluation; there are: {', '.join(sorted(known))}")
    return known[name]


def summary_text(s: "Summary") -> str:
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


def measured_text(m: "Measured") -> str:
    """Return counts by measure, and the reasons for failures."""
    lines = [*m.notes, f"measures of {m.wanted:,} videos:"]
    for name in sorted({*m.made, *m.current, *m.failed}):
        why = f" ({m.why[name]})" if name in m.why else ""
        lines.append(f"  {name}: {m.made[name]:,} made, {m.current[name]:,} there before, {m.failed[name]:,} null{why}")
    return "\n".join(lines)
