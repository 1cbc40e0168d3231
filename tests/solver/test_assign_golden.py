"""The golden files: a proven optimum for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eccos_rs import assign, certify
from tests.helpers import golden

if TYPE_CHECKING:
    from pathlib import Path

FILES = sorted(golden.DATA.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_golden(path: Path) -> None:
    problem, expect = golden.load(path)
    found = assign(**problem, tolerance=0.0)
    assert found.status == expect["status"], found.explanation
    assert found.deferred.tolist() == expect["deferred"]
    assert found.objective == pytest.approx(expect["objective"], rel=1e-8, abs=1e-300)
    assert found.dual_bound == pytest.approx(expect["relaxation"], rel=1e-6, abs=1e-12)
    assert certify(assignment=found, **problem, tolerance=0.0)


def test_there_are_golden_files() -> None:
    assert len(FILES) >= 20
