"""Entry point of the `reel` command: finds the commands, and turns errors and signals into sentences and exit codes."""

import atexit
import importlib
import io
import os
import pkgutil
import sys
from collections.abc import Sequence
from typing import NoReturn

from reelwright import interrupts
from reelwright.errors import ReelError
from reelwright.pipelines.cli import commands
from reelwright.pipelines.cli.app import app
from reelwright.pipelines.cli.asked import command_names, has_entry_points, only_asked
from reelwright.pipelines.cli.local_paths import refuse_uris
from reelwright.pipelines.runtime.environment import set_process_defaults

ENTRY_POINTS = "reelwright.commands"


def load_commands(arguments: Sequence[str] = ()) -> None:
    """Import the modules that register commands with `app`: ours, and other packages' where one of theirs is asked for.

    Args:
        arguments: Words after `reel`. Other packages are searched only if the first names none of our commands.
    """
    for module in pkgutil.iter_modules(commands.__path__):
        importlib.import_module(f"{commands.__name__}.{module.name}")
    named = bool(arguments) and arguments[0] in command_names(app)
    if not named and has_entry_points(ENTRY_POINTS):
        from importlib.metadata import entry_points

        for command in entry_points(group=ENTRY_POINTS):
            command.load()


def main() -> None:
    """Run the `reel` command.

    Exit codes: 0 fine, 1 an error, 2 wrong usage, 3 the run finished but some files failed and --strict was given, 4 a
    limit on cost was reached, 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    set_process_defaults()
    os.environ.setdefault("LANCE_LOG", "error")  # building an index warns of harmless things
    for stream in (sys.stdout, sys.stderr):  # a log that is followed shows a step when it is done, not 8 KiB later
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    load_commands(sys.argv[1:])
    asked = only_asked(app, sys.argv[1:])
    refuse_uris(asked)
    try:
        with interrupts.catch_sigint():
            asked()
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
    """End an interrupted process.

    Exit functions run, so Ray ends its own; the interpreter is not taken down beneath threads of libraries that still
    compute (seen: SIGSEGV after the last word, once in eight interrupts).
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
