"""Options of a command in groups: frozen dataclasses whose fields are options, shown under headings in the help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cached_property
from typing import Annotated, Any, TypeVar, dataclass_transform, get_args, get_type_hints

from typer.core import TyperCommand
from typer.models import OptionInfo

C = TypeVar("C")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def option_group(group: type[C]) -> type[C]:
    """Make a class a group of options: a frozen dataclass by keyword.

    Groups are never compared or printed. Without the methods for it, 19 groups take half the time in `reel --help`.
    """
    return dataclass(frozen=True, kw_only=True, eq=False, repr=False)(group)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take groups of options.

    A parameter annotated with a dataclass stands for the dataclass's fields, each annotated as an option of Typer. The
    class attribute `heading` is the group's heading in the help; register the command with `cls=GroupedCommand`.
    """
    return _Grouped(command)


class _Grouped:
    """A command with groups. Its options are worked out when they are first asked for, not while `reel` loads."""

    def __init__(self, command: Callable[..., None]) -> None:
        self.command = command
        self.__name__, self.__doc__, self.__module__ = command.__name__, command.__doc__, command.__module__

    def __call__(self, **given: Any) -> None:
        made = {name: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for name, kind in self._groups.items()}
        self.command(**given, **made)

    @cached_property
    def __signature__(self) -> inspect.Signature:
        parameters: list[inspect.Parameter] = []
        for parameter in self._own.values():
            if is_dataclass(parameter.annotation):
                parameters += _options(parameter.annotation)
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        return inspect.Signature(parameters)

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {parameter.name: parameter.annotation for parameter in self.__signature__.parameters.values()}

    @cached_property
    def _own(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.command, eval_str=True).parameters

    @cached_property
    def _groups(self) -> dict[str, Any]:
        return {name: p.annotation for name, p in self._own.items() if is_dataclass(p.annotation)}


class GroupedCommand(TyperCommand):
    """A command whose help shows options without a group first, then group by group."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments first, then options under the headings of their groups."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                own = "Arguments" if parameter.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or own, []).append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def _options(group: Any) -> list[inspect.Parameter]:
    """Return the fields of a group as parameters, with its heading."""
    hints = get_type_hints(group, include_extras=True)
    parameters = []
    for field in fields(group):
        kind, *notes = get_args(hints[field.name])
        [option] = [copy(note) for note in notes if isinstance(note, OptionInfo)]
        option.rich_help_panel = group.heading
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        parameters.append(
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
            )
        )
    return parameters
