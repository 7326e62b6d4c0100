"""A reward model's own instruction text: not ours to copy, so it is read from its publisher's file and checked."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from reelwright.errors import first_line
from reelwright.training.errors import TrainError

FIELD = "{text_prompt}"


@dataclass(frozen=True)
class Published:
    """The text that a model was trained with.

    sha256: of it in UTF-8. constants: of the publisher's Python file, which it is put together from. module: that file
    inside its package. found: where to get it, for messages.
    """

    sha256: str
    constants: tuple[str, ...]
    module: str
    found: str


def read_instruction(instruction: str, sha256: str, published: Published) -> str:
    """Return the text, with one `{text_prompt}` where the prompt goes.

    Args:
        instruction: a text file with it, the publisher's Python file, or the name of an installed package that has that
            file. Python files are parsed and never run.
        sha256: that it must have.
        published: the publisher's own.

    Raises:
        TrainError: it is not there, or another text.
    """
    text = _text(instruction, published)
    if (own := text_sha256(text)) != sha256:
        raise TrainError(
            f"instruction = {instruction!r} has the SHA-256 {own}, and {sha256} was expected: another text gives other "
            f"scores. Name the publisher's ({published.found}), or set instruction_sha256 to {own} if this one is meant"
        )
    if text.count(FIELD) != 1:
        raise TrainError(f"instruction = {instruction!r} has {text.count(FIELD)} fields {FIELD}; it must have one")
    return text


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _text(instruction: str, published: Published) -> str:
    if not instruction:
        raise TrainError(f"instruction is empty; set it to the file with the model's instruction: {published.found}")
    path = Path(instruction).expanduser()
    if not path.is_file():
        path = _in_package(instruction, published)
    try:
        text = path.read_bytes().decode()
        return _joined(text, published.constants) if path.suffix == ".py" else text
    except (OSError, ValueError, SyntaxError) as error:
        raise TrainError(f"instruction: {path} cannot be read ({first_line(error)})") from error
    except KeyError as error:
        raise TrainError(
            f"instruction: {path} has no constant {error}; name the publisher's file: {published.found}"
        ) from error


def _in_package(package: str, published: Published) -> Path:
    """Return the publisher's file of a package; the package is not imported."""
    spec = find_spec(package) if package.isidentifier() else None
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder, published.module)).is_file():
            return path
    raise TrainError(
        f"instruction = {package!r} is neither a file nor an installed package with {published.module}; "
        f"set it to the file with the model's instruction: {published.found}"
    )


def _joined(source: str, names: tuple[str, ...]) -> str:
    """Join constants of a Python source. Raises KeyError with the name of one that it lacks."""
    constants = {
        target.id: node.value.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return "".join(constants[name] for name in names)
