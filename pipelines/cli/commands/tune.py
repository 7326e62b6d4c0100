"""`reel tune …`: a captioner, a judge or a reward from the store's own data."""

from pathlib import Path
from typing import Annotated

import typer

from reelwright.pipelines.cli.app import app, printable, say

tune = typer.Typer(
    help="Tune a vision-language model from the store.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(tune, name="tune")

RecipeArgument = Annotated[Path, typer.Argument(help="YAML recipe, such as configs/tune/captioner.yaml.")]
StoreAddress = Annotated[
    str, typer.Option("--store", "-s", envvar="REEL_STORE", help="Store that data.sql is about.")
]
Out = Annotated[str, typer.Option("--out", "-o", help="Folder of runs.")]
Name = Annotated[str, typer.Option(help="Of the run; default: the recipe's file name.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the recipe; repeatable.")]
Plan = Annotated[bool, typer.Option("--plan", help="Count samples, and those left out; train nothing.")]


@tune.command(epilog="Example:  reel tune captioner configs/tune/captioner.yaml --store STORE --out tuned")
def captioner(
    recipe: RecipeArgument, store: StoreAddress = "", out: Out = "tuned", name: Name = "", settings: Settings = None,
    plan: Plan = False,
) -> None:  # fmt: skip
    """Tune on captions of clips, or on files of conversations. The same command again resumes a stopped run."""
    _run("captioner", recipe, store, out, name, settings or [], plan=plan)


@tune.command(epilog="Example:  reel tune judge configs/tune/judge.yaml --store STORE --out tuned")
def judge(
    recipe: RecipeArgument, store: StoreAddress = "", out: Out = "tuned", name: Name = "", settings: Settings = None,
    plan: Plan = False,
) -> None:  # fmt: skip
    """Tune on people's scores of generations, 1 to 5 by dimension."""
    _run("judge", recipe, store, out, name, settings or [], plan=plan)


@tune.command(epilog="Example:  reel tune reward configs/tune/reward.yaml --store STORE --out tuned")
def reward(
    recipe: RecipeArgument, store: StoreAddress = "", out: Out = "tuned", name: Name = "", settings: Settings = None,
    plan: Plan = False,
) -> None:  # fmt: skip
    """Tune on people's choices between two generations. The result is the reward `tuned` of a run of GRPO."""
    _run("reward", recipe, store, out, name, settings or [], plan=plan)


def _run(
    use: str, path: Path, store: str, out: str, name: str, settings: list[str], *, plan: bool
) -> None:
    from reelwright.pipelines.tune.run import TuneRequest, plan_here, tune_here
    from reelwright.recipe_files import parse_overrides
    from reelwright.training.tuning.recipe import load_tune_recipe

    recipe = load_tune_recipe(use, path, parse_overrides(settings, example="steps=100"))
    request = TuneRequest(use, recipe, store, Path(out).expanduser().absolute() / (name or path.stem))
    if plan:
        plan_here(request, _say)
        return
    raise typer.Exit(tune_here(request, _say))


def _say(line: str) -> None:
    say(printable(line))


@tune.command(epilog="Example:  reel tune measure tuned/captioner --store STORE --set model=judge --set url=URL")
def measure(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run of `reel tune captioner`.")],
    store: StoreAddress = "",
    events: Annotated[Path | None, typer.Option(help="References' events, in DREAM-1K's form.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE of the judge's chat; without a model, no events.")
    ] = None,
) -> None:
    """Measure held-out captions before and after: events, words, camera terms, CIDEr (own tokens)."""
    from pydantic import TypeAdapter, ValidationError

    from reelwright.annotate.chat.model import ChatModel
    from reelwright.curation.store import Store
    from reelwright.errors import UserError, first_line
    from reelwright.pipelines.tune.measures import measure_captioner
    from reelwright.recipe_files import parse_overrides

    try:
        chat = TypeAdapter(ChatModel).validate_python(parse_overrides(settings or [], example="model=NAME"))
    except ValidationError as error:
        raise UserError(f"--set does not describe a chat model: {first_line(error)}") from error
    opened = Store.open(store) if store else None
    measure_captioner(run, judge=chat if chat.model else None, events=events, store=opened, say=_say)


@tune.command(epilog="Example:  reel tune gate tuned/captioner --store STORE")
def gate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run of `reel tune captioner`.")],
    store: Annotated[str, typer.Option("--store", "-s", envvar="REEL_STORE", help="Store with captions before.")],
    clips: Annotated[int, typer.Option(min=1, help="Clips to compare on.")] = 200,
    clip_model: Annotated[str, typer.Option(help="CLIP model: folder or hub id; default: ViT-L/14.")] = "",
    device: Annotated[str, typer.Option(help='Of both models; "auto" is the GPU where there is one.')] = "auto",
) -> None:
    """Compare caption-to-video similarity with the store's captions. Exits with 3 where over 5 % is lost."""
    from reelwright.annotate.backends.clip_encoder import VIT_L_14, ClipModel
    from reelwright.curation.store import Store
    from reelwright.pipelines.tune.gate import compare_captioners
    from reelwright.pipelines.tune.run import caption_parameters

    clip = ClipModel(model=clip_model or VIT_L_14.model, device=device)
    found = compare_captioners(Store.open(store), caption_parameters(run, device), clip, clips, _say)
    if found.is_flagged:
        raise typer.Exit(3)
