"""`reel app`."""

from pathlib import Path
from typing import Annotated

import typer

from reelwright.errors import UserError
from reelwright.pipelines.cli.app import StoreOption, app, say
from reelwright.pipelines.cli.rating_options import secret_of


@app.command("app", epilog="Example:  reel app --store STORE")
def serve_app(
    store: StoreOption,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines ask.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 8_470,
    token: Annotated[str, typer.Option(help="Token of the address, the same each time; default: a new one.")] = "",
    runs: Annotated[
        list[Path] | None, typer.Option(help="Folder of a training run, or of several; repeatable.")
    ] = None,
    allow_commands: Annotated[
        bool, typer.Option("--allow-commands", help="Let the page start reel commands here; loopback only.")
    ] = False,
    work: Annotated[Path, typer.Option(help="Folder in which those run, and in which their paths lie.")] = Path(),
    job_server: Annotated[str, typer.Option(help="Job server of a Ray cluster, for commands as jobs.")] = "",
    key_env: Annotated[
        str, typer.Option(help="Environment variable with the secret of raters' links, which then stay the same.")
    ] = "",
) -> None:
    """Look at the clips in a browser: filter, play, decide, and save what is shown as a snapshot."""
    from reelwright.curation.store import Store
    from reelwright.pipelines.runtime.serving.packages import refuse_without_packages

    opened = Store.open(store)
    refuse_without_packages("reel app")
    from reelwright.pipelines.app.routes import make_app
    from reelwright.pipelines.app.work.rater_links import RaterLinks
    from reelwright.pipelines.app.work.routes import Options
    from reelwright.pipelines.runtime.serving.guard import LOOPBACK
    from reelwright.pipelines.runtime.serving.run import for_anybody, serve

    if allow_commands and host not in LOOPBACK:
        raise UserError("--allow-commands is for this machine alone; leave --host out, and come by: ssh -L")
    links = RaterLinks(secret_of(key_env))
    pages = make_app(opened, Options(runs or [], allow_commands, work, job_server, links))
    if host not in LOOPBACK and opened.count("studies"):
        say("links that open a rating page and nothing else are on the page Rate")
    serve(pages, host=host, port=port, holders=for_anybody(token), say=say, guests=links.guest)
