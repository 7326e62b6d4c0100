"""`reel sql`, `reel tables`, `reel describe`, `reel show`."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from reelwright.errors import UserError
from reelwright.pipelines.cli.app import StoreOption, app, say

FORMATS = "table, csv, json, jsonl or parquet"
FEW_NUMBERS = 12  # a list with more is a vector, of which `reel show` prints the beginning
BEGINNING = 4


class _TakesComments(TyperCommand):
    """A query may begin with a comment, which looks like an option: `-- wide ones` and a line end."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f"\n{a}" if re.match(r"--\s|--[^=\n]*\n", a) else a for a in args])


@app.command(
    cls=_TakesComments,
    epilog='Example:  reel sql "select clip_id, blur_score from clips where duration_s > 2" -s STORE',
)
def sql(
    store: StoreOption,
    query: Annotated[str, typer.Argument(help="One SELECT over the tables and views; - reads standard input.")] = "",
    file: Annotated[Path | None, typer.Option("--file", help="Read the query from this file.")] = None,
    format: Annotated[str, typer.Option("--format", "-f", help=f"{FORMATS}; parquet wants --out.")] = "table",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default: standard output.")] = None,
    width: Annotated[int, typer.Option(min=4, help="Characters per cell of a table.")] = 60,
    full: Annotated[bool, typer.Option("--full", help="Show whole cells in a table.")] = False,
) -> None:
    """Query the store with DuckDB's SQL. Read-only. `reel tables` lists the tables."""
    from reelwright.curation.store import Store, write_result

    text = _query(query, file)
    if format == "parquet" and out is None:
        raise UserError("parquet is not for a terminal; add --out FILE.parquet")
    count = write_result(Store.open(store).sql_stream(text), format, out, width=None if full else width)
    if out is not None:
        say(f"wrote {count:,} rows to {out}")


def _query(given: str, file: Path | None) -> str:
    """Return the query's text, from the argument, the file or standard input; raise UserError."""
    if file is None and not given:
        raise UserError('no query was given; write one: reel sql "select count(*) from clips", or name --file FILE.sql')
    if file is not None and given:
        raise UserError(f"there are two queries, the one in {file} and the one in words; leave one out")
    if file is None and given != "-":
        return given
    try:
        return sys.stdin.read() if file is None else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read as text ({error})"
        raise UserError(f"{file or 'standard input'} {why}; name a file with one SELECT in it") from error


@app.command(epilog="Example:  reel tables --store STORE")
def tables(store: StoreOption) -> None:
    """List the store's tables."""
    from reelwright.curation.store import Store

    for table in Store.open(store).tables():
        say(f"{table.name:15} {table.rows:>12,} rows   version {table.version:<6} {table.bytes / 1e6:>12,.1f} MB")
    say("", "columns of one:  reel describe clips", "views:           clips_full, failures_latest")


@app.command(epilog="Example:  reel describe clips --store STORE")
def describe(
    table: Annotated[str, typer.Argument(help="Name of a table or view.")],
    store: StoreOption,
) -> None:
    """Show a table's columns: type, unit, meaning, origin, and the number of missing values."""
    from reelwright.curation.store import Store
    from reelwright.curation.store.sql_views import SOURCE_COLUMNS, UNDER_VIEW

    opened = Store.open(store)
    columns = opened.describe(UNDER_VIEW.get(table, table))
    if table == "clips_full":
        columns += [column for column in opened.describe("sources") if column.name in SOURCE_COLUMNS]
    for column in columns:
        unit = f" [{column.unit}]" if column.unit else ""
        by = f" · by {column.computed_by}" if column.computed_by else ""
        made = f" ({', '.join(column.fingerprints)})" if column.fingerprints else ""
        nulls = f" · {column.nulls:,} missing" if column.nulls else ""
        say(f"{column.name:24} {column.type!s:12} {column.meaning}{unit}{by}{made}{nulls}")


@app.command(epilog="Example:  reel show 3f2a --store STORE --out clip.png --video clip.mp4")
def show(
    clip: Annotated[str, typer.Argument(help="Clip id, or the beginning of one.")],
    store: StoreOption,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="PNG to write; default: CLIP_ID.png.")] = None,
    video: Annotated[
        Path | None, typer.Option("--video", help="Write the clip itself to this .mp4; a PNG then only with --out.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Print vectors whole, and fingerprints.")] = False,
) -> None:
    """Write a contact sheet of one clip, or its video, and print its row."""
    from reelwright.curation.store import Store
    from reelwright.pipelines.browse.sheets import clip_row, find_clip, write_clip, write_sheet

    if video is not None and video.suffix.lower() != ".mp4":
        raise UserError(f"--video {video}: clips are mp4; name a file ending in .mp4")
    opened = Store.open(store)
    clip_id = find_clip(opened, clip)
    picture = out or (None if video else Path(f"{clip_id}.png"))
    # before anything is printed: a reader that closes the pipe (`reel show … | head`) ends the command
    wrote = [write_clip(opened, clip_id, video)] if video else []
    wrote += [write_sheet(opened, clip_id, picture)] if picture else []
    row = {name: value for name, value in clip_row(opened, clip_id).items() if value is not None}
    hidden = [] if full else [name for name in row if name.endswith("_fingerprint")]
    row = {name: value for name, value in row.items() if name not in hidden}
    say(*(f"{name:{max(map(len, row))}}  {_shown(value, full)}" for name, value in row.items()))
    if hidden:
        say(f"and {len(hidden)} fingerprints; --full prints them")
    say("", *(f"wrote {path}" for path in wrote))


def _shown(value: Any, full: bool) -> str:
    """Write a value on one line; of a vector its beginning, unless `full`."""
    from reelwright.curation.store.results import shown

    is_vector = isinstance(value, list) and len(value) > FEW_NUMBERS and isinstance(value[0], (int, float))
    if is_vector and not full:
        begins = ", ".join(f"{number:.3g}" for number in value[:BEGINNING])
        return f"[{begins}, … {len(value)} numbers; --full prints them]"
    return shown(value, None)
