"""Every example in a docstring runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import eccos_rs


def _deprecated(name: str) -> None:
    """A package under its old name warns when it is imported, which the tests take for an error."""
    assert name == "eccos_rs.online"


# These import what only an extra brings; what they need to run is tested where they are used.
MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(eccos_rs.__path__, "eccos_rs.", onerror=_deprecated)
    if not name.startswith(("eccos_rs.integrations", "eccos_rs._core", "eccos_rs.online"))
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    counts = [
        len(test.examples)
        for name in (
            "eccos_rs.domain.query",
            "eccos_rs.pools.pool",
            "eccos_rs.routing.policy",
            "eccos_rs.solver.assignment",
        )
        for test in finder.find(importlib.import_module(name))
    ]
    assert sum(counts) >= 8
