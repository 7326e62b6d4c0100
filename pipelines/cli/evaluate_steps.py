"""The steps of `reel evaluate`: making videos, measuring and judging them, and what each prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelwright.curation.store.evaluations import find_evaluation
from reelwright.errors import UserError
from reelwright.pipelines.cli.app import say
from reelwright.pipelines.cli.evaluate_settings import Sampled, models_of

if TYPE_CHECKING:
    from reelwright.curation.store import Store
    from reelwright.pipelines.evaluate.counts import JudgedCounts, Measured
    from reelwright.pipelines.evaluate.run import Options, Summary


def generate(store: Store, models: list[str], prompts: str | None, how: Sampled, options: Options) -> str:
    """Make the videos; return the evaluation's name."""
    if prompts is None:
        raise UserError("no prompts were named; add --prompts ours, or a file")
    from reelwright.evaluation.suites.files import load_suite
    from reelwright.pipelines.evaluate.run import evaluate

    suite = load_suite(prompts)
    made = evaluate(store, suite, models_of(models, suite, how), options)
    say(summary_text(made))
    return made.name


def measure(store: Store, evaluation: dict[str, Any], names: list[str], options: Options) -> None:
    """Measure the videos."""
    from reelwright.pipelines.evaluate.measures import measure as run

    say(measured_text(run(store, evaluation["evaluation_id"], names, options)))


def judge(store: Store, evaluation: dict[str, Any], recipe: Path, options: Options, *, allow_trained: bool) -> None:
    """Judge the videos."""
    from reelwright.evaluation.judging.recipe import JudgeRecipe
    from reelwright.pipelines.evaluate.judging import judge as run
    from reelwright.recipe_files import load

    found = load(JudgeRecipe, recipe, example="judge: {chat: {model: NAME, url: http://HOST:8000/v1}}")
    if not found.judge and not found.rewards:
        raise UserError(f"{recipe} names no judge and no rewards; see docs/evaluation.md")
    say(judged_text(run(store, evaluation, found, options, allow_trained=allow_trained)))


def export_vbench(store: Store, evaluation: dict[str, Any], folder: Path) -> None:
    """Lay the videos out for VBench."""
    from reelwright.pipelines.evaluate.vbench import export_vbench as run

    done = run(store, evaluation["evaluation_id"], folder)
    say(f"{done.files:,} files in {', '.join(map(str, done.folders))}")
    if done.missing:
        say(f"{done.missing:,} videos that the benchmark wants failed or are not made; it refuses to run without them")


def import_vbench(store: Store, name: str, texts: list[str]) -> None:
    """Print a benchmark's results, and keep those of named models."""
    from reelwright.pipelines.evaluate.vbench import import_vbench as read
    from reelwright.pipelines.evaluate.vbench import keep_scores, scores_text

    found = read(texts)
    named = {model: scores for model, scores in found.items() if model}
    if named:
        keep_scores(store, find_evaluation(store, name)["evaluation_id"], named)
    say(*(scores_text(model, scores) for model, scores in found.items()))
    holes = [model for model, scores in found.items() if scores.total is None]
    if holes:
        found[holes[0]].require_total()


def summary_text(s: Summary) -> str:
    """Return counts that add up, by model too, and the next command."""
    lines = [f"evaluation {s.name} ({s.evaluation_id})", *s.notes]
    lines.append(
        f"{s.wanted:,} videos = {s.before:,} there before + {s.failed_before:,} failed before + {s.made:,} made"
        f" + {s.failed:,} failed + {s.left:,} left"
    )
    for model, counts in s.by_model.items():
        why = f": {s.why[model]}" if model in s.why else ""
        lines.append(f"  {model}: {counts['ok']:,} ok, {counts['failed']:,} failed{why}")
    if s.failed or s.failed_before:
        lines.append("failed ones stay in the denominator; --retry-failed tries them again")
    if s.left:
        lines.append("the same command makes what is left")
    return "\n".join(lines)


def measured_text(m: Measured) -> str:
    """Return counts by measure, and the reasons for failures."""
    lines = [*m.notes, f"measures of {m.wanted:,} videos:"]
    return "\n".join([*lines, *_counts(m)])


def judged_text(j: JudgedCounts) -> str:
    """Return counts by dimension, and how answers were read."""
    lines = [*j.notes, "judged:", *_counts(j)]
    digits = {name: count for name, count in j.by_digit.items() if count}
    if digits:
        said = ", ".join(f"{name} {count:,}" for name, count in digits.items())
        lines.append(f"read from the digit alone, as the model gave no probabilities: {said}")
    return "\n".join(lines)


def _counts(found: Measured | JudgedCounts) -> list[str]:
    lines = []
    for name in sorted({*found.made, *found.current, *found.failed}):
        why = f" ({found.why[name]})" if name in found.why else ""
        lines.append(
            f"  {name}: {found.made[name]:,} made, {found.current[name]:,} there before, {found.failed[name]:,} "
            f"without a value{why}"
        )
    return lines
