"""Notebooks of the examples run from the first cell to the last, and are committed without outputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def test_there_is_one() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_outputs_are_committed(path: Path) -> None:
    for cell in cells(path, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.timeout(600)
def test_train_and_evaluate_ends_in_a_verdict_and_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="training needs torch (the extra `train`)")
    path = ROOT / "examples" / "train_and_evaluate.ipynb"
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    for number, cell in enumerate(cells(path, "code"), start=1):
        exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), space)
    printed = capsys.readouterr().out
    assert printed.count("verdict: ") == 2
    assert (tmp_path / "report" / "report.html").is_file()
    easy, hard = space["plan"]
    assert (easy.model, hard.model) == ("small", "large")
