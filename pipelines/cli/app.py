"""The `reel` application: what all commands share, and how errors look."""

import atexit
import io
import os
import sys
from typing import Annotated, NoReturn

import typer

from reelwright.errors import ReelError
from reelwright.pipelines.environment import prepare

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
        from reelwright.pipelines.versions import versions

        found = versions()
        say(f"reelwright {found.pop('reelwright')}", *(f"  {name} {version}" for name, version in found.items()))
        raise typer.Exit


@app.callback()
def reel(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_versions, help="Show the versions of what computes."),
    ] = False,
) -> None:
    """Options that come before a command."""


def main() -> None:
    """Entry point of the `reel` command. Exit codes: 0 fine, 1 an error, 2 wrong usage, 3 the run finished but some
    files failed and --strict was given, 4 a limit on cost was reached, 130 stopped by Ctrl-C, 143 by SIGTERM."""
    prepare()
    os.environ.setdefault("LANCE_LOG", "error")  # building an index warns of what is fine
    for stream in (sys.stdout, sys.stderr):  # a log that is followed shows a step when it is done, not 8 KiB later
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    import reelwright.pipelines.cli.annotate
    import reelwright.pipelines.cli.balance
    import reelwright.pipelines.cli.checkpoint
    import reelwright.pipelines.cli.cleanup
    import reelwright.pipelines.cli.curate
    import reelwright.pipelines.cli.export
    import reelwright.pipelines.cli.generate
    import reelwright.pipelines.cli.lineage
    import reelwright.pipelines.cli.precompute
    import reelwright.pipelines.cli.query
    import reelwright.pipelines.cli.recipe
    import reelwright.pipelines.cli.search
    import reelwright.pipelines.cli.snapshots
    import reelwright.pipelines.cli.submit
    import reelwright.pipelines.cli.train  # noqa: F401 - each adds its commands
    from reelwright.pipelines import interrupts
    from reelwright.pipelines.cli.local_paths import refuse_uris

    refuse_uris(app)
    try:
        with interrupts.noted():
            app()
    except SystemExit as stop:  # Typer makes Ctrl-C this
        if stop.code == 130 and (words := interrupts.sentence()):
            print(f"\n{words}", file=sys.stderr)
            _end(interrupts.exit_code())
        raise
    except BrokenPipeError:  # `reel sql … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except ReelError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _end(code: int) -> NoReturn:
    """End an interrupted process. Exit functions run, so Ray ends its own; the interpreter is not taken down beneath
    threads of libraries that still compute (seen: SIGSEGV after the last word, once in eight interrupts)."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def say(*lines: str) -> None:
    """Print for a person."""
    print(*lines, sep="\n")


def printable(text: str) -> str:
    """Text of a file or its name on one line: what could drive a terminal is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
