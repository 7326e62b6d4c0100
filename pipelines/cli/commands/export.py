"""`reel export`."""

from typing import TYPE_CHECKING, Annotated

import typer

from reelwright.pipelines.cli.app import StoreOption, app, printable, say

if TYPE_CHECKING:
    from reelwright.curation.store.export import ExportResult


def _show_formats(wanted: bool) -> None:
    if wanted:
        from reelwright.curation.store.export import FORMATS

        say(*(f"{one.name:16} {one.description}" for one in FORMATS.values()))
        raise typer.Exit


@app.command(epilog="Example:  reel export OUT/ --format webdataset --snapshot train-v1 --store STORE")
def export(
    target: Annotated[str, typer.Argument(metavar="OUT", help="Folder to write, or URI: s3://bucket/folder.")],
    store: StoreOption,
    format: Annotated[str, typer.Option("--format", "-f", help="One of `reel export --formats`.")] = "webdataset",
    sql: Annotated[str | None, typer.Option(help="A SELECT that returns clip_id.")] = None,
    snapshot: Annotated[str | None, typer.Option(help="A snapshot's name.")] = None,
    caption_column: Annotated[
        str | None,
        typer.Option(help="Column of clips with captions; where it is empty, caption, then the manifest's."),
    ] = None,
    caption_kinds: Annotated[
        str | None, typer.Option(help="Kinds of the column captions to take, best first: summary,caption,source …")
    ] = None,
    max_frames: Annotated[
        int, typer.Option(min=5, help="Frames of the longest length in a trainer's settings: 81, 93, 121 …")
    ] = 81,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export there.")] = False,
    formats: Annotated[
        bool, typer.Option("--formats", is_eager=True, callback=_show_formats, help="List the formats.")
    ] = False,
) -> None:
    """Write clips and their captions for other tools: as WebDataset, for a trainer, or as a plain folder.

    A clip's caption is its own (column caption), else the manifest's, for its span or its file; one composed from
    measurements only where --caption-column or --caption-kinds asks for it.
    """
    from reelwright.curation.store import Store
    from reelwright.curation.store.captions import CAPTION, LIST_COLUMN, Wanted
    from reelwright.curation.store.export import ExportOptions
    from reelwright.curation.store.export import export as run_export

    kinds = tuple(kind.strip() for kind in (caption_kinds or "").split(",") if kind.strip())
    wanted = Wanted(caption_column or (LIST_COLUMN if kinds else CAPTION), kinds)
    done = run_export(
        Store.open(store), target, format,
        sql=sql, snapshot=snapshot, force=force, options=ExportOptions(wanted, max_frames),
    )  # fmt: skip
    say(*summary(done, wanted.kinds))


def summary(done: "ExportResult", kinds: tuple[str, ...] = ()) -> list[str]:
    """Return counts that add up, how the trainer will treat the clips, and its options to set."""
    from reelwright.curation.store.export import FORMATS

    lines = [f"wrote {done.clips:,} clips, {done.bytes / 1e6:,.1f} MB, to {done.path}"]
    lines.append(f"captions: {_kinds(done.caption_kinds)}{done.empty_captions:,} empty")
    several = sum(done.variant_kinds.values()) > sum(done.caption_kinds.values())
    if several and FORMATS[done.format].takes_all:
        lines.append(f"all captions of a clip: {_kinds(done.variant_kinds).removesuffix(', ')}")
    elif several:
        lines.append("some clips have several captions; this format takes the best of each")
    if missing := [kind for kind in kinds if kind not in done.variant_kinds]:
        lines.append(f"no clip has a caption of kind {', '.join(map(printable, missing))}")
    if done.empty_captions:
        lines.append("docs/captioning.md makes captions; --caption-column and --caption-kinds take others")
    lines += done.notes
    if (use := FORMATS[done.format].use) and "://" not in str(done.path):
        lines.append(f"use: {use.format(out=done.path)}")
    return lines


def _kinds(counts: dict[str, int]) -> str:
    return "".join(f"{count:,} of kind {printable(kind)}, " for kind, count in counts.items())
