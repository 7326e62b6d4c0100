"""`reel evaluate`."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from reelwright import interrupts
from reelwright.pipelines.cli.app import StoreOption, app
from reelwright.pipelines.cli.generate_options import MachineOptions, SamplingOptions, ShapeOptions, WeightOptions
from reelwright.pipelines.cli.option_groups import GroupedCommand, grouped, option_group
from reelwright.pipelines.cli.rating_options import PeopleOptions

if TYPE_CHECKING:
    from reelwright.curation.store import Store
    from reelwright.pipelines.cli.evaluate_settings import Sampled
    from reelwright.pipelines.evaluate.run import Options


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


@option_group
class JudgingOptions:
    """What the videos are measured and judged by, and where they go."""

    heading: ClassVar[str] = "Measures, judges and benchmarks"

    measures: Annotated[
        list[str] | None,
        typer.Option("--measure", help="A measure, or an annotator of clips; repeatable.  [default: the usual ones]"),
    ] = None
    no_measures: Annotated[bool, typer.Option("--no-measures", help="Measure nothing.")] = False
    judge: Annotated[Path | None, typer.Option(help="YAML that names a chat model as judge, or rewards.")] = None
    allow_trained_rewards: Annotated[
        bool, typer.Option("--allow-trained-rewards", help="Let a reward judge a model that learned from it.")
    ] = False
    export_vbench: Annotated[
        Path | None, typer.Option(help="Folder to lay the videos out in, as VBench or VBench-2.0 expects them.")
    ] = None
    import_vbench: Annotated[
        list[str] | None,
        typer.Option(help="MODEL=PATH of a benchmark's *_eval_results.json, or a folder of them; repeatable."),
    ] = None


@app.command(
    cls=GroupedCommand,
    epilog="Example:  reel evaluate base=runs/a tuned=runs/b --prompts ours --name first --store STORE",
)
@grouped
def evaluate(
    store: StoreOption,
    study: StudyOptions,
    judging: JudgingOptions,
    people: PeopleOptions,
    shape: ShapeOptions,
    sampling: SamplingOptions,
    weights: WeightOptions,
    machine: MachineOptions,
    models: Annotated[
        list[str] | None, typer.Argument(help="Runs, checkpoints or weights under comparison: PATH or NAME=PATH.")
    ] = None,
) -> None:
    """Evaluate models: generate every prompt of a suite with each, with the same seeds, into the store; then measure.

    Run it again at any time: only missing videos, measures and judgements are made. A model can be added to an
    evaluation later. --lora goes to all models, --lora NAME=LORA to one. Without models, --name names an evaluation
    that is there. --rate, --ratings and --report are steps of their own: people's scores, and the page.
    """
    from reelwright.curation.store import Store
    from reelwright.pipelines.cli.evaluate_settings import Sampled
    from reelwright.pipelines.evaluate.run import Options

    Store.open(store)  # a mistake in its name must not make a store
    opened = Store.open(store, create=True)
    if people.is_asked():
        people.do(opened, study.seed)
        return
    interrupts.leaves(interrupts.COMMITTED)
    kept = ("name", "seed", "retry_failed", "limit", "workers", "address", "quiet")
    with ExitStack() as stack:
        options = Options(**{key: getattr(study, key) for key in kept}, stack=stack)
        how = Sampled(shape, sampling, weights, machine, study.negative, study.address)
        _steps(opened, models or [], study, judging, how, options)


def _steps(
    store: "Store",
    models: list[str],
    study: StudyOptions,
    judging: JudgingOptions,
    how: "Sampled",
    options: "Options",
) -> None:
    """Do what was asked for, in order."""
    from reelwright.curation.store.evaluations import find_evaluation
    from reelwright.pipelines.cli import evaluate_steps as steps

    if judging.import_vbench:
        steps.import_vbench(store, study.name, judging.import_vbench)
        return
    name = steps.generate(store, models, study.prompts, how, options) if models else study.name
    found = find_evaluation(store, name)
    if judging.export_vbench is not None:
        steps.export_vbench(store, found, judging.export_vbench)
        return
    if judging.judge is not None:
        steps.judge(store, found, judging.judge, options, allow_trained=judging.allow_trained_rewards)
    if not judging.no_measures and (judging.measures or judging.judge is None):
        steps.measure(store, found, judging.measures or [], options)
