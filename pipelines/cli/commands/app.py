"""`reel app`."""

from typing import Annotated

import typer

from reelwright.pipelines.cli.app import StoreOption, app, say


@app.command("app", epilog="Example:  reel app --store STORE")
def serve_app(
    store: StoreOption,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines ask.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 8_470,
    token: Annotated[str, typer.Option(help="Token of the address, the same each time; default: a new one.")] = "",
) -> None:
    """Look at the clips in a browser: filter, play, decide, and save what is shown as a snapshot."""
    from reelwright.curation.store import Store
    from reelwright.pipelines.serving.packages import refuse_without_packages

    opened = Store.open(store)
    refuse_without_packages("reel app")
    from reelwright.pipelines.app.routes import make_app
    from reelwright.pipelines.serving.run import for_anybody, serve

    serve(make_app(opened), host=host, port=port, holders=for_anybody(token), say=say)
