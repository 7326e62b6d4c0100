"""`reel precompute`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelwright import interrupts
from reelwright.errors import UserError
from reelwright.pipelines.cli.app import StoreOption, app, say
from reelwright.pipelines.cli.commands.train import Snapshots

if TYPE_CHECKING:
    from reelwright.pipelines.precompute.run import Summary


@app.command(epilog="Example:  reel precompute configs/train/mini/stage1-t2i.yaml --snapshot pan-left --store STORE")
def precompute(
    store: StoreOption,
    snapshot: Snapshots = None,
    recipe: Annotated[Path | None, typer.Argument(help="Training recipe (YAML).")] = None,
    named: Annotated[Path | None, typer.Option("--recipe", help="The recipe, said by name.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the recipe; repeatable.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Encode at most so many latents now.")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; default: --per-gpu, or one per CPU without GPUs.")
    ] = None,
    per_gpu: Annotated[
        int, typer.Option("--per-gpu", min=1, help="Processes per GPU, which share it: one decodes as another encodes.")
    ] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="Print the storage needed, encode nothing.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
    address: Annotated[str | None, typer.Option("--address", help="Ray cluster; default: this machine.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the summary.")] = False,
) -> None:
    """Encode a snapshot's clips and captions for training. Run it again at any time: only missing rows are made."""
    from reelwright.curation.store import Store
    from reelwright.pipelines.precompute.run import Options
    from reelwright.pipelines.precompute.run import precompute as run
    from reelwright.pipelines.recipes.locations import with_absolute_paths
    from reelwright.pipelines.recipes.snapshots import choose_snapshots
    from reelwright.recipe_files import parse_overrides
    from reelwright.training.mix import options as words
    from reelwright.training.recipe_file import load_recipe

    recipe = named or recipe
    if recipe is None:
        raise UserError("no recipe was named; give one, such as configs/train/mini/stage1-t2i.yaml")
    overrides = parse_overrides(settings or [], example="data.tokens_per_batch=8192")
    full, name = choose_snapshots(with_absolute_paths(load_recipe(recipe, overrides)), snapshot or [])
    if plan:
        from reelwright.pipelines.precompute.storage import plan_storage, storage_text

        say(storage_text(plan_storage(Store.open(store), name, full), full))
        return
    Store.open(store)  # a mistake in its name must not make a store
    opened = Store.open(store, create=True)  # one made by an earlier version gets the tables it lacks
    interrupts.leaves(interrupts.COMMITTED)
    options = Options(
        limit=limit, retry_failed=retry_failed, address=address, workers=workers, per_gpu=per_gpu, quiet=quiet
    )
    summary = run(opened, name, full, options)
    say(summary_text(summary, f"reel train {recipe} {words(name, full.data.mix)} --store {store}", store))
    if not summary.adds_up:
        raise RuntimeError(f"counts do not add up: {summary}; this is a bug, please report it")


def summary_text(s: "Summary", train: str, store: str) -> str:
    """Return counts that add up, and the next command."""
    lines = [
        f"{s.wanted:,} latents = {s.before:,} there before + {s.made:,} encoded + {s.failed:,} failed"
        f" + {s.left:,} left",
        f"{s.wanted_captions:,} captions = {s.before_captions:,} there before + {s.made_captions:,} encoded"
        f" + {s.failed_captions:,} failed",
    ]
    lines += [f"{n:,} clips {why}: not used" for why, n in s.unused.items()]
    if s.made or s.made_captions:
        lines.append(
            f"{s.bytes / 1e6:,.1f} MB written in {s.seconds:,.0f} s ({s.made / max(s.seconds, 1e-9):,.2f} latents/s)"
        )
    elif not s.left:
        lines.append("nothing to do: what this recipe needs of this snapshot is there")
    if s.failed or s.failed_captions:
        lines.append(
            f"what failed:  reel failures --store {store} --stage precompute   (training leaves such clips out)"
        )
    lines.append("the same command encodes what is left" if s.left else f"train:        {train}")
    return "\n".join(lines)
