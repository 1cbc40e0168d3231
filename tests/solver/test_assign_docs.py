"""The examples in the docstrings of the solver's face run."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["assignment", "certificate", "tradeoff"])
def test_examples(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"eccos_rs.solver.{name}"))
    assert outcome.attempted > 0
    assert outcome.failed == 0
