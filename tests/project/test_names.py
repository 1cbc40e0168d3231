"""A name means one thing: no two modules of the package define a class of the same name."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.helpers.imports import modules

# Name to the reason why two classes may share it.
DELIBERATE: dict[str, str] = {}


def homes(trees: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Return the modules that define each class, at whatever depth."""
    found: dict[str, list[str]] = defaultdict(list)
    for module, tree in sorted(trees.items()):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(module)
    return found


def test_a_second_home_is_found():
    trees = {name: ast.parse("class Row:\n    class Cell: ...\nclass Own" + name + ": ...") for name in "ab"}
    assert homes(trees) == {"Row": ["a", "b"], "Cell": ["a", "b"], "Owna": ["a"], "Ownb": ["b"]}


def test_no_class_is_named_twice():
    twice = {name: found for name, found in homes(modules()).items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name not in DELIBERATE} == {}
    assert sorted(DELIBERATE) == sorted(set(DELIBERATE) & set(twice)), "on the list without need"
