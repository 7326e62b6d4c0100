"""Refuses a URI where a command takes a path of this machine: it would become a local folder named `s3:`."""

import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.models import ArgumentInfo, OptionInfo

FOLDERS = ("out", "resume_from")  # said as texts, since a job carries them to another machine


def refuse_uris(app: typer.Typer) -> None:
    """Refuse URIs in every command of `app`, also of others. A parameter that takes both, like a store, is a text."""
    for callback in _callbacks(app):
        for name, parameter in inspect.signature(callback).parameters.items():
            kinds = typing.get_args(parameter.annotation)
            for option in (one for one in kinds if isinstance(one, ArgumentInfo | OptionInfo)):
                if Path in (kinds[0], *typing.get_args(kinds[0])):
                    option.parser = path
                elif name in FOLDERS:
                    option.parser = text


def path(value: str | Path) -> Path:
    """Return a path of this machine; refuse a URI."""
    return Path(text(value))


def text(value: Any) -> str:
    """Return a path of this machine as text; refuse a URI."""
    if "://" in str(value):
        raise typer.BadParameter(
            f"{value} is a URI, and here a path of this machine is meant; write to a local folder and copy it. URIs "
            "are taken as inputs, as --store, and by `reel export` in formats that name no local path."
        )
    return str(value)


def _callbacks(app: typer.Typer) -> Iterator[Any]:
    yield from (one.callback for one in app.registered_commands)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _callbacks(group.typer_instance)
