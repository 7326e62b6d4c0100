"""`reel sql`, `reel tables`, `reel describe`, `reel show`, `reel export`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.app import StoreOption, app, say
from pipelines.errors import UserError

FORMATS = "table, csv, json or parquet"


@app.command(epilog='Example:  reel sql "select clip_id, blur_score from clips where duration_s > 2" -s STORE')
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the tables and views; see `reel tables`.")],
    store: StoreOption,
    format: Annotated[str, typer.Option("--format", "-f", help=f"{FORMATS}; parquet wants --out.")] = "table",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default: standard output.")] = None,
) -> None:
    """Query the store with DuckDB's SQL. Read-only."""
    from curation.store import Store, write_result

    if format == "parquet" and out is None:
        raise UserError("parquet is not for a terminal; add --out FILE.parquet")
    count = write_result(Store.open(store).sql_stream(query), format, out)
    if out is not None:
        say(f"wrote {count:,} rows to {out}")


@app.command(epilog="Example:  reel tables --store STORE")
def tables(store: StoreOption) -> None:
    """List the store's tables."""
    from curation.store import Store

    for table in Store.open(store).tables():
        say(f"{table.name:15} {table.rows:>12,} rows   version {table.version:<6} {table.bytes / 1e6:>12,.1f} MB")
    say("", "columns of one:  reel describe clips", "views:           clips_full, failures_latest")


@app.command(epilog="Example:  reel describe clips --store STORE")
def describe(
    table: Annotated[str, typer.Argument(help="Table name.")],
    store: StoreOption,
) -> None:
    """Show a table's columns: type, unit, meaning, what computed them, how many values are missing."""
    from curation.store import Store

    for column in Store.open(store).describe(table):
        unit = f" [{column.unit}]" if column.unit else ""
        by = f" · by {column.computed_by}" if column.computed_by else ""
        made = f" ({', '.join(column.fingerprints)})" if column.fingerprints else ""
        nulls = f" · {column.nulls:,} missing" if column.nulls else ""
        say(f"{column.name:24} {column.type!s:12} {column.meaning}{unit}{by}{made}{nulls}")


@app.command(epilog="Example:  reel show 3f2a --store STORE --out clip.png")
def show(
    clip: Annotated[str, typer.Argument(help="Clip id, or the beginning of one.")],
    store: StoreOption,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="PNG to write; default: CLIP_ID.png.")] = None,
) -> None:
    """Write a contact sheet of one clip and print its row."""
    from curation.store import Store
    from pipelines.sheets import find_clip, show_clip

    opened = Store.open(store)
    path = out or Path(f"{find_clip(opened, clip)}.png")
    for name, value in show_clip(opened, clip, path).items():
        if value is not None:
            say(f"{name:24} {value}")
    say("", f"wrote {path}")


@app.command(epilog="Example:  reel export OUT/ --format webdataset --snapshot train-v1 --store STORE")
def export(
    place: Annotated[str, typer.Argument(metavar="OUT", help="Folder to write, or URI: s3://bucket/folder.")],
    store: StoreOption,
    format: Annotated[str, typer.Option("--format", "-f", help="See `reel export --help`.")] = "webdataset",
    sql: Annotated[str | None, typer.Option(help="A SELECT that returns clip_id.")] = None,
    snapshot: Annotated[str | None, typer.Option(help="A snapshot's name.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export there.")] = False,
) -> None:
    """Write clips and their columns for other tools.

    Formats: webdataset (tar shards), folder (Parquet + mp4 files), diffusion-pipe, musubi-tuner, diffsynth (CSV).
    """
    from curation.store import Store
    from curation.store.export import export as run_export

    done = run_export(Store.open(store), place, format, sql=sql, snapshot=snapshot, force=force)
    say(f"wrote {done.clips:,} clips, {done.bytes / 1e6:,.1f} MB, to {done.path}")
    if done.empty_captions:
        say(f"{done.empty_captions:,} of them have no caption yet; their text is empty")
