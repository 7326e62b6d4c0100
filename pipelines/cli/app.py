"""The `reel` application, and the options and prints that its commands share."""

from typing import Annotated

import typer

app = typer.Typer(
    name="reel",
    help="From raw footage to a trained video model: curate, query, freeze.",
    epilog="First run:  reel curate FOOTAGE/ --store STORE   then   "
    "reel sql 'select clip_id, duration_s, blur_score from clips' --store STORE",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

StoreOption = Annotated[
    str, typer.Option("--store", "-s", envvar="REEL_STORE", help="Store folder or URI.", show_envvar=True)
]


def _show_versions(wanted: bool) -> None:
    if wanted:
        from reelwright.versions import versions

        found = versions()
        say(f"reelwright {found.pop('reelwright')}", *(f"  {name} {version}" for name, version in found.items()))
        raise typer.Exit


@app.callback()
def reel(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_versions, help="Show version and exit."),
    ] = False,
) -> None:
    """From raw footage to a trained video model."""


def say(*lines: str) -> None:
    """Print for a person."""
    print(*lines, sep="\n")


def printable(text: str) -> str:
    """Write the text of a file, or its name, on one line.

    Characters that could drive a terminal are escaped, as are bytes of a name that are not UTF-8.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # how Python keeps such a byte
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode()
