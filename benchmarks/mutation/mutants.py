"""Small changes of a module's code, each of which should make a test fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}  # fmt: skip
_PAIRS = (
    ("min", "max"), ("minimum", "maximum"), ("argmin", "argmax"), ("amin", "amax"), ("any", "all"), ("floor", "ceil"),
    ("zeros", "ones"), ("zeros_like", "ones_like"), ("floor", "round"),
)  # fmt: skip
CALLED = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
_UNTOUCHED = ("annotation", "returns", "decorator_list")
"""Fields of nodes that decide no number."""


@dataclass(frozen=True)
class Mutant:
    """A changed module. line: of the change; before, after: source of the expression that changed."""

    line: int
    before: str
    after: str
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every small change of a module, in the order of its nodes.

    Args:
        source: of the module.

    Yields:
        One change of a comparison, an operator, a constant, a condition, or a function that has an opposite. Messages
        of errors, docstrings and types stay as they are.
    """
    for place, node in enumerate(_deciding(ast.parse(source))):
        for variant in range(_variants(node)):
            tree = ast.parse(source)
            changed = _deciding(tree)[place]
            before = ast.unparse(changed)
            _change(changed, variant)
            yield Mutant(getattr(changed, "lineno", 0), before, ast.unparse(changed), tree)


def _deciding(node: ast.AST) -> list[ast.AST]:
    """Return the nodes that decide what is computed, parents first."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom) or _for_types(node):
        return []
    found = [node]
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in _UNTOUCHED:
                found += _deciding(child)
    return found


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _variants(node: ast.AST) -> int:
    """Count the ways in which a node is changed."""
    match node:
        case ast.Compare():
            return len(node.ops)
        case ast.BinOp() | ast.AugAssign():
            sides = [getattr(node, name, None) for name in ("left", "right", "value")]
            texts = any(isinstance(s, ast.JoinedStr) or isinstance(getattr(s, "value", 0), str) for s in sides)
            return int(type(node.op) in COMPUTED and not texts)
        case ast.BoolOp():
            return 1
        case ast.UnaryOp():
            return int(isinstance(node.op, ast.Not | ast.USub))
        case ast.Constant():
            return int(isinstance(node.value, int | float))
        case ast.Call():
            return int(_called(node) in CALLED)
        case ast.If() | ast.IfExp():
            return int(isinstance(node.test, ast.Name | ast.Attribute | ast.Call))
    return 0


def _change(node: ast.AST, variant: int) -> None:
    match node:
        case ast.Compare():
            node.ops[variant] = COMPARED[type(node.ops[variant])]()
        case ast.BinOp() | ast.AugAssign():
            node.op = COMPUTED[type(node.op)]()
        case ast.BoolOp():
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.UnaryOp():
            node.op = ast.UAdd() if isinstance(node.op, ast.USub) else node.op
            if isinstance(node.op, ast.Not):  # twice not
                node.operand = ast.copy_location(ast.UnaryOp(ast.Not(), node.operand), node)
        case ast.Constant(value=bool(value)):
            node.value = not value
        case ast.Constant(value=int(value)):
            node.value = value + 1
        case ast.Constant(value=float(value)):
            node.value = 2 * value or 1.0
        case ast.Call(func=ast.Name() as name):
            name.id = CALLED[name.id]
        case ast.Call(func=ast.Attribute() as name):
            name.attr = CALLED[name.attr]
        case ast.If() | ast.IfExp():
            node.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
    ast.fix_missing_locations(node)


def _called(node: ast.Call) -> str:
    return getattr(node.func, "id", "") or getattr(node.func, "attr", "")
