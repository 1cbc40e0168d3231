"""The graph of imports inside the package, read from the code: who names whom, wherever the import stands."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGE = ROOT / "python" / "eccos_rs"
EXTENSION = "eccos_rs._core"
"""Compiled, and at the bottom: nothing of the package is imported by it."""


def modules() -> dict[str, ast.Module]:
    """Return every module's tree by its dotted name; a package's is its `__init__`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["eccos_rs", *path.relative_to(PACKAGE).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Return for each module the modules of the package that it imports.

    An import inside a function or under `TYPE_CHECKING` counts: it ties the two files as well.
    """
    graph: dict[str, set[str]] = {name: set() for name in trees}
    for name, tree in trees.items():
        for node in ast.walk(tree):
            for target in _targets(node, trees):
                if target != name:
                    graph[name].add(target)
    return graph


def _targets(node: ast.AST, trees: dict[str, ast.Module]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names if each.name in trees)
    elif isinstance(node, ast.ImportFrom) and node.module in trees and not node.level:
        for each in node.names:
            inner = f"{node.module}.{each.name}"
            if inner != EXTENSION:
                yield inner if inner in trees else node.module


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def package_of(module: str) -> str:
    """Return the first level below `eccos_rs` that a module lies in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def arrows(graph: dict[str, set[str]], order: Iterable[str]) -> list[tuple[str, str]]:
    """Return the imports that point from a package to one above it in `order` (lowest first)."""
    level = {name: height for height, name in enumerate(order)}
    return [
        (name, target)
        for name, targets in sorted(graph.items())
        for target in sorted(targets)
        if level[package_of(target)] > level[package_of(name)]
    ]
