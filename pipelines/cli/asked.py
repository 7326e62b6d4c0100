"""Builds the options of the command that was asked for and of no other, which makes `reel --help` a third quicker."""

import os
import sys
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import typer


def only_asked(app: typer.Typer, arguments: Sequence[str]) -> typer.Typer:
    """Return the application with the options of one command; the others have their name and help alone.

    Args:
        app: The application, which stays as it is.
        arguments: Words after `reel`. Where the first is an option other than --help, or a shell asks for completions,
            all commands keep their options.
    """
    asked = arguments[0] if arguments else ""
    if (asked.startswith("-") and asked not in ("-h", "--help")) or "_REEL_COMPLETE" in os.environ:
        return app
    short = copy(app)
    short.registered_commands = [info if _name(info) == asked else _listed(info) for info in app.registered_commands]
    short.registered_groups = []
    for group in app.registered_groups:
        inner = copy(group)
        if group.typer_instance is not None:
            inner.typer_instance = only_asked(group.typer_instance, arguments[1:] if group.name == asked else [])
        short.registered_groups.append(inner)
    return short


def command_names(app: typer.Typer) -> set[str]:
    """Return the names of an application's commands and groups."""
    return {*map(_name, app.registered_commands), *(group.name or "" for group in app.registered_groups)}


def has_entry_points(group: str) -> bool:
    """Whether an installed package has entry points of a group.

    `importlib.metadata` answers it too, but importing it takes a sixth of the time of `reel --help`. Packages inside
    zip files are not seen.
    """
    header = f"[{group}]".encode()
    for folder in dict.fromkeys(sys.path):
        try:
            found = [entry.path for entry in os.scandir(folder or ".") if entry.name.endswith("-info")]
        except OSError:  # a path that is not there, or a zip file
            continue
        for package in found:
            try:
                with open(f"{package}/entry_points.txt", "rb") as file:
                    if header in file.read():
                        return True
            except OSError:  # most packages have none
                continue
    return False


def _name(info: Any) -> str:
    return str(info.name or info.callback.__name__.replace("_", "-"))


def _listed(info: Any) -> Any:
    """Return a command without its options."""
    short = copy(info)
    short.callback = _without_parameters(info.callback)
    return short


def _without_parameters(command: Callable[..., Any]) -> Callable[[], None]:
    def listed() -> None: ...

    listed.__name__, listed.__doc__ = command.__name__, command.__doc__
    return listed
