"""The shape of the code in figures: `python -m benchmarks.structure`. Reads the sources alone; takes two seconds.

Prints `name value` lines and, below each value that is not 0, its cases. Imports inside functions and for types count.
`circles` are groups of files that import one another, `arrows_up` imports against the order of packages, `room_arrows`
pairs of rooms of `pipelines` where one imports the other, `parameters` functions of more than 7, commands apart.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
ORDER = {"curation": 1, "kernels": 1, "annotate": 2, "model": 2, "training": 3, "evaluation": 4, "pipelines": 5}
LINES, PARAMETERS, FILE_LINES = 60, 7, 400
SAME_NAMES = ("train.py", "run.py", "errors.py", "balance.py")


def main() -> None:
    trees = {_module(path): (path, ast.parse(path.read_text("utf-8"))) for path in _files()}
    imports = {name: set(_imports(tree, name, path, trees)) for name, (path, tree) in trees.items()}
    rooms = {(a.split(".")[1], b.split(".")[1]) for a in imports for b in imports[a] if _rooms_differ(a, b)}
    up = [f"{a} → {b}" for a in imports for b in imports[a] if _goes_up(a, b)]
    functions = [(path, node) for path, tree in trees.values() for node in ast.walk(tree) if isinstance(node, FUNCTION)]
    long = [f"{path}: {f.name}" for path, f in functions if (f.end_lineno or 0) - f.lineno >= LINES]
    many = [
        f"{path}: {f.name} has {n}"
        for path, f in functions
        if (n := _parameters(f)) > PARAMETERS and not _is_command(path)
    ]
    named = Counter(path.name for path in _files())
    _show("circles", [", ".join(circle) for circle in _circles(imports)])
    _show("arrows_up", up)
    _show("room_arrows", sorted(f"{a} → {b}" for a, b in rooms))
    _show("flat_in_pipelines", [path.name for path in (ROOT / "pipelines").glob("*.py")])
    _show("long_functions", long)
    _show("parameters", many)
    _show("long_files", [f"{path}" for path in _files() if len(path.read_text("utf-8").splitlines()) > FILE_LINES])
    for name in SAME_NAMES:
        print(f"structure.files_called_{name} {named[name]}")


FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def _show(name: str, cases: list[str]) -> None:
    print(f"structure.{name} {len(cases)}")
    for case in cases:
        print(f"    {case.removeprefix(f'{ROOT}/')}")


def _files() -> list[Path]:
    return sorted(path for package in ORDER for path in (ROOT / package).rglob("*.py"))


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(tree: ast.Module, name: str, path: Path, known: Mapping[str, object]) -> Iterator[str]:
    """Yield the files of the packages that a file imports."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (above, node.module)))
            wanted = [full if _own(full := f"{base}.{alias.name}") in known else base for alias in node.names]
        else:
            continue
        yield from {_own(module) for module in wanted} & known.keys() - {name}


def _own(module: str) -> str:
    return module.removeprefix("reelwright.")


def _goes_up(a: str, b: str) -> bool:
    here, there = (name.partition(".")[0] for name in (a, b))
    return here != there and ORDER[there] >= ORDER[here]


def _rooms_differ(a: str, b: str) -> bool:
    here, there = a.split("."), b.split(".")
    inside = here[0] == there[0] == "pipelines" and len(here) > 2 and len(there) > 2
    return inside and here[1] != there[1]


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def _is_command(path: Path) -> bool:
    return path.parent == ROOT / "pipelines" / "cli" / "commands"


def _circles(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """Return groups of files that reach one another."""
    reach = {name: _reached(name, imports) for name in imports}
    groups = {frozenset(b for b in reach[a] if a in reach[b]) for a in imports if a in reach[a]}
    return [sorted(group) for group in groups]


def _reached(start: str, imports: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    queue = [start]
    while queue:
        for name in imports[queue.pop()] - seen:
            seen.add(name)
            queue.append(name)
    return seen


if __name__ == "__main__":
    main()
