"""Which tests prove which operations: read from the tests' sources, so nothing needs to be run or imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple


class Proof(NamedTuple):
    """A test that says it proves an operation.

    Attributes:
        file: its file, from the root of the repository.
        test: its name; that of its class before it, where there is one.
    """

    file: str
    test: str


def proofs(root: Path) -> dict[str, list[Proof]]:
    """Path of an operation → the tests marked ``@pytest.mark.operation(path, …)``, in the order of their files.

    Args:
        root: the repository.

    Raises:
        ValueError: a marker whose arguments cannot be read; they must be texts, or constants of the same file.
    """
    found: dict[str, list[Proof]] = {}
    for file in sorted((root / "tests").rglob("test_*.py")):
        where = file.relative_to(root).as_posix()
        tree = ast.parse(file.read_text("utf-8"))
        texts = dict(_constants(tree))
        for test, marker in _marked(tree):
            for path in _paths(marker, texts, f"{where}:{marker.lineno}"):
                found.setdefault(path, []).append(Proof(where, test))
    return found


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The module's names for texts: ``A = "…"`` and ``A, B = "…", "…"``."""
    for statement in tree.body:
        if not isinstance(statement, ast.Assign):
            continue
        target, value = statement.targets[0], statement.value
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        values = value.elts if isinstance(value, ast.Tuple) and isinstance(target, ast.Tuple) else [value]
        for name, each in zip(names, values, strict=False):
            if isinstance(name, ast.Name) and isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield name.id, each.value


def _marked(tree: ast.AST, within: str = "") -> Iterator[tuple[str, ast.Call]]:
    """Each test with each of its markers."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        name = f"{within}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from _marked(node, f"{name}.")
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.operation":
                yield name, decorator


def _paths(marker: ast.Call, texts: Mapping[str, str], where: str) -> Iterator[str]:
    for argument in marker.args:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value
        elif isinstance(argument, ast.Name) and argument.id in texts:
            yield texts[argument.id]
        else:
            raise ValueError(f"{where}: operation({ast.unparse(argument)}) must name paths as texts or constants")
