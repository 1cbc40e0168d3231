"""No two modules of the package import each other, by however long a way, and packages import downwards."""

from __future__ import annotations

from tests.helpers.imports import circles, imports, modules


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_no_modules_import_each_other():
    assert circles(imports(modules())) == []
