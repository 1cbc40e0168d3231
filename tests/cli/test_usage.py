"""Exit status 2 whenever the command line is at fault, and output in any encoding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from eccos_rs.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

RECORD = {
    "query": "a",
    "dataset": "d",
    "input_tokens": 3,
    "outputs": [{"model": "m", "quality": 1, "output_tokens": 3, "cost_usd": 0.1}],
}
BAD = [
    "",
    "nope",
    "route",
    "route q.txt --min-quality 2",
    "route q.txt --min-quality x",
    "route q.txt --budget -1",
    "route q.txt --budget 1 --min-quality .5",
    "route q.txt --confidence 2",
    "route q.txt --device foo",
    "route q.txt --predictor foo",
    "route q.txt --capacity gpt-4o",
    "route q.txt --format foo",
    "bench --batch 0",
    "bench --device foo",
    "train r.jsonl",
    "train r.jsonl --out new --epochs 0",
    "train r.jsonl --out new --head foo",
    "train r.jsonl --out new --holdout 2",
    "evaluate r.jsonl --train-fraction 3",
    "evaluate r.jsonl --method foo",
    "import r.jsonl -o o.jsonl --output-tokens -1",
    "collect r.jsonl -o o.jsonl",
    "serve --min-quality 2",
    "serve --port 99999",
    "replay r.jsonl --faults foo",
    "replay r.jsonl --speed -1",
    "distil",
    "distil q.txt -o d --epochs 0",
]


@pytest.mark.parametrize("line", BAD)
def test_a_usage_error_has_status_2(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if line.startswith(("train", "distil")):
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.txt").write_text("What is 2+2?\n")
    (tmp_path / "r.jsonl").write_text(json.dumps(RECORD) + "\n")
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"q.txt", "r.jsonl"}


@pytest.mark.parametrize(
    "line", ["route gone.txt", "route latin.txt", "info gone", "train gone.jsonl --out new"]
)
def test_a_file_that_cannot_be_read_is_a_failure(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_text_is_printed_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = "naïve 漢字 😀 – ½"
    (tmp_path / "q.txt").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}

    def run(*arguments: str) -> str:
        called = [sys.executable, "-m", "eccos_rs", "route", "q.txt", "--min-quality", "0.6", *arguments]
        done = subprocess.run(called, cwd=tmp_path, env=environment, capture_output=True, check=True)
        return done.stdout.decode(encoding)

    assert json.loads(run("--format", "jsonl"))["query"] == text
    assert "gemini" in run()
