"""Recipes of any kind: a YAML file, `--set` over it, and one sentence about the first thing that is wrong."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from reelwright.errors import ReelError, first_line

Recipe = TypeVar("Recipe", bound=BaseModel)
COMMENT_AT = 48  # the column that descriptions begin at, where lines before them are no longer


class RecipeError(ReelError, ValueError):
    """A recipe that cannot be run: one sentence with what to do."""


def load(
    kind: type[Recipe],
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    example: str = "inputs: [footage/]",
    see: str = "",
) -> Recipe:
    """Read a YAML recipe of a kind (no path: its defaults) and set `overrides` ("clips.max_s": 10) over it.

    example: a first line, for the error about a file that is no mapping. see: where all settings are to be seen, for
    the error about an unknown one; without it, those of its section are named. Raises RecipeError.
    """
    data = _read(path, example) if path else {}
    for key, value in (overrides or {}).items():
        _set(data, key.split("."), value)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise RecipeError(_explain(error, kind, str(path) if path else "the recipe", see)) from error


def parse_overrides(pairs: Sequence[str], *, example: str = "clips.max_s=10") -> dict[str, Any]:
    """`clips.max_s=10` → {"clips.max_s": 10}; values are YAML, and nothing is the empty text. Raises RecipeError."""
    out = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set {pair!r} is not KEY=VALUE, for example --set {example}")
        try:
            out[key] = yaml.safe_load(value) if value else ""
        except yaml.YAMLError as error:
            raise RecipeError(f"--set {pair!r}: the value is not YAML ({first_line(error)})") from error
    return out


def spelt_out(recipe: BaseModel) -> str:
    """Return the recipe as YAML with every default written down, and each setting's description after it."""
    lines = list(_lines(recipe, ""))
    width = min(COMMENT_AT, max(len(line) for line, _ in lines))
    return "\n".join(f"{line:{width}}  # {comment}" if comment else line for line, comment in lines)


def _lines(part: BaseModel, indent: str) -> Iterator[tuple[str, str]]:
    """Yield (line, its description)."""
    data = part.model_dump(mode="json")
    for name, field in type(part).model_fields.items():
        value, comment = getattr(part, name), field.description or _choices(field)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:", comment or _first_line(value)
            yield from _lines(value, f"{indent}  ")
            continue
        if value is None and (inner := _section(field)):
            comment = f"{comment or 'off'}; a section with {', '.join(inner.model_fields)}"
        yield f"{indent}{name}: {_flow(data[name])}", comment


def _choices(field: FieldInfo) -> str:
    """List the words that a setting takes, if it takes words."""
    words = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return f"one of {', '.join(map(str, words))}" if words else ""


def _flow(value: Any) -> str:
    """Write a value of YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
    return text.strip().removesuffix("...").strip()


def _first_line(part: BaseModel) -> str:
    comment = type(part).__doc__ or ""
    return comment.strip().splitlines()[0] if comment and comment != BaseModel.__doc__ else ""


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """Return the class of a section that may be left out."""
    kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _read(path: Path, example: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not a readable YAML recipe ({first_line(error)})") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{path} is not a recipe: it must be a mapping such as '{example}'")
    return data


def _set(data: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        if data.get(key) is None:
            data[key] = {}
        data = data[key]
        if not isinstance(data, dict):
            raise RecipeError(f"'{'.'.join(keys)}' cannot be set: '{key}' is a single value")
    data[keys[-1]] = value


def _explain(error: ValidationError, kind: type[BaseModel], where: str, see: str) -> str:
    """Explain the first mistake, as a sentence."""
    first = error.errors()[0]
    place = ".".join(str(p) for p in first["loc"]) or "recipe"
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        hint = see or _settings(kind, first["loc"][:-1])
        return f"{where}: '{place}' is not a setting; {hint}{more}"
    if first["input"] is None and first["type"] != "missing":
        return f"{where}: '{place}' is null (empty), but it has no such value; leave it out for its default{more}"
    return f"{where}: '{place}': {first['msg'].lower()}, got {first['input']!r}{more}"


def _settings(kind: type[BaseModel], section: tuple[int | str, ...]) -> str:
    """List the names that a section takes."""
    for name in section:
        found = kind.model_fields.get(str(name))
        kinds = [found.annotation, *getattr(found.annotation, "__args__", ())] if found else []
        kind = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), kind)
        if found and isinstance(found.default, kind):  # a section of several kinds has more settings than its base
            kind = type(found.default)
    return f"settings there are {', '.join(kind.model_fields)}"
