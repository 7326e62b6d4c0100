"""`reel reward …`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from reelwright.errors import UserError, first_line
from reelwright.pipelines.cli.app import app, printable, say

reward = typer.Typer(help="Rewards of reinforcement learning.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(reward, name="reward")


@reward.command(
    epilog="Example:  reel reward serve annotation --set annotator=blur --set column=blur_score   "
    "and, in the recipe of a run:  rewards: {blur: {kind: service, parameters: {url: http://HOST:8070}}}"
)
def serve(
    kind: Annotated[str, typer.Argument(metavar="REWARD", help="Name of a reward; with --recipe, a label of it.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of a parameter; repeatable.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Serve what this training recipe has under the label.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8070,
    key_env: Annotated[str, typer.Option(help="Environment variable with a key that requests must bring.")] = "",
    max_mb: Annotated[int, typer.Option(min=1, help="MiB of a request's frames, at most.")] = 2048,
) -> None:
    """Serve a reward over HTTP, so that a run on another machine scores its samples here.

    A run names the address by the reward `service`. It prints its fingerprint, which that reward's `expects` may state.
    """
    from reelwright.recipe_files import parse_overrides
    from reelwright.training.rewards.registry import load
    from reelwright.training.rewards.remote.server import Limits, RewardServer

    parameters: dict[str, Any] = {}
    if recipe:
        kind, parameters = _of_recipe(recipe, kind)
    key = os.environ.get(key_env, "") if key_env else ""
    if key_env and not key:
        raise UserError(f"--key-env names {key_env!r}, which holds no key; export it")
    try:
        served = load(kind, parameters | parse_overrides(settings or [], example="annotator=blur"))
    except ValueError as error:
        raise UserError(str(error)) from None
    try:
        server = RewardServer(served, (host, port), key=key, limits=Limits(max_bytes=max_mb << 20), say=_say)
    except OSError as error:
        raise UserError(f"{host}:{port} cannot be listened at: {first_line(error)}") from None
    with server:
        _say(f"{served.name} {served.fingerprint} at http://{host}:{server.server_port}; stop it with Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            _say("stopped")


def _of_recipe(path: Path, label: str) -> tuple[str, dict[str, Any]]:
    from reelwright.training.recipe_file import load_recipe

    objective = load_recipe(path, {}).objective
    uses = {**getattr(objective, "rewards", {}), **getattr(objective, "held_out", {})}
    if label not in uses:
        raise UserError(f"{path} has no reward {label!r}; it has {', '.join(uses) or 'none'}")
    return uses[label].kind or label, uses[label].parameters


def _say(line: str) -> None:
    say(printable(line))
    sys.stdout.flush()
