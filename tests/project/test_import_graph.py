"""No two modules of the package import each other, by however long a way, and packages import downwards."""

from __future__ import annotations

from tests.helpers.imports import arrows, circles, imports, modules, package_of

# From the ground up; the root only looks public names up. A new package gets its place here and in
# ARCHITECTURE.md.
LAYERS = (
    *("errors", "domain", "catalogue", "pools", "dialects", "records", "predict", "solver"),
    *("routing", "session", "online", "train", "evaluate", "bulk", "start", "whatif"),
    *("integrations", "serve", "cli", "__main__"),
)


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_no_modules_import_each_other():
    assert circles(imports(modules())) == []


def test_packages_import_downwards():
    graph = {name: set(filter(package_of, to)) for name, to in imports(modules()).items() if package_of(name)}
    assert arrows(graph, LAYERS) == []
